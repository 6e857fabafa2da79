// The part of an electrostatic sum over a crystal that is made of waves: exact, or on a mesh.
// Formulas: docs/theory/charges.md.

#ifndef NNPKIT_LATTICE_WAVES_H
#define NNPKIT_LATTICE_WAVES_H

#include <mpi.h>
#include <array>
#include <cstddef>
#include <memory>
#include <vector>

namespace nnpkit {

constexpr double COULOMB = 14.399645478;  // eV angstrom / e^2, as in nnpkit/models/short_range.py
constexpr double PI = 3.14159265358979323846;

// The atoms of this rank, angstrom. Those that are not of the model have no charge and are no centres.
struct ChargedAtoms {
  int n_local = 0, n_all = 0;
  const double *positions = nullptr;          // (n_all, 3)
  const std::vector<int> *centers = nullptr;  // local atoms of the model
  const std::vector<int> *species = nullptr;  // (n_all) index of the element, negative: not of the model
  std::array<double, 9> cell{};               // rows; of no meaning in a cluster
};

struct Lattice {
  std::array<double, 9> reciprocal{};  // rows, 2 pi included
  std::array<double, 3> lengths{};     // of the vectors of the cell
  double volume = 0.0;

  explicit Lattice(const std::array<double, 9> &cell);
};

// What a unit charge at an atom has of all waves, itself included.
struct WaveSums {
  double value, slope[3], stretch[6];  // V; V/angstrom; by strain: xx yy zz xy xz yz, the volume fixed
};

class LatticeWaves {
 public:
  virtual ~LatticeWaves() = default;
  virtual void set(const ChargedAtoms &atoms) = 0;
  // What charges (n_all) of all ranks make, in a form of its own; for `stretches` where these are wanted.
  virtual void field(const std::vector<double> &charges, bool stretches, std::vector<double> &made) = 0;
  // Of the atom of this number among the centres.
  virtual WaveSums at(size_t atom, const std::vector<double> &field, bool slopes, bool stretches) const = 0;
};

// Charges are spread by Gaussians of the width `splitting` (angstrom); waves are summed up to the length
// `longest` (1/angstrom), or on a mesh whose errors are of the given relative size.
std::unique_ptr<LatticeWaves> exact_waves(double splitting, double longest, MPI_Comm world);
std::unique_ptr<LatticeWaves> mesh_waves(double splitting, double accuracy, MPI_Comm world);

// Points along the axes of a cell.
std::array<int, 3> mesh_sizes(const std::array<double, 9> &cell, double splitting, double accuracy);

}  // namespace nnpkit

#endif
