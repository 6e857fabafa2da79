// Energy, forces and response of the charges of atoms: Ewald's sum over all ranks, or all pairs of a cluster.
// Formulas: docs/theory/charges.md.

#ifndef NNPKIT_ELECTROSTATICS_H
#define NNPKIT_ELECTROSTATICS_H

#include "model.h"

#include <mpi.h>
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace nnpkit {

class NeighborGraph;

// The atoms of this rank, angstrom. Those that are not of the model have no charge and are no centres of
// `near`.
struct ChargedAtoms {
  int n_local = 0, n_all = 0;
  const double *positions = nullptr;          // (n_all, 3)
  const std::vector<int> *centers = nullptr;  // local atoms of the model
  const std::vector<int> *species = nullptr;  // (n_all) index of the element, negative: not of the model
  std::array<double, 9> cell{};               // rows; of no meaning in a cluster
};

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

  // `splitting` (angstrom) is that of Ewald's sum, 0 for a cluster.
  Electrostatics(const ChargeInfo &info, double accuracy, double splitting, MPI_Comm world);

  // Relative to the charges' own scale, what is left out decides how far pairs have to be seen.
  static double steps(double accuracy);
  size_t n_waves() const { return waves; }

  // Pairs within the reach, every one from both sides, in periodic boundaries; in a cluster they are found
  // here.
  void set(const ChargedAtoms &atoms, const NeighborGraph &near);

  // Potential (n_all; local atoms of the model) that charges (n_all, ghosts too) make, V.
  void potential(const std::vector<double> &charges, bool screened, std::vector<double> &result);
  // Adds the forces, -d/dx of factor * u^T A v, with the virials, for vectors (n_all) over local atoms and
  // ghosts.
  void add_forces(const std::vector<double> &u, const std::vector<double> &v, double factor, bool screened,
                  const ChargeSums &sums);
  // Fourth generation: vectors of the given sum that make J v = right, up to a constant. Throws
  // std::runtime_error if there is none.
  std::vector<double> solve(const std::vector<double> &right, double total, const ToGhosts &to_ghosts);

  double sum(const std::vector<double> &values) const;  // over the atoms of the model on all ranks
  double count() const { return n_atoms; }
  void remove_mean(std::vector<double> &values, double total) const;

 private:
  struct Row {  // waves (a, b, first ...) in reciprocal lattice vectors, in eights, the last filled up with
                // weight 0
    int a, b, first;
    size_t begin, eights;
  };
  struct Table {  // e^(i n phi) of an atom: axes a and b from n = 0 on, c from the smallest n on
    const double *a, *b, *real, *imaginary;
  };
  struct WaveSums {  // of one atom over all waves
    double value, slope[3], stretch[6];
  };

  ChargeInfo info;
  double eta, longest;  // longest wave vector, 1/angstrom
  MPI_Comm world;
  ChargedAtoms atoms;
  double n_atoms = 0.0;

  // pairs: rows of atoms, vectors from the first to the second, what unit charges have, and its slope over r
  struct Pair {
    int first, second;
    double x, y, z, bare, bare_slope;
  };
  struct Screened {  // what screening takes from one of the pairs
    size_t pair;
    double away, away_slope;
  };
  std::vector<ChargeCloud> clouds;  // of each pair of elements, and that of the sum at the end
  std::vector<Screened> screened_pairs;
  std::vector<Pair> pairs;
  std::vector<int> counts, starts;  // of a cluster: atoms of each rank, and where they begin among all
  int own_start = 0;
  std::vector<double> gather(const std::vector<double> &values) const;  // of all atoms of a cluster

  double volume = 0.0;
  std::array<double, 9> reciprocal{};  // rows, 2 pi included
  std::vector<Row> rows;
  size_t waves = 0;
  std::vector<double> weight, stretch, kx, ky, kz;
  std::array<int, 3> most{};
  std::vector<double> phases;  // of the atoms in centers: cosines and sines of each axis

  void set_waves();
  void set_phases();
  void add_pair(int first, int second, int species_first, int species_second, double x, double y, double z);
  Table table_of(size_t atom) const;
  size_t table_size() const;
  // Cosines, then sines, times the weight of each wave where that is asked for.
  std::vector<double> structure_factor(const std::vector<double> &values) const;
  WaveSums sums_of(size_t atom, const std::vector<double> &factor, bool slopes, bool stretches) const;
  double self() const;
  std::array<double, 2> moments(
      const std::vector<double> &values) const;  // sums of v and of v s^2, all ranks
};

}  // namespace nnpkit

#endif
