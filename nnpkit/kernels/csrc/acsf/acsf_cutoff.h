// The cutoff functions of cutoff.h for many distances at once, with exponentials and sines that are made for
// vectors. Included by acsf_isa.cpp only.

#ifndef NNPKIT_ACSF_CUTOFF_H
#define NNPKIT_ACSF_CUTOFF_H

#include "acsf_plan.h"
#include "simd.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::Cutoff;

// sin(x) and cos(x) for 0 <= x <= pi/2
template <typename T>
NNPKIT_INLINE void sine_and_cosine(const Vector<T> &x, Vector<T> &sine, Vector<T> &cosine) {
  typedef Vector<T> V;
  const V y = x * x;
  V s = all(T(1)), c = all(T(1));
  constexpr int TERMS = sizeof(T) == 8 ? 11 : 6;
  for (int n = TERMS; n > 0; n--) {
    s = T(1) - s * y * T(1.0 / ((2 * n) * (2 * n + 1)));
    c = T(1) - c * y * T(1.0 / ((2 * n - 1) * (2 * n)));
  }
  sine = s * x;
  cosine = c;
}

// fc and slope at distance r, below the radius
template <typename T, CutoffKind KIND>
NNPKIT_INLINE void envelope(const Cutoff<T> &cutoff, const Vector<T> &r, Vector<T> &value, Vector<T> &slope) {
  typedef Vector<T> V;
  constexpr T TINY = sizeof(T) == 8 ? T(1e-18) : T(1e-9);
  if constexpr (KIND == CutoffKind::HARD) {
    value = all(T(1));
    slope = V{};
  } else if constexpr (KIND == CutoffKind::TANH3 || KIND == CutoffKind::TANH3_NORMALIZED) {
    // t = tanh(1 - r/rc) = d / (e + 1) with e = exp(2 (1 - r/rc)), d = e - 1; dt/dr / t = -4 e / (rc (e + 1)
    // d)
    const V e = exponential(T(2) - r * (T(2) / cutoff.radius));
    const V d = larger(e - T(1), all(TINY)), s = e + T(1);
    const V common = T(1) / (d * s * r);
    const V t = d * d * r * common;
    value = t * t * t;
    if constexpr (KIND == CutoffKind::TANH3_NORMALIZED) value *= T(TANH3_NORM);
    slope = e * common * (T(-12) / cutoff.radius);
  } else if constexpr (KIND == CutoffKind::EXPONENTIAL) {
    const V y = r * (T(1) / cutoff.radius);
    const V inside = T(1) / larger((T(1) - y) * (T(1) + y), all(sizeof(T) == 8 ? T(1e-18) : T(1e-7)));
    value = exponential(T(1) - inside);
    slope = inside * inside * (T(-2) / (cutoff.radius * cutoff.radius));
  } else {
    // u = (rc - r) / (rc - ri), from 1 at the inner radius to 0
    const T width = T(1) / (cutoff.radius - cutoff.inner);
    const V u = (cutoff.radius - r) * width;
    const V x = T(1) - u;
    if constexpr (KIND == CutoffKind::COSINE) {
      V s, c;
      sine_and_cosine<T>(larger(smaller(u, all(T(1))), all(TINY)) * T(1.5707963267948966), s, c);
      value = s * s;
      slope = c / (s * r) * (T(-3.141592653589793) * width);
    } else {
      polynomial_cutoff<KIND, T>(x, larger(u, all(TINY)), r, value, slope);
      slope *= width;
    }
    const V zero = {};
    value = u < T(1) ? value : all(T(1));
    slope = u < T(1) ? slope : zero;
  }
}

template <typename T, CutoffKind KIND>
static void envelopes_of(const Cutoff<T> cutoff, const T *r2, int n, T *value, T *slope) {
  typedef Vector<T> V;
  const T limit = cutoff.radius * cutoff.radius;
  const V zero = {};
  for (int at = 0; at < n; at += WIDTH<T>) {
    const V square = load(r2 + at), r = square_root(square);
    V v, s;
    envelope<T, KIND>(cutoff, r, v, s);
    store(value + at, square < limit ? v : zero);
    store(slope + at, square < limit ? s : zero);
  }
}

// fc and slope for n squared distances; both zero beyond the radius
template <typename T>
static void envelopes(const Cutoff<T> &cutoff, const T *r2, int n, T *value, T *slope) {
  switch (cutoff.kind) {
    case CutoffKind::HARD:
      return envelopes_of<T, CutoffKind::HARD>(cutoff, r2, n, value, slope);
    case CutoffKind::COSINE:
      return envelopes_of<T, CutoffKind::COSINE>(cutoff, r2, n, value, slope);
    case CutoffKind::TANH3:
      return envelopes_of<T, CutoffKind::TANH3>(cutoff, r2, n, value, slope);
    case CutoffKind::TANH3_NORMALIZED:
      return envelopes_of<T, CutoffKind::TANH3_NORMALIZED>(cutoff, r2, n, value, slope);
    case CutoffKind::EXPONENTIAL:
      return envelopes_of<T, CutoffKind::EXPONENTIAL>(cutoff, r2, n, value, slope);
    case CutoffKind::POLY1:
      return envelopes_of<T, CutoffKind::POLY1>(cutoff, r2, n, value, slope);
    case CutoffKind::POLY2:
      return envelopes_of<T, CutoffKind::POLY2>(cutoff, r2, n, value, slope);
    case CutoffKind::POLY3:
      return envelopes_of<T, CutoffKind::POLY3>(cutoff, r2, n, value, slope);
    case CutoffKind::POLY4:
      return envelopes_of<T, CutoffKind::POLY4>(cutoff, r2, n, value, slope);
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
