#include "rank_lists.h"

#include "lmptype.h"
#include "neigh_list.h"

using namespace LAMMPS_NS;

namespace nnpkit {

bool RankLists::update(const NeighList &list, const int *type, int n_all, const std::vector<int> &element) {
  bool changed = !current || types.size() != static_cast<size_t>(n_all);
  types.resize(n_all);
  for (int i = 0; i < n_all; i++) {
    const int species = element[type[i]];
    changed = changed || types[i] != species;
    types[i] = species;
  }
  if (!changed) return false;
  centers.clear();
  neighbors.clear();
  offsets.assign(1, 0);
  for (int ii = 0; ii < list.inum; ii++) {
    const int i = list.ilist[ii];
    if (types[i] < 0) continue;
    const int *const of_i = list.firstneigh[i];
    for (int jj = 0; jj < list.numneigh[i]; jj++) neighbors.push_back(of_i[jj] & NEIGHMASK);
    centers.push_back(i);
    offsets.push_back(static_cast<int64_t>(neighbors.size()));
  }
  current = true;
  return true;
}

double RankLists::memory_usage() const {
  return sizeof(int) * static_cast<double>(types.capacity() + centers.capacity() + neighbors.capacity()) +
         sizeof(int64_t) * static_cast<double>(offsets.capacity());
}

}  // namespace nnpkit
