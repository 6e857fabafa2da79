// The edges of one atom, sorted into the slots that the stages read, and the memory for all that follows.

#ifndef NNPKIT_CLUSTER_NEIGHBORHOOD_H
#define NNPKIT_CLUSTER_NEIGHBORHOOD_H

#include "acsf_memory.h"
#include "cluster_model.h"

#include <algorithm>
#include <climits>
#include <stdexcept>
#include <vector>

namespace nnpkit {
namespace cluster {

template <typename T>
class Neighborhood {
 public:
  Workspace<T> ws{};

  // Room for what does not depend on neighbours.
  void prepare(const Expansion<T> &expansion, int vector_width);
  void make_room_for(const Expansion<T> &expansion,
                     const Center<T> &center);  // one of those that will be needed
  // Sorts the edges of atom i that are shorter than the longer cutoff into slots.
  void gather(const Expansion<T> &expansion, const Edges &edges, int64_t i);
  void clear_moment_gradients();
  // Adds the gradient of every slot to gradient[3 * edge ..]; rows are the innermost index, this is one of
  // them.
  void add_gradient(double *gradient, int n_rows, int row) const;

 private:
  int width = 1;
  double inner = 0.0, outer = 0.0;  // squares of the cutoffs
  bool radial_is_longer = true;
  int64_t n_radial_moments = 0, n_moments = 0, most_functions = 0;
  acsf::Buffer<T> sums, channel, channel_gradient, invariants, derivatives, slots;
  std::vector<int> counts;
  std::vector<int64_t> slot_edge;
  // edges by type, within both cutoffs or between them
  int capacity = 0;             // of a group
  std::vector<int> group_size;  // (types, 2), and of those that are too long
  std::vector<T> sorted;        // (groups, 3, capacity)
  std::vector<int64_t> sorted_edge;

  void sort_edges(const double *vec, const int64_t *types, int n, int n_types);
  void make_room(const Expansion<T> &expansion, int n_slots);
};

template <typename T>
void Neighborhood<T>::prepare(const Expansion<T> &expansion, int vector_width) {
  width = vector_width;
  const double radial = static_cast<double>(expansion.radial.cutoff),
               angular = static_cast<double>(expansion.angular.cutoff);
  radial_is_longer = radial >= angular;
  inner = std::min(radial, angular) * std::min(radial, angular);
  outer = std::max(radial, angular) * std::max(radial, angular);
  const int64_t n_types = expansion.n_types;
  counts.resize(3 * n_types);
  ws.begin = counts.data();
  ws.n_radial = ws.begin + n_types;
  ws.n_angular = ws.n_radial + n_types;
  n_radial_moments = n_types * padded(expansion.radial.n);
  n_moments = n_types * expansion.n_rows() * padded(expansion.angular.n);
  const int64_t n_scratch =
      std::max(expansion.n_rows(), std::max(expansion.radial.n, 2 * expansion.angular.n));
  T *at = sums.room(2 * (n_radial_moments + n_moments) + n_scratch * width);
  const auto take = [&](int64_t n) { return at += n, at - n; };
  ws.radial_moments = take(n_radial_moments);  // all of them multiples of EIGHT
  ws.radial_moment_gradient = take(n_radial_moments);
  ws.moments = take(n_moments);
  ws.moment_gradient = take(n_moments);
  ws.scratch = take(n_scratch * width);
}

template <typename T>
void Neighborhood<T>::make_room_for(const Expansion<T> &expansion, const Center<T> &center) {
  const int64_t wide = padded(center.angular.n_channels), channels = expansion.n_rows() * wide;
  ws.channels = channel.room(channels);
  ws.channel_gradient = channel_gradient.room(channels);
  ws.invariants =
      invariants.room(std::max<int64_t>(padded(center.radial.n_channels), center.invariants.n * wide));
  most_functions = std::max<int64_t>({most_functions, center.angular.n_channels, expansion.angular.n});
  ws.derivatives = derivatives.room(center.invariants.n_derivatives * wide);
}

template <typename T>
void Neighborhood<T>::gather(const Expansion<T> &expansion, const Edges &edges, int64_t i) {
  const int n_types = expansion.n_types;
  const int64_t begin = edges.offsets[i], n = edges.offsets[i + 1] - begin;
  if (n < 0 || n > INT_MAX / 64) throw std::runtime_error("offsets that make no sense");
  sort_edges(edges.edge_vec + 3 * begin, edges.neighbor_type + begin, static_cast<int>(n), n_types);
  int slot = 0;
  for (int t = 0; t < n_types; t++) {
    const int near = group_size[2 * t], both = near + group_size[2 * t + 1];
    ws.begin[t] = slot;
    ws.n_radial[t] = radial_is_longer ? both : near;
    ws.n_angular[t] = radial_is_longer ? near : both;
    slot += (both + width - 1) / width * width;
  }
  make_room(expansion, slot);
  for (int t = 0; t < n_types; t++) {
    int at = ws.begin[t];
    const int end = t + 1 < n_types ? ws.begin[t + 1] : slot;
    for (int group = 2 * t; group < 2 * t + 2; at += group_size[group++]) {
      const T *const from = sorted.data() + 3 * static_cast<size_t>(group) * capacity;
      std::copy_n(from, group_size[group], ws.x + at);
      std::copy_n(from + capacity, group_size[group], ws.y + at);
      std::copy_n(from + 2 * capacity, group_size[group], ws.z + at);
      const int64_t *const index = sorted_edge.data() + static_cast<size_t>(group) * capacity;
      for (int k = 0; k < group_size[group]; k++) slot_edge[at + k] = begin + index[k];
    }
    for (; at < end; at++) {  // nobody is there
      ws.x[at] = ws.y[at] = ws.z[at] = T(1.0e4);
      slot_edge[at] = -1;
    }
  }
}

// Every edge is written to the end of its group, which is one longer then; those that are too long to a last
// group.
template <typename T>
void Neighborhood<T>::sort_edges(const double *vec, const int64_t *types, int n, int n_types) {
  const size_t n_groups = 2 * static_cast<size_t>(n_types) + 1;
  if (capacity < n || sorted.empty()) {
    capacity = n + n / 4 + 1;
    sorted.resize(3 * n_groups * capacity);
    sorted_edge.resize(n_groups * capacity);
  }
  group_size.assign(n_groups, 0);
  int *const size = group_size.data();
  for (int e = 0; e < n; e++, vec += 3) {
    const double square = vec[0] * vec[0] + vec[1] * vec[1] + vec[2] * vec[2];
    if (types[e] < 0 || types[e] >= n_types) throw std::runtime_error("a neighbour of unknown type");
    const size_t beyond = square >= inner,
                 away = square >= outer;  // no branch: which one, nobody can predict
    const size_t group = away * (n_groups - 1) + (1 - away) * (2 * static_cast<size_t>(types[e]) + beyond);
    const int at = size[group]++;
    T *const to = sorted.data() + 3 * group * capacity + at;
    to[0] = static_cast<T>(vec[0]);
    to[capacity] = static_cast<T>(vec[1]);
    to[2 * capacity] = static_cast<T>(vec[2]);
    sorted_edge[group * capacity + at] = e;
  }
}

template <typename T>
void Neighborhood<T>::make_room(const Expansion<T> &expansion, int n_slots) {
  ws.n_slots = n_slots;
  const int64_t n = n_slots, each = 8 + RADIAL + 2 * most_functions + expansion.n_rows();
  T *at = slots.room(n * each + acsf::PADDING);
  const auto take = [&](int64_t numbers) { return at += numbers * n, at - numbers * n; };
  ws.x = take(1);
  ws.y = take(1);
  ws.z = take(1);
  ws.r = take(1);
  ws.inverse = take(1);
  ws.gradient_x = take(1);
  ws.gradient_y = take(1);
  ws.gradient_z = take(1);
  ws.radial = take(RADIAL);
  ws.basis = take(most_functions);
  ws.slope = take(most_functions);
  ws.harmonics = take(expansion.n_rows());
  if (slot_edge.size() < static_cast<size_t>(n)) slot_edge.resize(n + n / 4);
}

template <typename T>
void Neighborhood<T>::clear_moment_gradients() {
  std::fill_n(ws.radial_moment_gradient, n_radial_moments, T(0));
  std::fill_n(ws.moment_gradient, n_moments, T(0));
}

template <typename T>
void Neighborhood<T>::add_gradient(double *gradient, int n_rows, int row) const {
  for (int at = 0; at < ws.n_slots; at++) {
    if (slot_edge[at] < 0) continue;
    double *const out = gradient + 3 * n_rows * slot_edge[at] + row;
    out[0] += static_cast<double>(ws.gradient_x[at]);
    out[n_rows] += static_cast<double>(ws.gradient_y[at]);
    out[2 * n_rows] += static_cast<double>(ws.gradient_z[at]);
  }
}

}  // namespace cluster
}  // namespace nnpkit

#endif
