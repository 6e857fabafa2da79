// First pass over the neighbourhood of an atom: its features, and what the gradient will need of the way
// there. Included by acsf_isa.cpp only.

#ifndef NNPKIT_ACSF_DESCRIBE_H
#define NNPKIT_ACSF_DESCRIBE_H

#include "acsf_triplets.h"

namespace nnpkit {
namespace NNPKIT_ISA {

template <typename T>
static void describe_radial(const Center<T> &center, Workspace<T> &ws, int type) {
  typedef Vector<T> V;
  const auto &functions = center.radial[type];
  const int begin = ws.begin[type], end = begin + ws.count[type];
  for (int f = 0; f < functions.n; f++) {
    const T eta = -functions.eta[f], shift = functions.shift[f];
    const T *const fc = ws.envelope + functions.cutoff[f] * ws.n_slots;
    T *const summand = ws.radial + f * ws.n_slots;
    V sum = {};
    for (int at = begin; at < end; at += WIDTH<T>) {
      const V square = load(ws.r2 + at);
      V exponent = eta * square;
      if (shift != T(0)) {
        const V d = square * load(ws.inverse + at) - shift;
        exponent = eta * d * d;
      }
      const V h = exponential(exponent) * load(fc + at);
      store(summand + at, h);
      sum += h;
    }
    ws.features[functions.column[f]] += sum_lanes<T>(sum);
  }
}

template <typename T>
static void clear(T *values, int64_t n) {
  for (int64_t at = 0; at < n; at++) values[at] = T(0);
}

// Distances, cutoff functions and radial functions.
template <typename T>
static void describe_neighbors(const Center<T> &center, Workspace<T> &ws) {
  for (int f = 0; f < center.n_features; f++) ws.features[f] = 0.0;
  for (int at = 0; at < ws.n_slots; at += WIDTH<T>)
    store(ws.inverse + at, T(1) / square_root(load(ws.r2 + at)));
  for (int c = 0; c < center.n_cutoffs; c++)
    envelopes(center.cutoffs[c], ws.r2, ws.n_slots, ws.envelope + c * ws.n_slots, ws.slope + c * ws.n_slots);
  for (int type = 0; type < center.n_types; type++) describe_radial(center, ws, type);
}

template <typename T>
static void sum_functions(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>, LENGTH = BLOCK * W;
  AngularBlock<T, false> angular;
  for (int at = 0; at < kept.padded; at += LENGTH) {
    const int n = kept.padded - at < LENGTH ? kept.padded - at : LENGTH;
    angular.fill(group, kept.cosine + at, n);
    for (int p = 0; p < group.n_radial; p++) {
      const T *const product = kept.products + p * kept.padded + at;
      for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++) {
        const T *const value = angular.value + group.angular[f] * LENGTH;
        V even = {}, odd = {};
        int v = 0;
        for (; v + W < n; v += 2 * W) {
          even += load(product + v) * load(value + v);
          odd += load(product + v + W) * load(value + v + W);
        }
        if (v < n) even += load(product + v) * load(value + v);
        const V sum = even + odd;
        for (int k = 0; k < W; k++) ws.lane_sums[f * W + k] += static_cast<double>(sum[k]);
      }
    }
  }
}

template <typename T>
static void describe(const Center<T> &center, Workspace<T> &ws) {
  constexpr int W = WIDTH<T>;
  describe_neighbors(center, ws);
  T *begin = ws.kept;
  uint16_t *bits = ws.bits;
  int32_t *row_slot = ws.row_slot;
  int chunk = 0;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    const Sides sides = sides_of(ws, group);
    for (int f = 0; f < group.n_functions * W; f++) ws.lane_sums[f] = 0.0;
    for (int next = sides.row_begin; next < sides.row_end; chunk++) {
      int rows = 0;
      const int n = find_triplets<T, false>(center, ws, group, next, nullptr, bits, row_slot, nullptr, &rows);
      ws.chunk_triplets[chunk] = n;
      ws.chunk_rows[chunk] = rows;
      const Kept<T> kept = kept_of(group, begin, n);
      evaluate_triplets(center, ws, group, kept, n);
      sum_functions(group, ws, kept);
      begin = kept.end;
      for (int row = 0; row < rows; row++) bits += row_vectors<T>(sides, row_slot[row]);
      row_slot += rows;
    }
    ws.group_chunks[g] = chunk;
    for (int f = 0; f < group.n_functions; f++) {
      double sum = 0.0;
      for (int k = 0; k < W; k++) sum += ws.lane_sums[f * W + k];
      ws.features[group.column[f]] += sum;
    }
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
