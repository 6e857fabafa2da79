// Neighbour lists of a rank in one piece, for kernels that take all its atoms at once.

#ifndef NNPKIT_RANK_LISTS_H
#define NNPKIT_RANK_LISTS_H

#include <cstdint>
#include <vector>

namespace LAMMPS_NS {
class NeighList;
}

namespace nnpkit {

class RankLists {
 public:
  std::vector<int> types;        // per atom, ghosts included: element of the model, negative for NULL
  std::vector<int> centers;      // local atoms that have one
  std::vector<int64_t> offsets;  // per centre, plus one
  std::vector<int> neighbors;    // of all centres
  bool current = false;          // LAMMPS has built no other lists since

  // Follows LAMMPS' lists and atom types; true if anything has changed. element: as in NeighborGraph.
  bool update(const LAMMPS_NS::NeighList &list, const int *type, int n_all, const std::vector<int> &element);
  double memory_usage() const;  // bytes
};

}  // namespace nnpkit

#endif
