// The polynomials of walls, compiled once for each instruction set; see wall_curves.h.

#include "simd.h"
#include "wall_curves.h"

namespace nnpkit {
namespace NNPKIT_ISA {

namespace {

#if defined(NNPKIT_ISA_avx512)
typedef __m256i Offsets;
NNPKIT_INLINE Offsets load_offsets(const int *from) {
  return _mm256_loadu_si256((const __m256i *)from);
}
NNPKIT_INLINE Offsets whole(Vector<double> x, int most) {
  return _mm256_min_epi32(_mm512_cvttpd_epi32((__m512d)x), _mm256_set1_epi32(most));
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
NNPKIT_INLINE Offsets whole(Vector<double> x, int most) {
  return _mm_min_epi32(_mm256_cvttpd_epi32((__m256d)x), _mm_set1_epi32(most));
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
NNPKIT_INLINE int whole(double x, int most) {
  return x < most ? static_cast<int>(x) : most;
}
NNPKIT_INLINE Offsets whole(Vector<double> x, int most) {
  return {{whole(x[0], most), whole(x[1], most)}};
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

void evaluate_curves(const double *coefficients, const CurvePlaces &places, int64_t n, double *values,
                     double *slopes) {
  static_assert(WALL_BATCH % WIDTH<double> == 0, "no rest");
  for (int64_t k = 0; k < n; k += WIDTH<double>) {
    const Vector<double> inverse_step = load(places.inverse_step + k);
    const Vector<double> place = (load(places.square + k) - load(places.begin + k)) * inverse_step;
    const Offsets step = whole(place, CURVE_STEPS - 1);  // rounding may reach beyond the last one
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
