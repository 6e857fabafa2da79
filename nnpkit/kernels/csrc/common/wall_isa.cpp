// The polynomials of walls, compiled once for each instruction set; see wall_curves.h.

#include "simd.h"
#include "simd_edges.h"
#include "wall_curves.h"

namespace nnpkit {
namespace NNPKIT_ISA {

namespace {

#if defined(NNPKIT_ISA_avx512)
typedef __m256i Offsets;
NNPKIT_INLINE Offsets load_offsets(const int *from) {
  return _mm256_loadu_si256((const __m256i *)from);
}
NNPKIT_INLINE Offsets whole(Vector<double> x) {
  return _mm512_cvttpd_epi32((__m512d)x);
}
NNPKIT_INLINE Offsets moved(Offsets first, Offsets step, int by) {
  return _mm256_add_epi32(first, _mm256_mullo_epi32(step, _mm256_set1_epi32(by)));
}
NNPKIT_INLINE Vector<double> number(Offsets k) {
  return (Vector<double>)_mm512_cvtepi32_pd(k);
}
NNPKIT_INLINE Vector<double> gather(const double *from, Offsets k) {
  return (Vector<double>)_mm512_i32gather_pd(k, from, 8);
}
#elif defined(NNPKIT_ISA_avx2)
typedef __m128i Offsets;
NNPKIT_INLINE Offsets load_offsets(const int *from) {
  return _mm_loadu_si128((const __m128i *)from);
}
NNPKIT_INLINE Offsets whole(Vector<double> x) {
  return _mm256_cvttpd_epi32((__m256d)x);
}
NNPKIT_INLINE Offsets moved(Offsets first, Offsets step, int by) {
  return _mm_add_epi32(first, _mm_mullo_epi32(step, _mm_set1_epi32(by)));
}
NNPKIT_INLINE Vector<double> number(Offsets k) {
  return (Vector<double>)_mm256_cvtepi32_pd(k);
}
NNPKIT_INLINE Vector<double> gather(const double *from, Offsets k) {
  return (Vector<double>)_mm256_i32gather_pd(from, k, 8);
}
#else
struct Offsets {
  int k[2];
};
NNPKIT_INLINE Offsets load_offsets(const int *from) {
  return {{from[0], from[1]}};
}
NNPKIT_INLINE Offsets whole(Vector<double> x) {
  return {{static_cast<int>(x[0]), static_cast<int>(x[1])}};
}
NNPKIT_INLINE Offsets moved(Offsets first, Offsets step, int by) {
  return {{first.k[0] + by * step.k[0], first.k[1] + by * step.k[1]}};
}
NNPKIT_INLINE Vector<double> number(Offsets k) {
  return Vector<double>{static_cast<double>(k.k[0]), static_cast<double>(k.k[1])};
}
NNPKIT_INLINE Vector<double> gather(const double *from, Offsets k) {
  return Vector<double>{from[k.k[0]], from[k.k[1]]};
}
#endif

}  // namespace

// Without branches, as nobody can foretell which pairs are close.
#if defined(NNPKIT_ISA_avx512)
int64_t find_close(const double *edge_vec, const int64_t *neighbor_type, int64_t n,
                   const double *outer_squares, int64_t n_types, int *edge, double *square) {
  int64_t found = 0;
  __m512d outer = _mm512_set1_pd(outer_squares[0]);
  __m256i number = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int64_t e = 0; e < n; e += 8, number = _mm256_add_epi32(number, _mm256_set1_epi32(8))) {
    const EightEdges edges = load_edges(edge_vec + 3 * e, n - e);
    if (n_types > 1)
      outer = _mm512_i64gather_pd(_mm512_maskz_loadu_epi64(edges.lanes, neighbor_type + e), outer_squares, 8);
    const __mmask8 close = edges.lanes & _mm512_cmp_pd_mask(edges.square, outer, _CMP_LT_OQ);
    _mm512_storeu_pd(square + found, _mm512_maskz_compress_pd(close, edges.square));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(edge + found),
                        _mm256_maskz_compress_epi32(close, number));
    found += __builtin_popcount(close);
  }
  return found;
}
#else
int64_t find_close(const double *edge_vec, const int64_t *neighbor_type, int64_t n,
                   const double *outer_squares, int64_t, int *edge, double *square) {
  int64_t found = 0;
  for (int64_t e = 0; e < n; e++) {
    const double *const v = edge_vec + 3 * e;
    const double squared = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    edge[found] = static_cast<int>(e);
    square[found] = squared;
    found += squared < outer_squares[neighbor_type[e]];
  }
  return found;
}
#endif

void evaluate_curves(const double *coefficients, const CurvePlaces &places, int64_t n, double *values,
                     double *slopes) {
  static_assert(WALL_BATCH % WIDTH<double> == 0, "no rest");
  for (int64_t k = 0; k < n; k += WIDTH<double>) {
    const Vector<double> inverse_step = load(places.inverse_step + k);
    const Vector<double> place = (load(places.square + k) - load(places.begin + k)) * inverse_step;
    const Offsets step = whole(place);
    const Offsets offset = moved(load_offsets(places.first + k), step, 6);
    const Vector<double> x = place - number(step);
    Vector<double> c = gather(coefficients + 5, offset), value = c, slope = 5.0 * c;
    for (int power = 4; power > 0; power--) {
      c = gather(coefficients + power, offset);
      value = value * x + c;
      slope = slope * x + static_cast<double>(power) * c;
    }
    value = value * x + gather(coefficients, offset);
    store(values + k, value);
    store(slopes + k, slope * inverse_step);
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit
