// Triplets around an atom, from pairs of neighbours to radial parts and angles. Included by acsf_isa.cpp
// only.

#ifndef NNPKIT_ACSF_TRIPLETS_H
#define NNPKIT_ACSF_TRIPLETS_H

#include "acsf_cutoff.h"
#include "acsf_plan.h"
#include "simd_packing.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::AngularGroup;
using acsf::Center;
using acsf::CHUNK;
using acsf::MAX_ANGULAR;
using acsf::MAX_FACTORS;
using acsf::MAX_RADIAL;
using acsf::Workspace;

constexpr int BLOCK = 8;  // vectors of triplets that are worked on together, in the nearest cache

// What is known of the triplets of a chunk, each array `padded` long: a whole number of vectors.
template <typename T>
struct Kept {
  T *slope;     // of the third side
  T *cosine;    // of the angle at the centre
  T *inverse;   // 1 / (r_ij r_ik)
  T *shift;     // of groups with shifts: 1 / r_jk
  T *products;  // (n_radial, padded): h(r_ij) h(r_ik) h(r_jk)
  int padded;
  T *end;
};

template <typename T>
NNPKIT_INLINE Kept<T> kept_of(const AngularGroup<T> &group, T *begin, int n) {
  Kept<T> kept;
  kept.padded = (n + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>;
  kept.slope = begin;
  kept.cosine = kept.slope + kept.padded;
  kept.inverse = kept.cosine + kept.padded;
  kept.shift = kept.inverse + kept.padded;
  kept.products = kept.shift + (group.shifted ? kept.padded : 0);
  kept.end = kept.products + group.n_radial * kept.padded;
  return kept;
}

template <typename T>
NNPKIT_INLINE int slot_of(const T *partner) {
  typename Lanes<T>::Integer slot;
  std::memcpy(&slot, partner, sizeof(slot));
  return static_cast<int>(slot);
}

// Slots of the neighbours j, which make the rows, and k, which make the columns: rows of the element that has
// fewer neighbours, so that there are few of them and long ones.
struct Sides {
  bool same;
  int row_begin, row_end, column_begin, column_end;
};

template <typename T>
NNPKIT_INLINE Sides sides_of(const Workspace<T> &ws, const AngularGroup<T> &group) {
  const bool swap = ws.count[group.second] < ws.count[group.first];
  const int row = swap ? group.second : group.first, column = swap ? group.first : group.second;
  return {row == column, ws.begin[row], ws.begin[row] + ws.count[row], ws.begin[column],
          ws.begin[column] + ws.count[column]};
}

// The first vector of neighbours k in the row of j: at a whole number of vectors, so that it may begin with
// neighbours that are not meant.
template <typename T>
NNPKIT_INLINE int row_start(const Sides &sides, int j) {
  const int begin = sides.column_begin;
  return sides.same ? begin + (j + 1 - begin) / WIDTH<T> * WIDTH<T> : begin;
}

template <typename T>
NNPKIT_INLINE int row_vectors(const Sides &sides, int j) {
  return (sides.column_end - row_start<T>(sides, j) + WIDTH<T> - 1) / WIDTH<T>;
}

// Pairs of neighbours, j before k, whose triplet contributes, packed into dense arrays: whole rows of j,
// `next` and those that follow, until there are CHUNK of them. Returns how many. Where they are is kept as
// the slots of k or as bits for each vector of k.
template <typename T, bool SLOTS>
__attribute__((noinline)) static int find_triplets(const Center<T> &center, Workspace<T> &ws,
                                                   const AngularGroup<T> &group, int &next, T *partner,
                                                   uint16_t *bits_of, int32_t *row_slot, int32_t *row_begin,
                                                   int *n_rows) {
  typedef Vector<T> V;
  typedef Integers<T> I;
  typedef typename Lanes<T>::Integer Integer;
  constexpr int W = WIDTH<T>;
  const T radius = center.cutoffs[group.cutoff].radius, square = radius * radius;
  const V limit = all(square), side_limit = group.narrow ? limit : all(T(1e30));
  const T *const x = ws.x, *const y = ws.y, *const z = ws.z, *const r2 = ws.r2, *const inverse = ws.inverse;
  const T *const fc = ws.envelope + group.cutoff * ws.n_slots;
  T *const side2 = ws.side2, *const legs2 = ws.legs2, *const product = ws.product,
           *const envelope = ws.envelopes;
  const Sides sides = sides_of(ws, group);
  I lanes;
  for (int k = 0; k < W; k++) lanes[k] = k;
  int n = 0, rows = 0, j = next;
  for (; j < sides.row_end && n < CHUNK; j++) {
    if (!(r2[j] < square)) continue;
    const int row = n, start = row_start<T>(sides, j);
    const T xj = x[j], yj = y[j], zj = z[j], r2j = r2[j], inverse_j = inverse[j], fcj = fc[j];
    uint16_t *bits_at = bits_of;
    unsigned wanted = sides.same ? ~0u << (j + 1 - start) : ~0u;
    for (int k = start; k < sides.column_end; k += W) {
      const V dx = load(x + k) - xj, dy = load(y + k) - yj, dz = load(z + k) - zj;
      const V side = dx * dx + dy * dy + dz * dz;
      const V r2k = load(r2 + k);
      const unsigned bits = less_bits(side, side_limit) & less_bits(r2k, limit) & wanted;
      wanted = ~0u;
      store_packed(side2 + n, side, bits);
      store_packed(legs2 + n, r2k + r2j, bits);
      store_packed(product + n, load(inverse + k) * inverse_j, bits);
      store_packed(envelope + n, load(fc + k) * fcj, bits);
      if constexpr (SLOTS) {
        const I index = lanes + static_cast<Integer>(k);
        store_packed(partner + n, bits_as<V>(index), bits);
      } else {
        *bits_at++ = static_cast<uint16_t>(bits);
      }
      n += __builtin_popcount(bits);
    }
    row_slot[rows] = j;
    if constexpr (SLOTS) row_begin[rows] = row;
    if (n > row) {  // else the next row takes its place
      rows++;
      bits_of = bits_at;
    }
  }
  next = j;
  *n_rows = rows;
  return n;
}

// Radial parts of n triplets, and their cosines.
template <typename T, bool NARROW, bool SHIFTED>
static void triplet_products(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  const int padded = kept.padded;
  T *const squares = ws.side2, *const lengths = ws.third, *const fc = ws.envelopes;
  for (int at = 0; at < padded; at += W) {
    const V side2 = load(ws.side2 + at), legs2 = load(ws.legs2 + at), inverse = load(ws.product + at);
    store(kept.cosine + at, T(0.5) * (legs2 - side2) * inverse);
    store(kept.inverse + at, inverse);
    store(squares + at, NARROW ? legs2 + side2 : legs2);
    if constexpr (NARROW) store(fc + at, load(fc + at) * load(ws.third + at));
    if constexpr (SHIFTED) {
      V length = square_root(legs2 + T(2) / inverse);  // r_ij + r_ik
      if constexpr (NARROW) {
        const V side = square_root(side2);
        length += side;
        store(kept.shift + at, T(1) / side);
      }
      store(lengths + at, length);
    }
  }
  for (int p = 0; p < group.n_radial; p++) {
    const int *const factors = group.factors + p * MAX_FACTORS;
    const T eta = -group.eta[p], shift = group.shift[p];
    T *const own = ws.factors + p * ws.line, *const product = kept.products + p * padded;
    if (factors[0] >= 0) {
      const T *const a = ws.factors + factors[0] * ws.line, *const b = ws.factors + factors[1] * ws.line;
      for (int at = 0; at < padded; at += W) {
        V factor = load(a + at) * load(b + at);
        for (int q = 2; q < MAX_FACTORS && factors[q] >= 0; q++)
          factor *= load(ws.factors + factors[q] * ws.line + at);
        store(own + at, factor);
        store(product + at, factor * load(fc + at));
      }
      continue;
    }
    for (int at = 0; at < padded; at += W) {
      V exponent = load(squares + at);
      if constexpr (SHIFTED) exponent += shift * (T(NARROW ? 3 : 2) * shift - T(2) * load(lengths + at));
      const V factor = exponential(eta * exponent);
      store(own + at, factor);
      store(product + at, factor * load(fc + at));
    }
  }
}

// All of the n triplets that find_triplets has found.
template <typename T>
static void evaluate_triplets(const Center<T> &center, Workspace<T> &ws, const AngularGroup<T> &group,
                              const Kept<T> &kept, int n) {
  const Vector<T> one = all(T(1));
  store(ws.side2 + n, one);  // harmless triplets that count nothing, up to the end of the vector
  store(ws.legs2 + n, one);
  store(ws.product + n, one);
  store(ws.envelopes + n, Vector<T>{});
  if (group.narrow) envelopes(center.cutoffs[group.cutoff], ws.side2, kept.padded, ws.third, kept.slope);
  if (group.shifted)
    group.narrow ? triplet_products<T, true, true>(group, ws, kept)
                 : triplet_products<T, false, true>(group, ws, kept);
  else
    group.narrow ? triplet_products<T, true, false>(group, ws, kept)
                 : triplet_products<T, false, false>(group, ws, kept);
}

// 2 (1/2 + lambda/2 cos)^zeta of n cosines, and its derivatives; POWER is zeta, 0: any.
template <typename T, int POWER, bool DERIVATIVES>
NNPKIT_INLINE void angular_parts(T lambda, T zeta, int power, const T *cosine, int n, T *value,
                                 T *derivative) {
  typedef Vector<T> V;
  for (int v = 0; v < n; v += WIDTH<T>) {
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
    if constexpr (DERIVATIVES) store(derivative + v, (lambda * zeta) * lower);
  }
}

// The angular parts of one block of triplets, each (n_angular, BLOCK vectors).
template <typename T, bool DERIVATIVES = true>
struct AngularBlock {
  static constexpr int LENGTH = BLOCK * WIDTH<T>;
  alignas(64) T value[(MAX_ANGULAR + 1) * LENGTH];
  alignas(64) T derivative[DERIVATIVES ? (MAX_ANGULAR + 1) * LENGTH : 1];

  // the first n, a whole number of vectors
  __attribute__((always_inline)) void fill(const AngularGroup<T> &group, const T *cosine, int n) {
    for (int a = 0; a < group.n_angular; a++) {
      const T lambda = group.lambda[a], zeta = group.zeta[a];
      const int power = group.power[a], to = a * LENGTH, slope_to = DERIVATIVES ? to : 0;
      switch (power) {
        case 1:
          angular_parts<T, 1, DERIVATIVES>(lambda, zeta, power, cosine, n, value + to, derivative + slope_to);
          break;
        case 2:
          angular_parts<T, 2, DERIVATIVES>(lambda, zeta, power, cosine, n, value + to, derivative + slope_to);
          break;
        case 4:
          angular_parts<T, 4, DERIVATIVES>(lambda, zeta, power, cosine, n, value + to, derivative + slope_to);
          break;
        case 8:
          angular_parts<T, 8, DERIVATIVES>(lambda, zeta, power, cosine, n, value + to, derivative + slope_to);
          break;
        default:
          angular_parts<T, 0, DERIVATIVES>(lambda, zeta, power, cosine, n, value + to, derivative + slope_to);
      }
    }
  }
};

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
