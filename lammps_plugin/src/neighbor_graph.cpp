#include "neighbor_graph.h"

#include "lmptype.h"
#include "neigh_list.h"

#include <cstddef>

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
  reserve(static_cast<size_t>(last - first), most + 1);

  const double cutoff_squared = cutoff * cutoff;
  double closest = closest_squared;
  double *const vec = edge_vec.data();
  int64_t *const species_of = neighbor_type.data();
  int *const index_of = neighbor.data();
  const int *const model_index = element.data();
  atoms = edges = 0;
  offsets[0] = 0;
  for (int ii = first; ii < last; ii++) {
    const int i = list.ilist[ii];
    if (element[type[i]] < 0) continue;
    const int *const jlist = list.firstneigh[i];
    const int n = list.numneigh[i];
    const double *const all = x[0];  // LAMMPS keeps positions in one piece
    const double *const xi = all + 3 * static_cast<ptrdiff_t>(i);
    const double center_x = xi[0], center_y = xi[1], center_z = xi[2];
    // Every pair is written and the next one overwrites it if it is too long: one in three is, which no
    // processor can predict.
    int64_t at = edges;
    for (int jj = 0; jj < n; jj++) {
      const int j = jlist[jj] & NEIGHMASK;
      const double *const xj = all + 3 * static_cast<ptrdiff_t>(j);
      const double dx = xj[0] - center_x, dy = xj[1] - center_y, dz = xj[2] - center_z;
      const double squared = dx * dx + dy * dy + dz * dz;
      const int species = model_index[type[j]];
      vec[3 * at] = dx;
      vec[3 * at + 1] = dy;
      vec[3 * at + 2] = dz;
      species_of[at] = species;
      index_of[at] = j;
      const bool seen = (squared <= cutoff_squared) & (species >= 0);
      const double distance = species >= 0 ? squared : closest;
      closest = distance < closest ? distance : closest;
      at += seen;
    }
    edges = at;
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
