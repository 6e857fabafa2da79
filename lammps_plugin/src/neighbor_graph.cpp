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
  size_t most = 0;
  for (int ii = first; ii < last; ii++) most += list.numneigh[list.ilist[ii]];
  reserve(static_cast<size_t>(last - first), most);

  const double cutoff_squared = cutoff * cutoff;
  double closest = closest_squared;
  double *vec = edge_vec.data();
  atoms = edges = 0;
  offsets[0] = 0;
  for (int ii = first; ii < last; ii++) {
    const int i = list.ilist[ii];
    if (element[type[i]] < 0) continue;
    const int *const jlist = list.firstneigh[i];
    const int n = list.numneigh[i];
    const double xi = x[i][0], yi = x[i][1], zi = x[i][2];
    for (int jj = 0; jj < n; jj++) {
      const int j = jlist[jj] & NEIGHMASK;
      const double dx = x[j][0] - xi, dy = x[j][1] - yi, dz = x[j][2] - zi;
      const double squared = dx * dx + dy * dy + dz * dz;
      const int species = element[type[j]];
      if (squared > cutoff_squared || species < 0) continue;
      closest = squared < closest ? squared : closest;
      vec[0] = dx;
      vec[1] = dy;
      vec[2] = dz;
      vec += 3;
      neighbor_type[edges] = species;
      neighbor[edges++] = j;
    }
    center[atoms] = i;
    types[atoms++] = element[type[i]];
    offsets[atoms] = edges;
  }
  closest_squared = closest;
}

void NeighborGraph::reserve(size_t n_centers, size_t most_edges) {
  if (center.size() < n_centers || offsets.empty()) {
    center.resize(n_centers);
    types.resize(n_centers);
    offsets.resize(n_centers + 1);
  }
  if (neighbor.size() < most_edges) {
    const size_t size = most_edges + most_edges / 8;
    neighbor.resize(size);
    neighbor_type.resize(size);
    edge_vec.resize(3 * size);
  }
}

}  // namespace nnpkit
