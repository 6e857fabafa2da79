// Forces of every member of a committee, and how far the members are apart. Definitions: docs/uncertainty.md.

#ifndef NNPKIT_COMMITTEE_H
#define NNPKIT_COMMITTEE_H

#include "aligned.h"
#include "collective.h"

#include <mpi.h>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nnpkit {

// Rows of numbers, one per member; a single potential is a committee of one.
class Committee {
 public:
  // Zeros for `n_all` atoms, local and ghost, of `n_members`.
  void begin(int n_members, int n_all);
  int n_members() const { return members; }
  double *force(int atom) { return &forces[static_cast<size_t>(atom) * 3 * members]; }  // (3, n_members)

  // The forces that somebody else has added up, laid out as here.
  void take(const double *of_all);
  // Those of a committee of one as the row of one member.
  void take(int member, const Committee &one);

  // The edges of one centre, whose gradients have one row per member: F_centre += g, F_neighbor -= g.
  void add(int center, int64_t n_edges, const int *neighbor, const double *gradient);

  // Mean over the members of the force on an atom.
  void mean_force(int atom, double *f) const;

  // Ghosts to their owners: what pack_reverse_comm and unpack_reverse_comm of a pair style do.
  int pack(int n, int first, double *buffer) const;
  void unpack(int n, const int *list, const double *buffer);

  // Once the forces are complete: the spread of the atoms in `centers`, and this rank's part of the totals.
  void measure(const std::vector<int> &centers, int n_local, Totals &totals);
  // Per local atom: sqrt(mean over the members of |F_m - mean F|^2); 0 for atoms that are not of the model.
  const double *spread() const { return spreads.data(); }
  // With totals over all ranks: the smallest spread that `percent` % of the atoms do not exceed.
  double percentile(double percent, const std::vector<int> &centers, const Totals &totals,
                    MPI_Comm world) const;
  // Standard deviation of the members' energies per atom.
  static double energy_std(const Totals &totals);

  double memory_usage() const;  // bytes

 private:
  int members = 1;
  AlignedVector<double> forces;  // (n_all, 3, n_members)
  std::vector<double> spreads;
};

// Standard deviation of `n` numbers.
double deviation(const double *values, int n);

// Sum over edges of r (x) g, g the mean over `n_rows` rows: xx yy zz xy xz yz yx zx zy.
void sum_outer_products(int64_t n_edges, const double *r, const double *gradient, int n_rows, double *w);

}  // namespace nnpkit

#endif
