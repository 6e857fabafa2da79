// Slabs, periodic in two directions, as crystals with a vacuum across which images do not act.
// Formulas: docs/theory/charges.md; nnpkit/models/slab_electrostatics.py is the same in Python.

#ifndef NNPKIT_SLAB_WAVES_H
#define NNPKIT_SLAB_WAVES_H

#include "lattice_waves.h"

namespace nnpkit {

// The cell of a slab: its own two vectors, and one normal to them that is as long as the accuracy asks for.
class Vacuum {
 public:
  // `open` is the direction without images; `widest` the largest width of a charge, `reach` that of pairs,
  // angstrom.
  Vacuum(int open, double widest, double reach, double accuracy, MPI_Comm world);
  // Of all atoms of all ranks. It stays as long as it is wide enough and not much wider, so that what belongs
  // to it is not made anew in every step.
  const std::array<double, 9> &cell_of(const ChargedAtoms &atoms);

 private:
  int open;
  double widest, reach, accuracy;
  MPI_Comm world;
  double height = 0.0;
  std::array<double, 9> cell{};
};

// Waves of a crystal in the cell of `Vacuum`, less what is uniform along the images of the slab; widths of
// the charges of each element, angstrom.
std::unique_ptr<LatticeWaves> slab_waves(std::unique_ptr<LatticeWaves> crystal, int open,
                                         const std::vector<double> &widths, MPI_Comm world);

}  // namespace nnpkit

#endif
