// Energy, forces and response of the charges of atoms: Ewald's sum over all ranks, or all pairs of a cluster.
// Formulas: docs/theory/charges.md.

#ifndef NNPKIT_ELECTROSTATICS_H
#define NNPKIT_ELECTROSTATICS_H

#include "coarse_waves.h"
#include "lattice_waves.h"
#include "long_waves.h"
#include "model.h"
#include "slab_waves.h"

#include <mpi.h>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

class NeighborGraph;

// What a sum adds to, eV and angstrom; null pointers are left alone.
struct ChargeSums {
  double *forces = nullptr;        // (n_all, 3)
  double *virial = nullptr;        // 6: xx yy zz xy xz yz, -dE/dstrain
  double *atom_virials = nullptr;  // (n_all, 6), likewise
};

// erf(r / (sqrt(2) width)) / r and its derivative over r, from a table; 1 / r for width 0.
class ChargeCloud {
 public:
  explicit ChargeCloud(double width);
  void at(double r, double &value, double &slope) const;

 private:
  double step = 1.0, end = 0.0;              // angstrom; beyond the end it is a point
  std::vector<std::array<double, 3>> nodes;  // value, first and second derivative
};

class Electrostatics {
 public:
  using ToGhosts = std::function<void(std::vector<double> &)>;  // rows of one number from owners to ghosts

  // `splitting` (angstrom) is that of Ewald's sum, 0 for a cluster; its waves are summed one by one or on a
  // mesh. `open` is the direction in which a slab is not periodic, negative for a crystal.
  Electrostatics(const ChargeInfo &info, double accuracy, double splitting, bool on_mesh, int open,
                 MPI_Comm world);

  // Relative to the charges' own scale, what is left out decides how far pairs have to be seen.
  static double steps(double accuracy);

  // Pairs within the reach, every one from both sides, in periodic boundaries; in a cluster they are found
  // here. The vector of the cell along which a slab is not periodic may be anything.
  void set(const ChargedAtoms &atoms, const NeighborGraph &near);

  // Vectors are (n_all), of local atoms and ghosts.
  // Potential at the local atoms of the model that charges make, V.
  void potential(const std::vector<double> &charges, bool screened, std::vector<double> &result);
  // Adds the forces, -d/dx of 1/2 q^T A q with what screening leaves of A, and the virials; and gives A q.
  void add_forces(const std::vector<double> &charges, const ChargeSums &sums, std::vector<double> &result);
  // Adds d/dx of u^T A q without screening; the charges are those of the last call of add_forces.
  void add_response(const std::vector<double> &u, const std::vector<double> &charges, const ChargeSums &sums);
  // Fourth generation: vectors of the given sum that make J v = right, up to a constant, found from `start`
  // on, which may be empty. Throws std::runtime_error if there is none. Adds how often J was multiplied.
  std::vector<double> solve(const std::vector<double> &right, double total, const std::vector<double> &start,
                            const ToGhosts &to_ghosts, int64_t &products);

  // How often the coarse mesh was multiplied with a vector to prepare solutions, since it was made.
  int64_t rough_products() const { return roughly; }

  double sum(const std::vector<double> &values) const;  // over the atoms of the model on all ranks
  double count() const { return n_atoms; }
  void remove_mean(std::vector<double> &values, double total) const;

 private:
  ChargeInfo info;
  double eta, accuracy;
  MPI_Comm world;
  ChargedAtoms atoms;
  double n_atoms = 0.0;

  // pairs: rows of atoms, vectors from the first to the second, what unit charges have, and its slope over r
  struct Pair {
    int first, second;
    double x, y, z, slope;
  };
  struct Screened {  // what screening takes from one of the pairs
    size_t pair;
    double away, away_slope;
  };
  std::vector<ChargeCloud> clouds;  // of each pair of elements, and that of the sum at the end
  std::vector<Screened> screened_pairs;
  std::vector<Pair> pairs;
  // what is needed of them to multiply with a vector, row by row
  struct Row {
    int atom;
    size_t end;
  };
  std::vector<Row> rows;
  std::vector<double> bare;
  std::vector<int> partners;
  // the same of the pairs that are strong enough to matter where a few percent are enough
  std::vector<Row> strong_rows;
  std::vector<double> strong;
  std::vector<int> strong_partners;
  std::vector<double> diagonal;         // (n_all) of what is minimised, where charges are in equilibrium
  std::unique_ptr<CoarseWaves> coarse;  // null for a cluster, as the next
  std::unique_ptr<LongWaves> longest;
  int64_t roughly = 0;
  std::vector<int> counts, starts;  // of a cluster: atoms of each rank, and where they begin among all
  int own_start = 0;
  std::vector<double> gather(const std::vector<double> &values) const;  // of all atoms of a cluster

  double volume = 0.0;
  std::unique_ptr<Vacuum> vacuum;             // of a slab, else null
  std::unique_ptr<LatticeWaves> waves;        // null for a cluster
  std::vector<double> of_charges, of_others;  // what they have made of vectors

  void set_diagonal();
  void prepare(const std::vector<double> &residual, double enough, const ToGhosts &to_ghosts,
               std::vector<double> &result);
  double product(const std::vector<double> &a, const std::vector<double> &b) const;
  void add_pair(int first, int second, int species_first, int species_second, double x, double y, double z);
  void add_forces_of_pairs(const std::vector<double> &u, const std::vector<double> &v, double factor,
                           bool screened, const ChargeSums &sums) const;
  void add_forces_of_waves(const std::vector<double> &u, const std::vector<double> &v, double factor,
                           const std::vector<double> &of_u, const std::vector<double> &of_v,
                           const ChargeSums &sums, std::vector<double> *result);
  void add_pairs(const std::vector<double> &charges, bool screened, std::vector<double> &result) const;
  void add_strong_pairs(const std::vector<double> &charges, std::vector<double> &result) const;
  double around(int atom, const std::array<double, 2> &total) const;
  double self() const;
  std::array<double, 2> moments(
      const std::vector<double> &values) const;  // sums of v and of v s^2, all ranks
};

}  // namespace nnpkit

#endif
