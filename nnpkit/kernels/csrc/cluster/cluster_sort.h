// The edges of an atom in groups: by type, and of each type those within the shorter cutoff apart from those
// within the longer one. Included by cluster_isa.cpp only.

#ifndef NNPKIT_CLUSTER_SORT_H
#define NNPKIT_CLUSTER_SORT_H

#include "cluster_basis.h"
#include "cluster_plan.h"
#include "simd_edges.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::Groups;
using cluster::Workspace;

#if defined(NNPKIT_ISA_avx512)
NNPKIT_INLINE void append(__mmask8 chosen, const __m512d &what, double *to) {
  _mm512_storeu_pd(to, _mm512_maskz_compress_pd(chosen, what));
}
NNPKIT_INLINE void append(__mmask8 chosen, const __m512d &what, float *to) {
  _mm256_storeu_ps(to, _mm256_maskz_compress_ps(chosen, _mm512_cvtpd_ps(what)));
}

// Eight edges at a time: those of a group are packed and written to its end.
template <typename T>
static bool sort_edges(const double *vec, const int64_t *types, int n, const Groups<T> &groups) {
  const __m512d inner = _mm512_set1_pd(groups.inner), outer = _mm512_set1_pd(groups.outer);
  const __m512i n_types = _mm512_set1_epi64(groups.n_types);
  __m256i edge = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  unsigned unknown = 0;
  for (int e = 0; e < n; e += 8, vec += 24, edge = _mm256_add_epi32(edge, _mm256_set1_epi32(8))) {
    const auto [lanes, x, y, z, square] = load_edges(vec, n - e);
    const __m512i type = _mm512_maskz_loadu_epi64(lanes, types + e);
    const __mmask8 near = _mm512_cmp_pd_mask(square, inner, _CMP_NGE_UQ);
    const __mmask8 within = lanes & _mm512_cmp_pd_mask(square, outer, _CMP_NGE_UQ);
    unknown |= _mm512_cmp_epu64_mask(type, n_types, _MM_CMPINT_NLT);
    for (int group = 0; group < 2 * groups.n_types; group++) {
      const __mmask8 own = within & _mm512_cmpeq_epi64_mask(type, _mm512_set1_epi64(group / 2));
      const __mmask8 chosen = own & (group % 2 ? static_cast<__mmask8>(~near) : near);
      if (!chosen) continue;
      const int at = groups.size[group];
      T *const to = groups.vectors + 3 * static_cast<int64_t>(group) * groups.capacity + at;
      append(chosen, x, to);
      append(chosen, y, to + groups.capacity);
      append(chosen, z, to + 2 * groups.capacity);
      _mm256_storeu_si256(
          reinterpret_cast<__m256i *>(groups.edges + static_cast<int64_t>(group) * groups.capacity + at),
          _mm256_maskz_compress_epi32(chosen, edge));
      groups.size[group] = at + __builtin_popcount(chosen);
    }
  }
  return unknown == 0;
}
#else
// Every edge is written to the end of its group; those that are too long to one behind the last.
template <typename T>
static bool sort_edges(const double *vec, const int64_t *types, int n, const Groups<T> &groups) {
  const int64_t capacity = groups.capacity, last = 2 * groups.n_types;
  for (int e = 0; e < n; e++, vec += 3) {
    const double square = vec[0] * vec[0] + vec[1] * vec[1] + vec[2] * vec[2];
    if (types[e] < 0 || types[e] >= groups.n_types) return false;
    const int64_t beyond = square >= groups.inner,
                  away = square >= groups.outer;  // nobody can predict a branch
    const int64_t group = away * last + (1 - away) * (2 * types[e] + beyond);
    const int at = groups.size[group]++;
    T *const to = groups.vectors + 3 * group * capacity + at;
    to[0] = static_cast<T>(vec[0]);
    to[capacity] = static_cast<T>(vec[1]);
    to[2 * capacity] = static_cast<T>(vec[2]);
    groups.edges[group * capacity + at] = e;
  }
  return true;
}
#endif

// Distances and unit vectors of all slots. What is written behind the end of a group is written again by the
// next one; the slots behind the last group of a type get a point far away.
template <typename T>
static void place(const Groups<T> &groups, Workspace<T> &ws) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  static_assert(2 * W <= cluster::GROUP_SLACK, "two vectors behind the end of a group");
  for (int group = 0; group < 2 * groups.n_types; group++) {
    const int type = group / 2, begin = ws.begin[type] + (group % 2 ? groups.size[group - 1] : 0);
    const int end = group % 2 == 0              ? begin + groups.size[group]
                    : type + 1 < groups.n_types ? ws.begin[type + 1]
                                                : ws.n_slots;
    T *const x = groups.vectors + 3 * static_cast<int64_t>(group) * groups.capacity,
             *const y = x + groups.capacity, *const z = y + groups.capacity;
    for (int at = groups.size[group]; at < groups.size[group] + 2 * W; at += W) {
      store(x + at, all(T(1.0e4)));
      store(y + at, all(T(1.0e4)));
      store(z + at, all(T(1.0e4)));
    }
    for (int from = 0, at = begin; at < end; from += W, at += W) {
      const V vx = load(x + from), vy = load(y + from), vz = load(z + from);
      const V square = vx * vx + vy * vy + vz * vz, inverse = inverse_root<T>(square);
      store(ws.inverse + at, inverse);
      store(ws.r + at, square * inverse);
      store(ws.x + at, vx * inverse);
      store(ws.y + at, vy * inverse);
      store(ws.z + at, vz * inverse);
    }
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
