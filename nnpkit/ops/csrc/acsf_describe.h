// First pass over the neighbourhood of an atom: its features, and what the gradient will need of the way
// there. Included by acsf_isa.cpp only.

#ifndef NNPKIT_ACSF_DESCRIBE_H
#define NNPKIT_ACSF_DESCRIBE_H

#include "acsf_cutoff.h"
#include "acsf_plan.h"
#include "simd.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::AngularGroup;
using acsf::Center;
using acsf::MAX_ANGULAR;
using acsf::MAX_FACTORS;
using acsf::MAX_RADIAL;
using acsf::Workspace;

constexpr int BLOCK = 8;  // vectors of triplets that are worked on together, in the nearest cache

// What the first pass keeps of a group of n triplets, each array `padded` long.
template <typename T>
struct Kept {
  T *slope;     // of the third side
  T *cosine;    // of the angle at the centre
  T *inverse;   // 1 / (r_ij r_ik)
  T *shift;     // of groups with shifts: 1 / r_jk
  T *ends;      // for members: slopes of the sides j and k, 1 / r_ij^2, 1 / r_ik^2, each `padded` long
  T *products;  // (n_radial, padded): h(r_ij) h(r_ik) h(r_jk)
  int padded;
  T *end;
};

template <typename T>
NNPKIT_INLINE Kept<T> kept_of(const AngularGroup<T> &group, T *begin, int n, bool with_ends) {
  Kept<T> kept;
  kept.padded = (n + BLOCK * WIDTH<T> - 1) / (BLOCK * WIDTH<T>)*(BLOCK * WIDTH<T>);
  kept.slope = begin;
  kept.cosine = kept.slope + kept.padded;
  kept.inverse = kept.cosine + kept.padded;
  kept.shift = kept.inverse + kept.padded;
  kept.ends = kept.shift + (group.shifted ? kept.padded : 0);
  kept.products = kept.ends + (with_ends ? 4 * kept.padded : 0);
  kept.end = kept.products + group.n_radial * kept.padded;
  return kept;
}

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

// Pairs of neighbours, j before k, whose triplet contributes: packed into dense arrays. Returns how many.
template <typename T, bool WITH_ENDS>
static int find_triplets(const Center<T> &center, Workspace<T> &ws, const AngularGroup<T> &group, T *partner,
                         int32_t *row_slot, int32_t *row_begin, int *n_rows) {
  typedef Vector<T> V;
  typedef Integers<T> I;
  typedef typename Lanes<T>::Integer Integer;
  const T radius = center.cutoffs[group.cutoff].radius;
  const V limit = all(radius * radius), side_limit = group.narrow ? limit : all(T(1e30));
  const T *const fc = ws.envelope + group.cutoff * ws.n_slots, *const slope =
                                                                   ws.slope + group.cutoff * ws.n_slots;
  const int first_end = ws.begin[group.first] + ws.count[group.first];
  const int second_begin = ws.begin[group.second], second_end = second_begin + ws.count[group.second];
  I lanes;
  for (int k = 0; k < WIDTH<T>; k++) lanes[k] = k;
  int n = 0, rows = 0;
  for (int j = ws.begin[group.first]; j < first_end; j++) {
    if (!(ws.r2[j] < limit[0])) continue;
    const int row = n;
    const T xj = ws.x[j], yj = ws.y[j], zj = ws.z[j], r2j = ws.r2[j], inverse_j = ws.inverse[j], fcj = fc[j];
    for (int k = group.first == group.second ? j + 1 : second_begin; k < second_end; k += WIDTH<T>) {
      const V dx = load(ws.x + k) - xj, dy = load(ws.y + k) - yj, dz = load(ws.z + k) - zj;
      const V side2 = dx * dx + dy * dy + dz * dz;
      const V r2k = load(ws.r2 + k);
      const unsigned bits = less_bits(side2, side_limit) & less_bits(r2k, limit);
      if (!bits) continue;
      store_packed(ws.side2 + n, side2, bits);
      store_packed(ws.legs2 + n, r2k + r2j, bits);
      store_packed(ws.product + n, load(ws.inverse + k) * inverse_j, bits);
      store_packed(ws.envelopes + n, load(fc + k) * fcj, bits);
      const I index = lanes + static_cast<Integer>(k);
      store_packed(partner + n, bits_as<V>(index), bits);
      if constexpr (WITH_ENDS) {
        const V inverse_k = load(ws.inverse + k);
        store_packed(ws.ends[1] + n, load(slope + k), bits);
        store_packed(ws.ends[3] + n, inverse_k * inverse_k, bits);
      }
      n += __builtin_popcount(bits);
    }
    if constexpr (WITH_ENDS) {
      for (int at = row; at < n; at += WIDTH<T>) {
        store(ws.ends[0] + at, all(slope[j]));
        store(ws.ends[2] + at, all(inverse_j * inverse_j));
      }
    }
    if (n > row) {
      row_slot[rows] = j;
      row_begin[rows++] = row;
    }
  }
  *n_rows = rows;
  return n;
}

// Radial parts of n triplets, and their cosines.
template <typename T, bool NARROW, bool SHIFTED>
static void triplet_products(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept, int n) {
  typedef Vector<T> V;
  for (int at = 0; at < n; at += WIDTH<T>) {
    const V side2 = load(ws.side2 + at), legs2 = load(ws.legs2 + at), inverse = load(ws.product + at);
    V fc = load(ws.envelopes + at);
    if constexpr (NARROW) fc *= load(ws.quads + at);
    store(kept.cosine + at, T(0.5) * (legs2 - side2) * inverse);
    store(kept.inverse + at, inverse);
    const V square = NARROW ? legs2 + side2 : legs2;
    V lengths = {};
    if constexpr (SHIFTED) {
      lengths = square_root(legs2 + T(2) / inverse);  // r_ij + r_ik
      if constexpr (NARROW) {
        const V side = square_root(side2);
        lengths += side;
        store(kept.shift + at, T(1) / side);
      }
    }
    V factor[MAX_RADIAL];
    for (int p = 0; p < group.n_radial; p++) {
      const int *const factors = group.factors + p * MAX_FACTORS;
      if (factors[0] >= 0) {
        factor[p] = factor[factors[0]];
        for (int q = 1; q < MAX_FACTORS && factors[q] >= 0; q++) factor[p] *= factor[factors[q]];
      } else {
        V exponent = square;
        if constexpr (SHIFTED)
          exponent += group.shift[p] * (T(NARROW ? 3 : 2) * group.shift[p] - T(2) * lengths);
        factor[p] = exponential(-group.eta[p] * exponent);
      }
      store(kept.products + p * kept.padded + at, factor[p] * fc);
    }
  }
}

// 2 (1/2 + lambda/2 cos)^zeta of a block of cosines, and its derivatives; POWER is zeta, 0: any.
template <typename T, int POWER>
NNPKIT_INLINE void angular_parts(T lambda, T zeta, int power, const T *cosine, T *value, T *derivative) {
  typedef Vector<T> V;
  for (int v = 0; v < BLOCK * WIDTH<T>; v += WIDTH<T>) {
    const V base = larger(T(0.5) + (T(0.5) * lambda) * load(cosine + v), V{});
    V lower = all(T(1));  // base^(zeta - 1)
    if constexpr (POWER > 1) {
      const V square = base * base;
      lower = POWER == 2   ? base
              : POWER == 3 ? square
              : POWER == 4 ? square * base
                           : square * square * square * base;
    }
    if constexpr (POWER == 0) {
      if (power > 0) {
        V square = base;
        for (int left = power - 1; left > 0; left >>= 1) {
          if (left & 1) lower *= square;
          square *= square;
        }
      } else {
        for (int k = 0; k < WIDTH<T>; k++)
          lower[k] = base[k] > T(0) ? T(__builtin_pow(base[k], zeta - T(1))) : T(0);
      }
    }
    store(value + v, T(2) * lower * base);
    store(derivative + v, (lambda * zeta) * lower);
  }
}

// The angular parts of one block of triplets, each (n_angular, BLOCK vectors).
template <typename T>
struct AngularBlock {
  T value[MAX_ANGULAR * BLOCK * WIDTH<T>];
  T derivative[MAX_ANGULAR * BLOCK * WIDTH<T>];

  __attribute__((always_inline)) void fill(const AngularGroup<T> &group, const T *cosine) {
    for (int a = 0; a < group.n_angular; a++) {
      const T lambda = group.lambda[a], zeta = group.zeta[a];
      const int power = group.power[a], to = a * BLOCK * WIDTH<T>;
      switch (power) {
        case 1:
          angular_parts<T, 1>(lambda, zeta, power, cosine, value + to, derivative + to);
          break;
        case 2:
          angular_parts<T, 2>(lambda, zeta, power, cosine, value + to, derivative + to);
          break;
        case 4:
          angular_parts<T, 4>(lambda, zeta, power, cosine, value + to, derivative + to);
          break;
        case 8:
          angular_parts<T, 8>(lambda, zeta, power, cosine, value + to, derivative + to);
          break;
        default:
          angular_parts<T, 0>(lambda, zeta, power, cosine, value + to, derivative + to);
      }
    }
  }
};

template <typename T>
static void sum_functions(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  AngularBlock<T> angular;
  for (int f = 0; f < group.n_functions * W; f++) ws.lane_sums[f] = 0.0;
  for (int at = 0; at < kept.padded; at += BLOCK * W) {
    angular.fill(group, kept.cosine + at);
    for (int p = 0; p < group.n_radial; p++) {
      const T *const product = kept.products + p * kept.padded + at;
      for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++) {
        const T *const value = angular.value + group.angular[f] * BLOCK * W;
        V even = {}, odd = {};
        for (int v = 0; v < BLOCK * W; v += 2 * W) {
          even += load(product + v) * load(value + v);
          odd += load(product + v + W) * load(value + v + W);
        }
        const V sum = even + odd;
        for (int k = 0; k < W; k++) ws.lane_sums[f * W + k] += static_cast<double>(sum[k]);
      }
    }
  }
  for (int f = 0; f < group.n_functions; f++) {
    double sum = 0.0;
    for (int k = 0; k < W; k++) sum += ws.lane_sums[f * W + k];
    ws.features[group.column[f]] += sum;
  }
}

template <typename T>
static void describe(const Center<T> &center, Workspace<T> &ws) {
  for (int f = 0; f < center.n_features; f++) ws.features[f] = 0.0;
  for (int at = 0; at < ws.n_slots; at += WIDTH<T>)
    store(ws.inverse + at, reciprocal_root<T>(load(ws.r2 + at)));
  for (int c = 0; c < center.n_cutoffs; c++)
    envelopes(center.cutoffs[c], ws.r2, ws.n_slots, ws.envelope + c * ws.n_slots, ws.slope + c * ws.n_slots);
  for (int type = 0; type < center.n_types; type++) describe_radial(center, ws, type);

  T *begin = ws.kept, *partner = ws.partner;
  int32_t *row_slot = ws.row_slot, *row_begin = ws.row_begin;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    int rows = 0;
    const int n = ws.with_ends
                      ? find_triplets<T, true>(center, ws, group, partner, row_slot, row_begin, &rows)
                      : find_triplets<T, false>(center, ws, group, partner, row_slot, row_begin, &rows);
    ws.group_triplets[g] = n;
    ws.group_rows[g] = rows;
    if (n == 0) continue;
    const Kept<T> kept = kept_of(group, begin, n, ws.with_ends);
    for (int at = n; at < kept.padded; at++) {  // harmless triplets that count nothing
      ws.side2[at] = ws.legs2[at] = ws.product[at] = T(1);
      ws.envelopes[at] = T(0);
    }
    for (int end = 0; ws.with_ends && end < 4; end++) {
      for (int at = n; at < kept.padded; at++) ws.ends[end][at] = T(1);
      std::memcpy(kept.ends + end * kept.padded, ws.ends[end], sizeof(T) * static_cast<size_t>(kept.padded));
    }
    if (group.narrow) envelopes(center.cutoffs[group.cutoff], ws.side2, kept.padded, ws.quads, kept.slope);
    if (group.shifted)
      group.narrow ? triplet_products<T, true, true>(group, ws, kept, kept.padded)
                   : triplet_products<T, false, true>(group, ws, kept, kept.padded);
    else
      group.narrow ? triplet_products<T, true, false>(group, ws, kept, kept.padded)
                   : triplet_products<T, false, false>(group, ws, kept, kept.padded);
    sum_functions(group, ws, kept);
    begin = kept.end;
    partner += n;
    row_slot += rows;
    row_begin += rows;
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
