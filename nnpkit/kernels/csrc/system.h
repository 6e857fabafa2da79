// All atoms of an MPI rank at once, for kernels that make forces and virial of edge gradients themselves. The
// LAMMPS plugin includes this too.

#ifndef NNPKIT_SYSTEM_H
#define NNPKIT_SYSTEM_H

#include <cstdint>

namespace nnpkit {

// Atoms 0 .. n_all - 1 are local, then ghosts. Neighbours are those of a list with a skin.
struct System {
  int n_all;
  const double *positions;  // (n_all, 3) angstrom
  const int *types;         // (n_all): element of the model; negative: not seen by it
  int n_centers;            // atoms that have an energy: none of a negative type
  const int *centers;       // (n_centers)
  const int64_t *offsets;   // (n_centers + 1)
  const int *neighbors;     // (offsets[n_centers])
  bool new_lists;           // any of these but the positions has changed since the last call
  bool per_center;          // energies and virials of the centres are wanted
  int chunk;                // centres at a time, which bounds the memory; 0: chosen
};

// eV, angstrom. The pointers hold until the next call.
struct SystemResults {
  double energy = 0.0;
  double virial[9] = {};            // xx yy zz xy xz yz yx zx zy of W = - sum r (x) dE/dr
  double closest_squared = 0.0;     // angstrom^2: of all pairs in the lists, infinity if there is none
  const double *forces = nullptr;   // (n_all, 3), of ghosts too
  const double *centers = nullptr;  // (n_centers, 11): energy, virial as above, closest_squared; if wanted
};

}  // namespace nnpkit

#endif
