// The edges of one atom, sorted into the slots that the stages read, and the memory for all that follows.

#ifndef NNPKIT_ACSF_NEIGHBORHOOD_H
#define NNPKIT_ACSF_NEIGHBORHOOD_H

#include "acsf_memory.h"
#include "acsf_model.h"
#include "kernel.h"

#include <algorithm>
#include <climits>
#include <stdexcept>
#include <vector>

namespace nnpkit {
namespace acsf {

// What is kept of the triplets of an atom: needed from its features to its gradient, or, where features come
// with their derivatives, for the features alone. Then several neighbourhoods take turns.
template <typename T>
struct TripletMemory {
  Buffer<int> chunks;
  Buffer<T> triplets, kept, records;
  Buffer<int32_t> rows;
  Buffer<uint16_t> bits;
};

template <typename T>
class Neighborhood {
 public:
  Workspace<T> ws{};
  int64_t atom = -1;
  int64_t n_far = 0;            // edges that are too long for a slot
  std::vector<T> coefficients;  // dE/dG, (n_features, MEMBERS)
  std::vector<double> squares;  // of the distances of the atom's edges

  // Sorts the edges of atom i that are shorter than `longest` into slots by type and makes room for
  // everything that follows; `width` is that of a vector.
  void gather(const Description &description, const Center<T> &center, const Edges &edges, int64_t i,
              int width, bool derivatives, TripletMemory<T> &shared);

 private:
  Buffer<int> counts;
  Buffer<T> slots, jacobian;
  Buffer<int64_t> slot_edges;
  Buffer<double> numbers;
  std::vector<int> cursor;

  void make_room(const Center<T> &center, int64_t n_slots, int width, bool derivatives,
                 TripletMemory<T> &shared);
};

template <typename T>
void Neighborhood<T>::gather(const Description &description, const Center<T> &center, const Edges &edges,
                             int64_t i, int width, bool derivatives, TripletMemory<T> &shared) {
  atom = i;
  const int n_types = center.n_types;
  const int64_t begin = edges.offsets[i], n = edges.offsets[i + 1] - begin;
  if (n < 0 || n > INT_MAX / 16) throw std::runtime_error("offsets that make no sense");
  const double limit = description.longest * description.longest;
  ws.begin = counts.room(2 * n_types);
  ws.count = ws.begin + n_types;
  std::fill(ws.count, ws.count + n_types, 0);
  squares.resize(std::max(squares.size(), static_cast<size_t>(n)));
  for (int64_t e = 0; e < n; e++) {
    const double *const v = edges.edge_vec + 3 * (begin + e);
    squares[e] = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    const int64_t type = edges.neighbor_type[begin + e];
    if (type < 0 || type >= n_types) throw std::runtime_error("a neighbour of unknown type");
    ws.count[type] += squares[e] < limit;
  }
  cursor.resize(n_types);
  int slot = 0;
  for (int t = 0; t < n_types; t++) {
    cursor[t] = ws.begin[t] = slot;
    if (ws.count[t] > 0) slot += (ws.count[t] + width - 1) / width * width + width;
  }
  ws.n_slots = slot;
  make_room(center, slot, width, derivatives, shared);
  for (int t = 0; t < n_types; t++) {
    if (ws.count[t] == 0) continue;
    const int end = t + 1 < n_types ? ws.begin[t + 1] : slot;
    for (int at = ws.begin[t] + ws.count[t]; at < end; at++) {  // nobody is there
      ws.x[at] = ws.y[at] = ws.z[at] = T(1.0e6);
      ws.r2[at] = T(3.0e12);
    }
  }
  n_far = n;
  for (int64_t e = 0; e < n; e++) {
    if (!(squares[e] < limit)) continue;
    n_far--;
    const double *const v = edges.edge_vec + 3 * (begin + e);
    const int at = cursor[edges.neighbor_type[begin + e]]++;
    ws.x[at] = static_cast<T>(v[0]);
    ws.y[at] = static_cast<T>(v[1]);
    ws.z[at] = static_cast<T>(v[2]);
    ws.r2[at] = static_cast<T>(squares[e]);
    const_cast<int64_t *>(ws.edges)[at] = begin + e;
  }
}

// For the neighbours that are counted; with `derivatives` nothing has to be kept of the triplets of a chunk.
template <typename T>
void Neighborhood<T>::make_room(const Center<T> &center, int64_t n_slots, int width, bool derivatives,
                                TripletMemory<T> &shared) {
  int64_t longest = 0, kept_size = 0, kept_chunk = 0, n_rows = 0, n_chunks = 0, n_vectors = 0,
          most_radial = 0;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    const auto [a, b] = std::minmax<int64_t>({ws.count[group.first], ws.count[group.second]});
    const int64_t n = group.first == group.second ? a * (a - 1) / 2 : a * b, chunks = n / CHUNK + 1;
    const int64_t arrays = 4 + group.n_radial;
    longest = std::max(longest, CHUNK + b + width);
    n_rows += a;
    n_vectors += a * (b / width + 1);
    most_radial = std::max<int64_t>(most_radial, group.n_radial);
    n_chunks += chunks;
    kept_size += arrays * (n + chunks * width);
    kept_chunk = std::max(kept_chunk, arrays * longest);
  }
  if (kept_size > INT_MAX) throw std::runtime_error("an atom has too many neighbours: do atoms overlap?");
  if (derivatives) {
    kept_size = kept_chunk;
    ws.jacobian = jacobian.room(4 * center.n_lanes * n_slots);
    ws.records = shared.records.room(8 * n_slots);
  }
  ws.kept = shared.kept.room(kept_size + PADDING);
  const int64_t line = longest / PADDING * PADDING + 2 * PADDING;  // whole cache lines
  T *const scratch = shared.triplets.room((6 + most_radial) * line);
  ws.line = static_cast<int>(line);
  ws.side2 = ws.forces = scratch;
  ws.legs2 = scratch + line;
  ws.product = scratch + 2 * line;
  ws.envelopes = scratch + 3 * line;
  ws.third = scratch + 4 * line;
  ws.partner = scratch + 5 * line;
  ws.factors = scratch + 6 * line;
  ws.row_slot = shared.rows.room(2 * (n_rows + PADDING));
  ws.row_begin = ws.row_slot + n_rows + PADDING;
  ws.bits = shared.bits.room(n_vectors + PADDING);
  ws.chunk_triplets = shared.chunks.room(2 * n_chunks + center.n_groups);
  ws.chunk_rows = ws.chunk_triplets + n_chunks;
  ws.group_chunks = ws.chunk_rows + n_chunks;
  const int64_t cutoffs = std::max(center.n_cutoffs, 1);
  T *at = slots.room(n_slots * (13 + 2 * cutoffs + center.n_radial_functions) + 16 * PADDING);
  const auto take = [&](int64_t n) { return at += n, at - n; };
  ws.sums = take(4 * n_slots);
  ws.row_sums = take(4 * n_slots);
  ws.x = take(n_slots);
  ws.y = take(n_slots);
  ws.z = take(n_slots);
  ws.r2 = take(n_slots);
  ws.inverse = take(n_slots);
  ws.envelope = take(cutoffs * n_slots);
  ws.slope = take(cutoffs * n_slots);
  ws.radial = take(center.n_radial_functions * n_slots);
  ws.edges = slot_edges.room(n_slots);
  const int64_t lanes = center.n_features + PADDING;
  ws.features = numbers.room(lanes + 16 * lanes);
  ws.lane_sums = ws.features + lanes;
  coefficients.resize(static_cast<size_t>(padded_nodes(center.n_features) + PADDING) * MEMBERS);
  ws.coefficients = coefficients.data();
}

}  // namespace acsf
}  // namespace nnpkit

#endif
