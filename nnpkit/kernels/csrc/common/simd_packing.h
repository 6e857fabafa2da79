// Lanes that pass a test, one bit per lane: found, packed into dense arrays, and put back. Included by
// *_isa.cpp only.

#ifndef NNPKIT_SIMD_PACKING_H
#define NNPKIT_SIMD_PACKING_H

#include "simd.h"

namespace nnpkit {
namespace NNPKIT_ISA {

#if defined(NNPKIT_ISA_avx512)

NNPKIT_INLINE unsigned less_bits(const Vector<double> &a, const Vector<double> &b) {
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
}
NNPKIT_INLINE unsigned less_bits(const Vector<float> &a, const Vector<float> &b) {
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
}
// The lanes of v whose bit is set, packed to the front; what is stored behind them is undetermined. A whole
// vector is written: compressing into memory directly is microcode on some processors.
NNPKIT_INLINE void store_packed(double *to, const Vector<double> &v, unsigned bits) {
  _mm512_storeu_pd(to, _mm512_maskz_compress_pd(static_cast<__mmask8>(bits), (__m512d)v));
}
NNPKIT_INLINE void store_packed(float *to, const Vector<float> &v, unsigned bits) {
  _mm512_storeu_ps(to, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), (__m512)v));
}
// The way back: what follows at `from` goes to the lanes whose bit is set, in order, and zero to the others.
NNPKIT_INLINE Vector<double> load_packed(const double *from, unsigned bits) {
  return (Vector<double>)_mm512_maskz_expand_pd(static_cast<__mmask8>(bits), _mm512_loadu_pd(from));
}
NNPKIT_INLINE Vector<float> load_packed(const float *from, unsigned bits) {
  return (Vector<float>)_mm512_maskz_expand_ps(static_cast<__mmask16>(bits), _mm512_loadu_ps(from));
}

#elif defined(NNPKIT_ISA_avx2)

NNPKIT_INLINE unsigned less_bits(const Vector<double> &a, const Vector<double> &b) {
  return static_cast<unsigned>(_mm256_movemask_pd((__m256d)(a < b)));
}
NNPKIT_INLINE unsigned less_bits(const Vector<float> &a, const Vector<float> &b) {
  return static_cast<unsigned>(_mm256_movemask_ps((__m256)(a < b)));
}

// For each set of bits the 32-bit lanes to take, in order.
struct PackingTables {
  int32_t doubles[16][8], doubles_back[16][8];
  int32_t floats[256][8], floats_back[256][8];
  constexpr PackingTables() : doubles(), doubles_back(), floats(), floats_back() {
    for (int bits = 0; bits < 256; bits++) {
      int n = 0;
      for (int lane = 0; lane < 8; lane++)
        if (bits >> lane & 1) {
          floats_back[bits][lane] = n;
          floats[bits][n++] = lane;
        }
    }
    for (int bits = 0; bits < 16; bits++) {
      int n = 0;
      for (int lane = 0; lane < 4; lane++)
        if (bits >> lane & 1)
          for (int half = 0; half < 2; half++) {
            doubles_back[bits][2 * lane + half] = n;
            doubles[bits][n++] = 2 * lane + half;
          }
    }
  }
};
static constexpr PackingTables PACKING;

NNPKIT_INLINE void store_packed(double *to, const Vector<double> &v, unsigned bits) {
  const __m256i order = _mm256_loadu_si256((const __m256i *)PACKING.doubles[bits]);
  _mm256_storeu_ps((float *)to, _mm256_permutevar8x32_ps((__m256)v, order));
}
NNPKIT_INLINE void store_packed(float *to, const Vector<float> &v, unsigned bits) {
  const __m256i order = _mm256_loadu_si256((const __m256i *)PACKING.floats[bits]);
  _mm256_storeu_ps(to, _mm256_permutevar8x32_ps((__m256)v, order));
}
NNPKIT_INLINE Vector<double> load_packed(const double *from, unsigned bits) {
  const __m256i lanes = _mm256_setr_epi64x(1, 2, 4, 8);
  const __m256i set = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits), lanes), lanes);
  const __m256i order = _mm256_loadu_si256((const __m256i *)PACKING.doubles_back[bits]);
  return (Vector<double>)_mm256_and_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps((const float *)from), order),
                                       (__m256)set);
}
NNPKIT_INLINE Vector<float> load_packed(const float *from, unsigned bits) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set =
      _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lanes), lanes);
  const __m256i order = _mm256_loadu_si256((const __m256i *)PACKING.floats_back[bits]);
  return (Vector<float>)_mm256_and_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(from), order), (__m256)set);
}

#else

template <typename V>
NNPKIT_INLINE unsigned less_bits(const V &a, const V &b) {
  unsigned bits = 0;
  for (int k = 0; k < static_cast<int>(sizeof(V) / sizeof(a[0])); k++)
    bits |= static_cast<unsigned>(a[k] < b[k]) << k;
  return bits;
}
template <typename T, typename V>
NNPKIT_INLINE void store_packed(T *to, const V &v, unsigned bits) {
  for (int k = 0, n = 0; k < static_cast<int>(sizeof(V) / sizeof(T)); k++)
    if (bits >> k & 1) to[n++] = v[k];
}
template <typename T>
NNPKIT_INLINE Vector<T> load_packed(const T *from, unsigned bits) {
  Vector<T> v = {};
  for (int k = 0, n = 0; k < WIDTH<T>; k++)
    if (bits >> k & 1) v[k] = from[n++];
  return v;
}

#endif

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
