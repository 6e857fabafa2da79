// Eight edges of an atom, side by side. Included by *_isa.cpp only.

#ifndef NNPKIT_SIMD_EDGES_H
#define NNPKIT_SIMD_EDGES_H

#include "simd.h"

namespace nnpkit {
namespace NNPKIT_ISA {

#if defined(NNPKIT_ISA_avx512)
struct EightEdges {
  __mmask8 lanes;  // that hold one
  __m512d x, y, z, square;
};

// The first of `left` vectors; lanes behind the last one are zero.
NNPKIT_INLINE EightEdges load_edges(const double *vec, int64_t left) {
  const __m512i x_ab = _mm512_setr_epi64(0, 3, 6, 9, 12, 15, 0, 0),
                x_c = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 10, 13);
  const __m512i y_ab = _mm512_setr_epi64(1, 4, 7, 10, 13, 0, 0, 0),
                y_c = _mm512_setr_epi64(0, 1, 2, 3, 4, 8, 11, 14);
  const __m512i z_ab = _mm512_setr_epi64(2, 5, 8, 11, 14, 0, 0, 0),
                z_c = _mm512_setr_epi64(0, 1, 2, 3, 4, 9, 12, 15);
  const unsigned numbers = left < 8 ? (1u << 3 * left) - 1 : 0xffffff;
  const __m512d a = _mm512_maskz_loadu_pd(static_cast<__mmask8>(numbers), vec);
  const __m512d b = _mm512_maskz_loadu_pd(static_cast<__mmask8>(numbers >> 8), vec + 8);
  const __m512d c = _mm512_maskz_loadu_pd(static_cast<__mmask8>(numbers >> 16), vec + 16);
  const __m512d x = _mm512_permutex2var_pd(_mm512_permutex2var_pd(a, x_ab, b), x_c, c);
  const __m512d y = _mm512_permutex2var_pd(_mm512_permutex2var_pd(a, y_ab, b), y_c, c);
  const __m512d z = _mm512_permutex2var_pd(_mm512_permutex2var_pd(a, z_ab, b), z_c, c);
  const __m512d square = _mm512_fmadd_pd(z, z, _mm512_fmadd_pd(y, y, _mm512_mul_pd(x, x)));
  return {static_cast<__mmask8>(left < 8 ? (1u << left) - 1 : 0xff), x, y, z, square};
}
#endif

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
