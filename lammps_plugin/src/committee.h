// Forces of every member of a committee, and how far the members are apart. Definitions: docs/uncertainty.md.

#ifndef NNPKIT_COMMITTEE_H
#define NNPKIT_COMMITTEE_H

#include <mpi.h>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nnpkit {

// Of all atoms of the model on all ranks.
struct Disagreement {
  double force_max = 0.0, force_mean = 0.0, force_percentile = 0.0;
  double energy = 0.0;         // per atom
  double largest_force = 0.0;  // of the mean, on an atom
  int64_t n_atoms = 0;
};

// Rows of numbers, one per member; a single potential is a committee of one.
class Committee {
 public:
  // Zeros for `n_all` atoms, local and ghost, of `n_members`.
  void begin(int n_members, int n_all);
  int n_members() const { return members; }
  double *force(int atom) { return &forces[static_cast<size_t>(atom) * 3 * members]; }  // (3, n_members)
  double *energy() { return energies.data(); }  // (n_members), of this rank

  // Mean over the members of the force on an atom.
  void mean_force(int atom, double *f) const;

  // Ghosts to their owners: what pack_reverse_comm and unpack_reverse_comm of a pair style do.
  int pack(int n, int first, double *buffer) const;
  void unpack(int n, const int *list, const double *buffer);

  // Once the forces are complete: spread() of the atoms in `centers`, and everything over all ranks.
  Disagreement reduce(const std::vector<int> &centers, int n_local, double percentile, MPI_Comm world);
  // Per local atom: sqrt(mean over the members of |F_m - mean F|^2); 0 for atoms that are not of the model.
  double *spread() { return spreads.data(); }

  double memory_usage() const;  // bytes

 private:
  int members = 1;
  std::vector<double> forces;  // (n_all, 3, n_members)
  std::vector<double> energies;
  std::vector<double> spreads;
};

}  // namespace nnpkit

#endif
