// Neighbours in a cell that may be periodic, triclinic, and smaller than the cutoff.

#ifndef NNPKIT_CELL_LIST_H
#define NNPKIT_CELL_LIST_H

#include <cstdint>
#include <vector>

namespace nnpkit {

// A full list; neighbours of atom i are offsets[i] .. offsets[i + 1] - 1.
struct CellList {
  std::vector<int64_t> offsets, neighbors;
  std::vector<double> shifts;  // (pairs, 3) lattice vectors to be added to the neighbour's position
};

// cell: three vectors, one after the other; those that are not periodic are not looked at. Work and memory
// grow with the number of pairs. Throws std::invalid_argument if the cell makes no sense.
CellList find_neighbors(int64_t n_atoms, const double *positions, const double *cell, const int *periodic,
                        double cutoff);

}  // namespace nnpkit

#endif
