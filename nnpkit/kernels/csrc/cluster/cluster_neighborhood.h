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

// Vectors of the edges of an atom in their groups: until they are placed. Several neighbourhoods take turns.
template <typename T>
using SortMemory = std::vector<T>;

template <typename T>
class Neighborhood {
 public:
  Workspace<T> ws{};

  // Room for what does not depend on neighbours.
  void prepare(const Expansion<T> &expansion, const Stages<T> &stages);
  void make_room_for(const Expansion<T> &expansion,
                     const Center<T> &center);  // one of those that will be needed
  // Sorts the edges of atom i that are shorter than the longer cutoff into slots.
  void gather(const Expansion<T> &expansion, const Edges &edges, int64_t i, SortMemory<T> &sorted);
  void clear_moment_gradients();
  void clear_radial_gradient();
  // Adds the gradient of every slot to gradient[3 * edge ..]; rows are the innermost index, this is one of
  // them.
  void add_gradient(double *gradient, int n_rows, int row) const;

 private:
  Stages<T> stages{};
  double inner = 0.0, outer = 0.0;  // squares of the cutoffs
  bool radial_is_longer = true;
  int64_t n_radial_moments = 0, n_moments = 0, most_functions = 0;
  acsf::Buffer<T> sums, channel, channel_gradient, invariants, derivatives, slots;
  std::vector<int> counts;
  int64_t first_edge = 0;
  // see Groups
  int capacity = 0;
  std::vector<int> group_size;
  std::vector<int32_t> sorted_edge;

  Groups<T> make_groups(int n, int n_types, SortMemory<T> &sorted);
  void make_room(const Expansion<T> &expansion, int n_slots);
};

template <typename T>
void Neighborhood<T>::prepare(const Expansion<T> &expansion, const Stages<T> &of) {
  stages = of;
  const int width = stages.width;
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
void Neighborhood<T>::gather(const Expansion<T> &expansion, const Edges &edges, int64_t i,
                             SortMemory<T> &sorted) {
  const int n_types = expansion.n_types;
  const int64_t begin = edges.offsets[i], n = edges.offsets[i + 1] - begin;
  if (n < 0 || n > INT_MAX / 64) throw std::runtime_error("offsets that make no sense");
  first_edge = begin;
  const Groups<T> groups = make_groups(static_cast<int>(n), n_types, sorted);
  if (!stages.sort_edges(edges.edge_vec + 3 * begin, edges.neighbor_type + begin, static_cast<int>(n),
                         groups))
    throw std::runtime_error("a neighbour of unknown type");
  int slot = 0;
  for (int t = 0; t < n_types; t++) {
    const int near = group_size[2 * t], both = near + group_size[2 * t + 1];
    ws.begin[t] = slot;
    ws.n_radial[t] = radial_is_longer ? both : near;
    ws.n_angular[t] = radial_is_longer ? near : both;
    slot += (both + stages.width - 1) / stages.width * stages.width;
  }
  make_room(expansion, slot);
  stages.place(groups, ws);
}

template <typename T>
Groups<T> Neighborhood<T>::make_groups(int n, int n_types, SortMemory<T> &sorted) {
  const size_t n_groups = 2 * static_cast<size_t>(n_types) + 1;
  if (capacity < n + GROUP_SLACK) {
    capacity = n + n / 4 + GROUP_SLACK;
    sorted_edge.resize(n_groups * capacity);
  }
  if (sorted.size() < 3 * n_groups * capacity) sorted.resize(3 * n_groups * capacity);
  group_size.assign(n_groups, 0);
  return {n_types, capacity, inner, outer, group_size.data(), sorted.data(), sorted_edge.data()};
}

template <typename T>
void Neighborhood<T>::make_room(const Expansion<T> &expansion, int n_slots) {
  ws.n_slots = n_slots;
  const int64_t n = n_slots, each = 8 + RADIAL + 2 * most_functions + expansion.n_rows();
  T *at = slots.room(n * each + 5 * GROUP_SLACK);
  const auto take = [&](int64_t numbers) { return at += numbers * n, at - numbers * n; };
  for (T **const array : {&ws.x, &ws.y, &ws.z, &ws.r, &ws.inverse}) {  // may be written too far
    *array = take(1);
    at += GROUP_SLACK;
  }
  ws.gradient_x = take(1);
  ws.gradient_y = take(1);
  ws.gradient_z = take(1);
  ws.radial = take(RADIAL);
  ws.basis = take(most_functions);
  ws.slope = take(most_functions);
  ws.harmonics = take(expansion.n_rows());
}

template <typename T>
void Neighborhood<T>::clear_moment_gradients() {
  std::fill_n(ws.moment_gradient, n_moments, T(0));
}

template <typename T>
void Neighborhood<T>::clear_radial_gradient() {
  std::fill_n(ws.radial_moment_gradient, n_radial_moments, T(0));
}

template <typename T>
void Neighborhood<T>::add_gradient(double *gradient, int n_rows, int row) const {
  double *const first = gradient + 3 * n_rows * first_edge + row;
  for (size_t t = 0; 2 * t + 1 < group_size.size(); t++) {
    // what is written could be any of these, for all that the compiler knows
    const T *x = ws.gradient_x + ws.begin[t], *y = ws.gradient_y + ws.begin[t],
            *z = ws.gradient_z + ws.begin[t];
    for (size_t group = 2 * t; group < 2 * t + 2; group++) {
      const int32_t *edge = sorted_edge.data() + group * capacity;
      for (const int32_t *const end = edge + group_size[group]; edge < end; edge++) {
        double *const out = first + static_cast<int64_t>(3) * n_rows * *edge;
        out[0] += static_cast<double>(*x++);
        out[n_rows] += static_cast<double>(*y++);
        out[2 * n_rows] += static_cast<double>(*z++);
      }
    }
  }
}

}  // namespace cluster
}  // namespace nnpkit

#endif
