// Vectors of one instruction set, in the compiler's own terms (GCC, Clang). Included by *_isa.cpp only, which
// is compiled once per instruction set with NNPKIT_ISA=portable, avx2 or avx512 and the flags for it.

#ifndef NNPKIT_SIMD_H
#define NNPKIT_SIMD_H

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(NNPKIT_ISA_avx512) || defined(NNPKIT_ISA_avx2)
#include <immintrin.h>
#endif

namespace nnpkit {
namespace NNPKIT_ISA {

#if defined(NNPKIT_ISA_avx512)
constexpr int VECTOR_BYTES = 64;
#elif defined(NNPKIT_ISA_avx2)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

#define NNPKIT_INLINE static inline __attribute__((always_inline))

template <typename T>
struct Lanes;
template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(VECTOR_BYTES)));
  typedef int64_t Integers __attribute__((vector_size(VECTOR_BYTES)));
  typedef int64_t Integer;
};
template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
  typedef int32_t Integers __attribute__((vector_size(VECTOR_BYTES)));
  typedef int32_t Integer;
};
template <typename T>
using Vector = typename Lanes<T>::Vector;
template <typename T>
using Integers = typename Lanes<T>::Integers;
template <typename T>
constexpr int WIDTH = VECTOR_BYTES / static_cast<int>(sizeof(T));

// N numbers in vectors of LANES: members, not an array, so that they stay in registers.
template <typename T, int LANES, int N>
struct Pieces {
  typedef T Part __attribute__((vector_size(LANES * sizeof(T))));
  Part part;
  Pieces<T, LANES, N - LANES> rest;
};
template <typename T, int LANES>
struct Pieces<T, LANES, 0> {};

// Eight numbers, whatever the width of a vector.
template <typename T>
using Eight = Pieces<T, (WIDTH<T> < 8 ? WIDTH<T> : 8), 8>;

#define NNPKIT_PIECEWISE(OP)                                                                      \
  template <typename T, int L, int N>                                                             \
  NNPKIT_INLINE Pieces<T, L, N> operator OP(const Pieces<T, L, N> &a, const Pieces<T, L, N> &b) { \
    if constexpr (N == L)                                                                         \
      return {a.part OP b.part, {}};                                                              \
    else                                                                                          \
      return {a.part OP b.part, a.rest OP b.rest};                                                \
  }
NNPKIT_PIECEWISE(+)
NNPKIT_PIECEWISE(-)
NNPKIT_PIECEWISE(*)
#undef NNPKIT_PIECEWISE

template <typename T, int L, int N>
NNPKIT_INLINE Pieces<T, L, N> operator*(const Pieces<T, L, N> &a, T b) {
  if constexpr (N == L)
    return {a.part * b, {}};
  else
    return {a.part * b, a.rest * b};
}
template <typename T, int L, int N>
NNPKIT_INLINE Pieces<T, L, N> operator+(const Pieces<T, L, N> &a, T b) {
  if constexpr (N == L)
    return {a.part + b, {}};
  else
    return {a.part + b, a.rest + b};
}
template <typename T, int L, int N>
NNPKIT_INLINE void operator+=(Pieces<T, L, N> &a, const Pieces<T, L, N> &b) {
  a.part += b.part;
  if constexpr (N > L) a.rest += b.rest;
}

template <typename T>
NNPKIT_INLINE Vector<T> load(const T *from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <typename T, typename V>
NNPKIT_INLINE void store(T *to, const V &v) {
  std::memcpy(to, &v, sizeof(v));
}

template <typename T, int L, int N>
NNPKIT_INLINE void load_pieces(const T *from, Pieces<T, L, N> &v) {
  std::memcpy(&v.part, from, sizeof(v.part));
  if constexpr (N > L) load_pieces(from + L, v.rest);
}

template <typename T>
NNPKIT_INLINE Eight<T> load_eight(const T *from) {
  Eight<T> v;
  load_pieces(from, v);
  return v;
}

template <typename T, int L, int N>
NNPKIT_INLINE void store(T *to, const Pieces<T, L, N> &v) {
  std::memcpy(to, &v.part, sizeof(v.part));
  if constexpr (N > L) store(to + L, v.rest);
}

template <typename T>
NNPKIT_INLINE Vector<T> all(T value) {
  return value - Vector<T>{};
}

template <typename To, typename From>
NNPKIT_INLINE To bits_as(const From &from) {
  static_assert(sizeof(To) == sizeof(From), "a change of type, not of size");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename V>
NNPKIT_INLINE V larger(const V &a, const V &b) {
#if defined(NNPKIT_ISA_avx512)
  if constexpr (sizeof(a[0]) == 8)
    return (V)_mm512_max_pd((__m512d)a, (__m512d)b);
  else
    return (V)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(NNPKIT_ISA_avx2)
  if constexpr (sizeof(a[0]) == 8)
    return (V)_mm256_max_pd((__m256d)a, (__m256d)b);
  else
    return (V)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
template <typename V>
NNPKIT_INLINE V smaller(const V &a, const V &b) {
#if defined(NNPKIT_ISA_avx512)
  if constexpr (sizeof(a[0]) == 8)
    return (V)_mm512_min_pd((__m512d)a, (__m512d)b);
  else
    return (V)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(NNPKIT_ISA_avx2)
  if constexpr (sizeof(a[0]) == 8)
    return (V)_mm256_min_pd((__m256d)a, (__m256d)b);
  else
    return (V)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}

NNPKIT_INLINE Vector<double> square_root(const Vector<double> &x) {
#if defined(NNPKIT_ISA_avx512)
  return (Vector<double>)_mm512_sqrt_pd((__m512d)x);
#elif defined(NNPKIT_ISA_avx2)
  return (Vector<double>)_mm256_sqrt_pd((__m256d)x);
#else
  Vector<double> y;
  for (int k = 0; k < WIDTH<double>; k++) y[k] = __builtin_sqrt(x[k]);
  return y;
#endif
}

NNPKIT_INLINE Vector<float> square_root(const Vector<float> &x) {
#if defined(NNPKIT_ISA_avx512)
  return (Vector<float>)_mm512_sqrt_ps((__m512)x);
#elif defined(NNPKIT_ISA_avx2)
  return (Vector<float>)_mm256_sqrt_ps((__m256)x);
#else
  Vector<float> y;
  for (int k = 0; k < WIDTH<float>; k++) y[k] = __builtin_sqrtf(x[k]);
  return y;
#endif
}

// rows[N * t + n] = v[n][t]
template <typename T, int N>
NNPKIT_INLINE void store_rows(T *rows, const Vector<T> (&v)[N]) {
  constexpr int W = WIDTH<T>;
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (W == 8 && N == 8) {  // in three rounds of the cheapest shuffles: of pairs, then of halves
    const Integers<T> even = {0, 8, 2, 10, 4, 12, 6, 14}, odd = {1, 9, 3, 11, 5, 13, 7, 15};
    const Integers<T> first = {0, 1, 2, 3, 8, 9, 10, 11}, last = {4, 5, 6, 7, 12, 13, 14, 15};
    const Integers<T> first_pairs = {0, 1, 4, 5, 8, 9, 12, 13}, last_pairs = {2, 3, 6, 7, 10, 11, 14, 15};
#pragma GCC unroll 2
    for (int t = 0; t < 2; t++) {
      const Integers<T> mine = t ? odd : even;
      const Vector<T> a = __builtin_shuffle(v[0], v[1], mine), b = __builtin_shuffle(v[2], v[3], mine);
      const Vector<T> c = __builtin_shuffle(v[4], v[5], mine), d = __builtin_shuffle(v[6], v[7], mine);
      const Vector<T> ab = __builtin_shuffle(a, b, first), cd = __builtin_shuffle(c, d, first);
      const Vector<T> ab_last = __builtin_shuffle(a, b, last), cd_last = __builtin_shuffle(c, d, last);
      store(rows + N * t, __builtin_shuffle(ab, cd, first_pairs));
      store(rows + N * (t + 2), __builtin_shuffle(ab, cd, last_pairs));
      store(rows + N * (t + 4), __builtin_shuffle(ab_last, cd_last, first_pairs));
      store(rows + N * (t + 6), __builtin_shuffle(ab_last, cd_last, last_pairs));
    }
    return;
  }
  if constexpr (W >= 4) {
    Integers<T> low, high;
    for (int k = 0; k < W; k++) {
      low[k] = k / 2 + (k % 2) * W;
      high[k] = low[k] + W / 2;
    }
    Vector<T> from[N], to[N];
    for (int n = 0; n < N; n++) from[n] = v[n];
    // every round threads two sequences at a time into one
#pragma GCC unroll 4
    for (int length = 1; length < N; length *= 2) {
#pragma GCC unroll 8
      for (int n = 0; n < N / 2; n++) {
        to[2 * n] = __builtin_shuffle(from[n], from[n + N / 2], low);
        to[2 * n + 1] = __builtin_shuffle(from[n], from[n + N / 2], high);
      }
#pragma GCC unroll 8
      for (int n = 0; n < N; n++) from[n] = to[n];
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) store(rows + n * W, from[n]);
    return;
  }
#endif
  for (int t = 0; t < W; t++)
    for (int n = 0; n < N; n++) rows[N * t + n] = v[n][t];
}

// Sum over lanes, always in the same order.
template <typename T>
NNPKIT_INLINE double sum_lanes(const Vector<T> &v) {
  double parts[WIDTH<T>];
  for (int k = 0; k < WIDTH<T>; k++) parts[k] = static_cast<double>(v[k]);
  for (int half = WIDTH<T> / 2; half > 0; half /= 2)
    for (int k = 0; k < half; k++) parts[k] += parts[k + half];
  return parts[0];
}

// The sums over lanes of four vectors, always in the same order.
template <typename T>
NNPKIT_INLINE void sum_four(const Vector<T> &a, const Vector<T> &b, const Vector<T> &c, const Vector<T> &d,
                            T *sums) {
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
    const Vector<T> ab = __builtin_shuffle(a, b, low) + __builtin_shuffle(a, b, high);
    const Vector<T> cd = __builtin_shuffle(c, d, low) + __builtin_shuffle(c, d, high);
    // a b c d a b c d ...
    Vector<T> v = __builtin_shuffle(ab, cd, low_pairs) + __builtin_shuffle(ab, cd, high_pairs);
    T parts[W];
    store(parts, v);
    for (int k = 0; k < 4; k++) {
      T sum = parts[k];
      for (int n = 4 + k; n < W; n += 4) sum += parts[n];
      sums[k] = sum;
    }
    return;
  }
#endif
  T parts[4] = {};
  for (int k = 0; k < W; k++) {
    parts[0] += a[k];
    parts[1] += b[k];
    parts[2] += c[k];
    parts[3] += d[k];
  }
  for (int n = 0; n < 4; n++) sums[n] = parts[n];
}

// ---- functions -------------------------------------------------------------------------------------------

// exp(x), to one or two units in the last place; x is kept within what a normal number can hold.
NNPKIT_INLINE Vector<double> exponential(Vector<double> x) {
  typedef Vector<double> V;
  typedef Integers<double> I;
  x = larger(smaller(x, all(708.0)), all(-708.0));
  const V shifted = x * 1.4426950408889634 + 6755399441055744.0;  // 1.5 * 2^52: rounds to an integer
  const V n = shifted - 6755399441055744.0;
  const V r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  // within 5e-18 of exp for |r| < ln(2)/2; in pairs, because a chain of sums would be waited for
  const V r2 = r * r, r4 = r2 * r2;
  const V a = r * 1.666666666666668082e-1 + 5.0000000000000184039e-1;
  const V b = r * 8.3333333333195896163e-3 + 4.166666666648795252e-2;
  const V c = r * 1.9841269890076402829e-4 + 1.3888888952352862866e-3;
  const V d = r * 2.7557240887229868596e-6 + 2.4801485441561312966e-5;
  const V e = r * 2.5110049204818659793e-8 + 2.763265472252779189e-7;
  const V p = ((a + b * r2) + (c + d * r2 + e * r4) * r4) * r2 + r + 1.0;
  return bits_as<V>(bits_as<I>(p) + (bits_as<I>(shifted) << 52));
}

NNPKIT_INLINE Vector<float> exponential(Vector<float> x) {
  typedef Vector<float> V;
  typedef Integers<float> I;
  x = larger(smaller(x, all(87.0f)), all(-87.0f));
  const V shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23
  const V n = shifted - 12582912.0f;
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  // within 3e-9
  const V r2 = r * r;
  const V a = r * 1.666641541404117843e-1f + 5.0000000471460574196e-1f;
  const V b = r * 8.3751347746243251734e-3f + 4.1666352772711211265e-2f;
  const V p = (a + (b + r2 * 1.3941118895837000817e-3f) * r2) * r2 + r + 1.0f;
  return bits_as<V>(bits_as<I>(p) + (bits_as<I>(shifted) << 23));
}

// tanh(x), to about one unit in the last place of 1.
template <typename T>
NNPKIT_INLINE Vector<T> hyperbolic_tangent(const Vector<T> &x) {
  typedef Vector<T> V;
  const V e = exponential(x < T(0) ? x + x : -(x + x));
  const V y = (T(1) - e) / (T(1) + e);
  return x < T(0) ? -y : y;
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
