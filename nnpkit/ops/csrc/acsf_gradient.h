// Second pass: from dE/dG to the gradient of every edge, without another exponential. Included by
// acsf_isa.cpp only.
//
// A triplet's energy e(r_ij, r_ik, r_jk) is a sum of P_p Q_p(cos), P_p = h(r_ij) h(r_ik) h(r_jk), and the
// logarithmic derivative of every h is (-2 eta (r - shift) + fc'/fc). With
//   S0 = sum_p P_p Q_p,  S1 = sum_p -2 eta_p P_p Q_p,  D = sum_p P_p dQ_p/dcos,  w = D / (r_ij r_ik)
// and the slope s(r) = fc'/(fc r), the gradient of edge j is
//   (s(r_ij) S0 + V - D cos / r_ij^2) x_j - B x_k  with  B = s(r_jk) S0 + S1 - w,  V = s(r_jk) S0 + 2 S1
// and that of edge k the same with j and k exchanged. Without the third side, B = -w and V = S1. A shift adds
// S2 / r to the derivatives by each side, S2 = sum_p 2 eta_p shift_p P_p Q_p.

#ifndef NNPKIT_ACSF_GRADIENT_H
#define NNPKIT_ACSF_GRADIENT_H

#include "acsf_describe.h"

namespace nnpkit {
namespace NNPKIT_ISA {

// a0 b0 c0 d0 a1 b1 c1 d1 ...
template <typename T>
NNPKIT_INLINE void store_interleaved(T *to, const Vector<T> &a, const Vector<T> &b, const Vector<T> &c,
                                     const Vector<T> &d) {
  constexpr int W = WIDTH<T>;
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (W >= 4) {
    Integers<T> low, high, low_pairs, high_pairs;
    for (int k = 0; k < W; k++) {
      low[k] = k / 2 + (k % 2) * W;
      high[k] = low[k] + W / 2;
      low_pairs[k] = k / 4 * 2 + k % 2 + (k / 2 % 2) * W;
      high_pairs[k] = low_pairs[k] + W / 2;
    }
    const Vector<T> ab = __builtin_shuffle(a, b, low), AB = __builtin_shuffle(a, b, high);
    const Vector<T> cd = __builtin_shuffle(c, d, low), CD = __builtin_shuffle(c, d, high);
    store(to, __builtin_shuffle(ab, cd, low_pairs));
    store(to + W, __builtin_shuffle(ab, cd, high_pairs));
    store(to + 2 * W, __builtin_shuffle(AB, CD, low_pairs));
    store(to + 3 * W, __builtin_shuffle(AB, CD, high_pairs));
    return;
  }
#endif
  for (int k = 0; k < W; k++) {
    to[4 * k] = a[k];
    to[4 * k + 1] = b[k];
    to[4 * k + 2] = c[k];
    to[4 * k + 3] = d[k];
  }
}

// a b c d d d d d, in parts of two or four lanes
template <typename T, int L, int N>
NNPKIT_INLINE void load_quad_pieces(const T *from, Pieces<T, L, N> &v) {
  if constexpr (N > 4)
    std::memcpy(&v.part, from, sizeof(v.part));
  else
    v.part = from[-1] - decltype(v.part){};  // behind the four
  if constexpr (N > L) load_quad_pieces(N > 4 ? from + L : from, v.rest);
}

template <typename T>
NNPKIT_INLINE Eight<T> load_quad(const T *from) {
  Eight<T> v;
#if defined(NNPKIT_ISA_avx512)
  if constexpr (sizeof(T) == 8) {
    v.part = (decltype(v.part))_mm512_permutexvar_pd(
        _mm512_setr_epi64(0, 1, 2, 3, 3, 3, 3, 3),
        _mm512_castpd256_pd512(_mm256_loadu_pd((const double *)from)));
    return v;
  }
#endif
#if defined(NNPKIT_ISA_avx512) || defined(NNPKIT_ISA_avx2)
  if constexpr (sizeof(T) == 4) {
    v.part = (decltype(v.part))_mm256_permutevar8x32_ps(
        _mm256_castps128_ps256(_mm_loadu_ps((const float *)from)), _mm256_setr_epi32(0, 1, 2, 3, 3, 3, 3, 3));
    return v;
  }
#endif
  load_quad_pieces(from, v);
  return v;
}

template <typename T>
NNPKIT_INLINE int slot_of(const T *partner) {
  typename Lanes<T>::Integer slot;
  std::memcpy(&slot, partner, sizeof(slot));
  return static_cast<int>(slot);
}

// S0, V, D cos, B of every triplet, interleaved in ws.quads; S2 in ws.side2, which is free now.
template <typename T, bool NARROW, bool SHIFTED>
static void triplet_forces(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  AngularBlock<T> angular;
  for (int block = 0; block < kept.padded; block += BLOCK * W) {
    angular.fill(group, kept.cosine + block);
    for (int v = 0; v < BLOCK * W; v += W) {
      const int at = block + v;
      V s0 = {}, s1 = {}, s2 = {}, d = {};
      for (int p = 0; p < group.n_radial; p++) {
        V value = {}, derivative = {};
        for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++) {
          const T c = ws.coefficients[group.column[f]];
          value += c * load(angular.value + group.angular[f] * BLOCK * W + v);
          derivative += c * load(angular.derivative + group.angular[f] * BLOCK * W + v);
        }
        const V product = load(kept.products + p * kept.padded + at);
        const V q = product * value;
        s0 += q;
        s1 += (T(-2) * group.eta[p]) * q;
        if constexpr (SHIFTED) s2 += (T(2) * group.eta[p] * group.shift[p]) * q;
        d += product * derivative;
      }
      const V w = d * load(kept.inverse + at);
      V third = s1, both = s1;
      if constexpr (NARROW) {
        third += load(kept.slope + at) * s0;
        if constexpr (SHIFTED) third += load(kept.shift + at) * s2;
        both += third;
      }
      if constexpr (SHIFTED) store(ws.side2 + at, s2);
      store_interleaved<T>(ws.quads + 4 * at, s0, both, d * load(kept.cosine + at), NARROW ? third - w : -w);
    }
  }
}

// Sums over the triplets of every neighbour: of S0, V, D cos, -, and B x of the other neighbour.
template <typename T>
static void add_triplets(const AngularGroup<T> &group, Workspace<T> &ws, const T *partner,
                         const int32_t *row_slot, const int32_t *row_begin, int rows, int n) {
  T *const sums = ws.sums + 8 * static_cast<int64_t>(group.cutoff) * ws.n_slots;
  T *const shift_sums = ws.shift_sums + static_cast<int64_t>(group.cutoff) * ws.n_slots;
  for (int row = 0; row < rows; row++) {
    const int j = row_slot[row], end = row + 1 < rows ? row_begin[row + 1] : n;
    const Eight<T> point = load_eight(ws.point + 8 * j);
    Eight<T> mine = load_eight(sums + 8 * j);
    for (int at = row_begin[row]; at < end; at++) {
      const int k = slot_of(partner + at);
      const Eight<T> quad = load_quad(ws.quads + 4 * at);
      mine += quad * load_eight(ws.point + 8 * k);
      store(sums + 8 * k, load_eight(sums + 8 * k) + quad * point);
    }
    store(sums + 8 * j, mine);
    if (!group.shifted) continue;
    for (int at = row_begin[row]; at < end; at++) {
      shift_sums[j] += ws.side2[at];
      shift_sums[slot_of(partner + at)] += ws.side2[at];
    }
  }
}

// (dE/dr) / r of the radial functions
template <typename T>
static void radial_forces(const Center<T> &center, Workspace<T> &ws) {
  typedef Vector<T> V;
  for (int type = 0; type < center.n_types; type++) {
    const auto &functions = center.radial[type];
    const int begin = ws.begin[type], end = begin + ws.count[type];
    for (int at = begin; at < end; at += WIDTH<T>) {
      V force = {};
      for (int f = 0; f < functions.n; f++) {
        const V summand = ws.coefficients[functions.column[f]] * load(ws.radial + f * ws.n_slots + at);
        V slope = load(ws.slope + functions.cutoff[f] * ws.n_slots + at);
        if (functions.shift[f] != T(0))
          slope += (T(2) * functions.eta[f] * functions.shift[f]) * load(ws.inverse + at);
        force += summand * (slope - T(2) * functions.eta[f]);
      }
      store(ws.radial_force + at, force);
    }
  }
}

template <typename T>
static void clear(T *values, int64_t n) {
  for (int64_t at = 0; at < n; at++) values[at] = T(0);
}

template <typename T>
static bool any_shift(const Center<T> &center) {
  for (int g = 0; g < center.n_groups; g++)
    if (center.groups[g].shifted) return true;
  return false;
}

template <typename T>
static void differentiate(const Center<T> &center, Workspace<T> &ws, double *gradient) {
  const int64_t sets = center.n_groups > 0 ? center.n_cutoffs : 0;
  const bool shifted = any_shift(center);
  clear(ws.sums, 8 * sets * ws.n_slots);
  if (shifted) clear(ws.shift_sums, sets * ws.n_slots);
  radial_forces(center, ws);
  T *begin = ws.kept;
  const T *partner = ws.partner;
  const int32_t *row_slot = ws.row_slot, *row_begin = ws.row_begin;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    const int n = ws.group_triplets[g], rows = ws.group_rows[g];
    if (n == 0) continue;
    const Kept<T> kept = kept_of(group, begin, n, ws.with_ends);
    if (group.shifted)
      group.narrow ? triplet_forces<T, true, true>(group, ws, kept)
                   : triplet_forces<T, false, true>(group, ws, kept);
    else
      group.narrow ? triplet_forces<T, true, false>(group, ws, kept)
                   : triplet_forces<T, false, false>(group, ws, kept);
    add_triplets(group, ws, partner, row_slot, row_begin, rows, n);
    begin = kept.end;
    partner += n;
    row_slot += rows;
    row_begin += rows;
  }
  for (int type = 0; type < center.n_types; type++)
    for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
      T along = ws.radial_force[at], across[3] = {};
      const T inverse = ws.inverse[at];
      for (int64_t c = 0; c < sets; c++) {
        const T *const sum = ws.sums + 8 * (c * ws.n_slots + at);
        along += ws.slope[c * ws.n_slots + at] * sum[0] + sum[1] - inverse * inverse * sum[2];
        if (shifted) along += inverse * ws.shift_sums[c * ws.n_slots + at];
        for (int k = 0; k < 3; k++) across[k] += sum[4 + k];
      }
      double *const out = gradient + 3 * ws.edges[at];
      out[0] += static_cast<double>(along * ws.x[at] - across[0]);
      out[1] += static_cast<double>(along * ws.y[at] - across[1]);
      out[2] += static_cast<double>(along * ws.z[at] - across[2]);
    }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
