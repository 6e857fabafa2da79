// Radial functions and spherical harmonics of a vector of neighbours. Included by cluster_isa.cpp only.

#ifndef NNPKIT_CLUSTER_BASIS_H
#define NNPKIT_CLUSTER_BASIS_H

#include "cluster_plan.h"
#include "simd.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::Basis;
using cluster::CutoffKind;

// 1 / sqrt(x), to one or two units in the last place
template <typename T>
NNPKIT_INLINE Vector<T> inverse_root(const Vector<T> &x) {
#if defined(NNPKIT_ISA_avx512)
  typedef Vector<T> V;
  V y;
  if constexpr (sizeof(T) == 8)
    y = (V)_mm512_rsqrt14_pd((__m512d)x);
  else
    y = (V)_mm512_rsqrt14_ps((__m512)x);
  // two steps of third order from 2^-14, or one of second
  V e = T(1) - x * y * y;
  if constexpr (sizeof(T) == 8) {
    y += y * e * (T(0.375) * e + T(0.5));
    e = T(1) - x * y * y;
  }
  return y + y * e * T(0.5);
#else
  return T(1) / square_root(x);
#endif
}

// sin(x) and cos(x) for 0 <= x <= pi/4: their series, as far as they matter
template <typename T>
NNPKIT_INLINE void small_sine_and_cosine(const Vector<T> &x, Vector<T> &sine, Vector<T> &cosine) {
  typedef Vector<T> V;
  constexpr double SINE[] = {1.0,          -1.0 / 6,        1.0 / 120,        -1.0 / 5040,
                             1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000};
  constexpr double COSINE[] = {1.0,         -1.0 / 2,       1.0 / 24,        -1.0 / 720,
                               1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200};
  constexpr int TERMS = sizeof(T) == 8 ? 8 : 5;
  const V y = x * x;
  V s = all(T(SINE[TERMS - 1])), c = all(T(COSINE[TERMS - 1]));
  if constexpr (sizeof(T) == 8) c += y * T(1.0 / 20922789888000);
#pragma GCC unroll 8
  for (int n = TERMS - 2; n >= 0; n--) {
    s = s * y + T(SINE[n]);
    c = c * y + T(COSINE[n]);
  }
  sine = s * x;
  cosine = c;
}

// Chebyshev polynomials of x (see Basis) times half the cutoff function, one after the other.
template <typename T>
struct Recurrence {
  Vector<T> half, half_slope;  // fc / 2 and its derivative by r, zero beyond the cutoff
  Vector<T> x2, x2_slope;      // 2 x, and its derivative by r
  Vector<T> last, value, last_slope, slope;
};

// Of the functions 0 (last) and 1 (value).
template <typename T>
NNPKIT_INLINE Recurrence<T> start(const Basis<T> &basis, const Vector<T> &r) {
  typedef Vector<T> V;
  const T over = T(1) / basis.cutoff;
  const V u = larger(T(1) - r * over, V{});
  Recurrence<T> t;
  if (basis.kind == CutoffKind::COSINE) {
    V sine, cosine;
    small_sine_and_cosine<T>(u * T(0.78539816339744831), sine, cosine);
    const V s = T(2) * sine * cosine, c = T(1) - T(2) * sine * sine;  // of pi/2 (1 - r / cutoff)
    t.half = T(0.5) * s * s;
    t.half_slope = s * c * (T(-1.5707963267948966) * over);
  } else {  // u^n (1 + n x + n (n + 1) / 2 x^2 + ...) with x = 1 - u
    const V x = T(1) - u, u2 = u * u, u3 = u2 * u;
    if (basis.kind == CutoffKind::POLY2) {
      t.half = u3 * ((T(3) * x + T(1.5)) * x + T(0.5));
      t.half_slope = x * x * u2 * (T(-15) * over);
    } else {
      t.half = u2 * u2 * (((T(10) * x + T(5)) * x + T(2)) * x + T(0.5));
      t.half_slope = x * x * x * u3 * (T(-70) * over);
    }
  }
  t.last = t.half;
  t.last_slope = t.half_slope;
  t.x2 = T(4) * basis.stretch * u * u - T(2);
  t.x2_slope = u * (T(-8) * basis.stretch * over);
  t.value = T(0.5) * t.x2 * t.half;
  t.slope = T(0.5) * (t.x2_slope * t.half + t.x2 * t.half_slope);
  return t;
}

template <typename T>
NNPKIT_INLINE void advance(Recurrence<T> &t) {
  const Vector<T> value = t.x2 * t.value - t.last;
  const Vector<T> slope = t.x2 * t.slope + (t.x2_slope * t.value - t.last_slope);
  t.last = t.value;
  t.last_slope = t.slope;
  t.value = value;
  t.slope = slope;
}

// Values and derivatives of all functions, (n, lanes) each.
template <typename T>
NNPKIT_INLINE void radial_functions(const Basis<T> &basis, const Vector<T> &r, T *values, T *slopes) {
  constexpr int W = WIDTH<T>;
  Recurrence<T> t = start(basis, r);
  for (int k = 0; k < basis.n; k++) {
    store(values + k * W, t.last + t.half);
    store(slopes + k * W, t.last_slope + t.half_slope);
    advance(t);
  }
}

// The polynomials of z that go with each m, of leading coefficient 1: derivatives of Legendre's polynomials.
// On the sphere z^2 = 1 - x^2 - y^2, so that harmonics are polynomials of z times (x + i y)^m.
template <typename T, int L>
struct Legendre {
  Vector<T> of[L + 1][L + 1];  // [l][m], m <= l
};

template <typename T, int L>
NNPKIT_INLINE Legendre<T, L> legendre(const Vector<T> &z) {
  Legendre<T, L> q;
#pragma GCC unroll 9
  for (int m = 0; m <= L; m++) {
    q.of[m][m] = all(T(1));
    if (m < L) q.of[m + 1][m] = z;
#pragma GCC unroll 9
    for (int l = m + 2; l <= L; l++) {
      const double factor = ((l - 1.0) * (l - 1.0) - m * m) / (4.0 * (l - 1.0) * (l - 1.0) - 1.0);
      q.of[l][m] = z * q.of[l - 1][m] - T(factor) * q.of[l - 2][m];
    }
  }
  return q;
}

// All harmonics of a vector of unit vectors, (rows, lanes).
template <typename T, int L>
NNPKIT_INLINE void harmonics(const Vector<T> &x, const Vector<T> &y, const Vector<T> &z, T *rows) {
  constexpr int W = WIDTH<T>;
  const Legendre<T, L> q = legendre<T, L>(z);
#pragma GCC unroll 9
  for (int l = 0; l <= L; l++) store(rows + l * W, q.of[l][0]);
  Vector<T> c = x, s = y;
  int row = L + 1;
#pragma GCC unroll 9
  for (int m = 1; m <= L; m++) {
#pragma GCC unroll 9
    for (int l = m; l <= L; l++, row += 2) {
      store(rows + row * W, q.of[l][m] * c);
      store(rows + (row + 1) * W, q.of[l][m] * s);
    }
    const Vector<T> next = c * x - s * y;
    s = s * x + c * y;
    c = next;
  }
}

// sum over rows of gradient[row] times the derivative of the polynomial; what of it is along the unit
// vector means nothing.
template <typename T, int L>
NNPKIT_INLINE void harmonics_gradient(const Vector<T> &x, const Vector<T> &y, const Vector<T> &z,
                                      const T *gradient, Vector<T> &along_x, Vector<T> &along_y,
                                      Vector<T> &along_z) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  const Legendre<T, L> q = legendre<T, L>(z);
  V dx = {}, dy = {}, dz = {};
#pragma GCC unroll 9
  for (int l = 1; l <= L; l++) dz += T(l) * q.of[l][1] * load(gradient + l * W);
  V c = x, s = y, c_below = all(T(1)), s_below = {};
  int row = L + 1;
#pragma GCC unroll 9
  for (int m = 1; m <= L; m++) {
    V by_c = {}, by_s = {};
#pragma GCC unroll 9
    for (int l = m; l <= L; l++, row += 2) {
      const V of_c = load(gradient + row * W), of_s = load(gradient + (row + 1) * W);
      by_c += q.of[l][m] * of_c;
      by_s += q.of[l][m] * of_s;
      if (l > m) dz += T(l - m) * q.of[l][m + 1] * (of_c * c + of_s * s);
    }
    dx += T(m) * (by_c * c_below + by_s * s_below);
    dy += T(m) * (by_s * c_below - by_c * s_below);
    const V next = c * x - s * y;
    c_below = c;
    s_below = s;
    s = s * x + c * y;
    c = next;
  }
  along_x = dx;
  along_y = dy;
  along_z = dz;
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
