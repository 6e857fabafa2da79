#include "neighbor_graph.h"

#include "lmptype.h"
#include "neigh_list.h"

using namespace LAMMPS_NS;

namespace nnpkit {

namespace {
template <typename T>
double bytes(const std::vector<T> &buffer) {
  return static_cast<double>(buffer.capacity()) * sizeof(T);
}
}  // namespace

double NeighborGraph::memory_usage() const {
  return bytes(edge_vec) + bytes(neighbor_type) + bytes(offsets) + bytes(types) + bytes(center) +
         bytes(neighbor);
}

void NeighborGraph::build(const NeighList &list, const double *const *x, const int *type,
                          const std::vector<int> &element, double cutoff, int first, int last) {
  edge_vec.clear();
  neighbor_type.clear();
  offsets.assign(1, 0);
  types.clear();
  center.clear();
  neighbor.clear();

  const double cutoff_squared = cutoff * cutoff;
  for (int ii = first; ii < last; ii++) {
    const int i = list.ilist[ii];
    if (element[type[i]] < 0) continue;
    const int *const jlist = list.firstneigh[i];
    for (int jj = 0; jj < list.numneigh[i]; jj++) {
      const int j = jlist[jj] & NEIGHMASK;
      if (element[type[j]] < 0) continue;
      const double dx = x[j][0] - x[i][0];
      const double dy = x[j][1] - x[i][1];
      const double dz = x[j][2] - x[i][2];
      if (dx * dx + dy * dy + dz * dz > cutoff_squared) continue;
      edge_vec.insert(edge_vec.end(), {dx, dy, dz});
      neighbor_type.push_back(element[type[j]]);
      neighbor.push_back(j);
    }
    center.push_back(i);
    types.push_back(element[type[i]]);
    offsets.push_back(n_edges());
  }
}

}  // namespace nnpkit
