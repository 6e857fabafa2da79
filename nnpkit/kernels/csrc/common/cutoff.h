// Cutoff functions, for processors and GPUs.
//
// Every function is written as a product, so that it keeps its relative precision where it goes to zero, and
// comes with slope = (dfc/dr) / (fc r): all that a gradient needs, since dE/dr = (E/fc) dfc/dr. Internal
// linkage, as in activation.h.

#ifndef NNPKIT_CUTOFF_H
#define NNPKIT_CUTOFF_H

#include "anywhere.h"

#include <math.h>

namespace nnpkit {

// In the order of nnpkit.models.cutoff.CUTOFF_KINDS.
enum class CutoffKind { HARD, COSINE, TANH3, TANH3_NORMALIZED, EXPONENTIAL, POLY1, POLY2, POLY3, POLY4 };

// Their names in model files, in the same order.
constexpr const char *CUTOFF_NAMES[] = {
    "hard", "cosine", "tanh3", "tanh3_normalized", "exponential", "poly1", "poly2", "poly3", "poly4"};

// 1 / tanh(1)^3
constexpr double TANH3_NORM = 2.2637537952253513;

// Parts of the polynomial cutoffs at x, from 0 at the inner radius to 1, and w = 1 - x above zero: the value
// w^n (1 + n x + n (n + 1) / 2 x^2 + ...), and the derivative by x over the value, divided by r.
// V is a number or a vector of numbers of type T.
template <CutoffKind KIND, typename T, typename V>
static NNPKIT_ANYWHERE void polynomial_cutoff(const V &x, const V &w, const V &r, V &value, V &slope) {
  static_assert(KIND == CutoffKind::POLY1 || KIND == CutoffKind::POLY2 || KIND == CutoffKind::POLY3 ||
                    KIND == CutoffKind::POLY4,
                "not a polynomial");
  V rest, top;
  if constexpr (KIND == CutoffKind::POLY1) {
    rest = T(2) * x + T(1);
    top = T(-6) * x;
    value = w * w * rest;
  } else if constexpr (KIND == CutoffKind::POLY2) {
    rest = (T(6) * x + T(3)) * x + T(1);
    top = T(-30) * x * x;
    value = w * w * w * rest;
  } else if constexpr (KIND == CutoffKind::POLY3) {
    rest = ((T(20) * x + T(10)) * x + T(4)) * x + T(1);
    top = T(-140) * x * x * x;
    value = w * w * w * w * rest;
  } else {
    rest = (((T(70) * x + T(35)) * x + T(15)) * x + T(5)) * x + T(1);
    top = T(-630) * x * x * x * x;
    value = w * w * w * w * w * rest;
  }
  slope = top / (w * rest * r);
}

// fc and (dfc/dr) / (fc r) of one distance; both zero from the radius on. fc is 1 below the inner radius.
template <typename T>
static NNPKIT_ANYWHERE void cutoff_at(CutoffKind kind, T radius, T inner, T r, T &value, T &slope) {
  const T tiny = sizeof(T) == 8 ? T(1e-18) : T(1e-9);
  value = slope = T(0);
  if (!(r < radius)) return;
  switch (kind) {
    case CutoffKind::HARD:
      value = T(1);
      return;
    case CutoffKind::TANH3:
    case CutoffKind::TANH3_NORMALIZED: {
      const T exact = tanh(T(1) - r / radius), t = exact > tiny ? exact : tiny;
      value = t * t * t;
      if (kind == CutoffKind::TANH3_NORMALIZED) value *= T(TANH3_NORM);
      slope = T(-3) * (T(1) - t * t) / (t * radius * r);
      return;
    }
    case CutoffKind::EXPONENTIAL: {
      const T y = r / radius, rest = (T(1) - y) * (T(1) + y), least = sizeof(T) == 8 ? T(1e-18) : T(1e-7);
      const T inside = T(1) / (rest > least ? rest : least);
      value = exp(T(1) - inside);
      slope = inside * inside * (T(-2) / (radius * radius));
      return;
    }
    default:
      break;
  }
  // u = (rc - r) / (rc - ri), from 1 at the inner radius to 0
  const T width = T(1) / (radius - inner), exact = (radius - r) * width;
  const T u = exact > tiny ? exact : tiny, x = T(1) - u;
  value = T(1);
  if (!(u < T(1))) return;
  switch (kind) {
    case CutoffKind::COSINE: {
      const T angle = u * T(1.5707963267948966), s = sin(angle);
      value = s * s;
      slope = cos(angle) / s * (T(-3.141592653589793) * width) / r;
      return;
    }
    case CutoffKind::POLY1:
      polynomial_cutoff<CutoffKind::POLY1, T>(x, u, r, value, slope);
      break;
    case CutoffKind::POLY2:
      polynomial_cutoff<CutoffKind::POLY2, T>(x, u, r, value, slope);
      break;
    case CutoffKind::POLY3:
      polynomial_cutoff<CutoffKind::POLY3, T>(x, u, r, value, slope);
      break;
    default:
      polynomial_cutoff<CutoffKind::POLY4, T>(x, u, r, value, slope);
  }
  slope *= width;
}

}  // namespace nnpkit

#endif
