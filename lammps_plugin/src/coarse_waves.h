// The waves of charges on a coarse mesh, roughly: what finds charges in equilibrium fast. It decides how fast
// they are found, not which.

#ifndef NNPKIT_COARSE_WAVES_H
#define NNPKIT_COARSE_WAVES_H

#include "fourier.h"
#include "lattice_waves.h"

#include <memory>

namespace nnpkit {

// To a few percent what `LatticeWaves` gives of Gaussians of the width `splitting`, for a tenth of the work.
class CoarseWaves {
 public:
  static constexpr int ORDER = 4;  // of the splines

  CoarseWaves(double splitting, MPI_Comm world) : eta(splitting), world(world) {}
  void set(const ChargedAtoms &atoms);
  // Adds the potential at local atoms that charges (n_all) of all ranks make, up to a constant.
  void add(const std::vector<double> &charges, std::vector<double> &result);

 private:
  double eta;
  MPI_Comm world;
  ChargedAtoms atoms;
  std::array<double, 9> cell{};  // of the weights
  std::array<int, 3> n{};
  size_t row = 0;  // points of a row, of which the last ORDER are its first ones again
  std::unique_ptr<MeshFourier> fourier;
  std::vector<double> weights, splines, points;  // splines: (centers, 3, ORDER)
  std::vector<int> places;                       // (centers, 3)
  MeshFourier::Spectrum spectrum;

  void set_places(const Lattice &lattice);
  void set_weights(const Lattice &lattice);
};

}  // namespace nnpkit

#endif
