// The longest waves of charges in a crystal, one by one: what makes conjugate gradients slow in large boxes.
// A wave counts as the square of its length, so that a box twice as long has waves that are four times as
// stiff, and twice as many steps are needed. It decides how fast charges are found, not which.

#ifndef NNPKIT_LONG_WAVES_H
#define NNPKIT_LONG_WAVES_H

#include "aligned.h"
#include "lattice_waves.h"

#include <mpi.h>
#include <array>
#include <vector>

namespace nnpkit {

class LongWaves {
 public:
  LongWaves(double splitting, MPI_Comm world) : eta(splitting), world(world) {}
  // `diagonal` (n_all) of what is to be solved, positive.
  void set(const ChargedAtoms &atoms, const std::vector<double> &diagonal);
  // Of local atoms: what the diagonal and these waves together make `right` of.
  void solve(const std::vector<double> &right, std::vector<double> &result);

 private:
  double eta;
  MPI_Comm world;
  ChargedAtoms atoms;
  std::vector<double> softness;           // (centers): one over the diagonal
  std::vector<std::array<int, 3>> waves;  // one of k and -k
  std::vector<double> stiffness;          // of each
  size_t width = 0;                  // of a row: cosines and sines of all waves, and zeros up to an eight
  AlignedVector<double> rows;        // (centers, width)
  std::vector<double> factor, sums;  // Cholesky's of (width, width); (width)

  void choose(double total_softness);
  void set_rows();
  void set_factor();
};

}  // namespace nnpkit

#endif
