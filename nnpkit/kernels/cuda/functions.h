// Cutoff and activation functions for one number. The products keep their relative precision where they
// vanish.

#ifndef NNPKIT_CUDA_FUNCTIONS_H
#define NNPKIT_CUDA_FUNCTIONS_H

#include "acsf_plan.h"
#include "device.h"

namespace nnpkit {
namespace cuda {

using acsf::Activation;
using acsf::CutoffKind;

template <typename T>
__host__ __device__ inline T at_least(T value, T bound) {
  return value > bound ? value : bound;
}

// fc and (dfc/dr) / (fc r); both zero from the radius on.
template <typename T>
__host__ __device__ inline void cutoff_at(CutoffKind kind, T radius, T inner, T r, T &value, T &slope) {
  const T tiny = sizeof(T) == 8 ? T(1e-18) : T(1e-9);
  value = slope = T(0);
  if (!(r < radius)) return;
  switch (kind) {
    case CutoffKind::HARD:
      value = T(1);
      return;
    case CutoffKind::TANH3:
    case CutoffKind::TANH3_NORMALIZED: {
      const T t = at_least(tanh(T(1) - r / radius), tiny);
      value = t * t * t;
      if (kind == CutoffKind::TANH3_NORMALIZED) value *= T(2.2637537952253513);  // 1 / tanh(1)^3
      slope = T(-3) * (T(1) - t * t) / (t * radius * r);
      return;
    }
    case CutoffKind::EXPONENTIAL: {
      const T y = r / radius;
      const T inside = T(1) / at_least((T(1) - y) * (T(1) + y), sizeof(T) == 8 ? T(1e-18) : T(1e-7));
      value = exp(T(1) - inside);
      slope = inside * inside * (T(-2) / (radius * radius));
      return;
    }
    default:
      break;
  }
  // u = (rc - r) / (rc - ri), from 1 at the inner radius to 0
  const T width = T(1) / (radius - inner), u = at_least((radius - r) * width, tiny), x = T(1) - u;
  value = T(1);
  if (!(u < T(1))) return;
  if (kind == CutoffKind::COSINE) {
    const T angle = u * T(1.5707963267948966), s = sin(angle);
    value = s * s;
    slope = cos(angle) / s * (T(-3.141592653589793) * width) / r;
    return;
  }
  // (1 - x)^n (1 + n x + n (n + 1) / 2 x^2 + ...), whose derivative is -c (x (1 - x))^(n - 1)
  T rest, top, power = u * u;
  if (kind == CutoffKind::POLY1) {
    rest = T(2) * x + T(1);
    top = T(-6) * x;
  } else if (kind == CutoffKind::POLY2) {
    power *= u;
    rest = (T(6) * x + T(3)) * x + T(1);
    top = T(-30) * x * x;
  } else if (kind == CutoffKind::POLY3) {
    power *= u * u;
    rest = ((T(20) * x + T(10)) * x + T(4)) * x + T(1);
    top = T(-140) * x * x * x;
  } else {
    power *= u * u * u;
    rest = (((T(70) * x + T(35)) * x + T(15)) * x + T(5)) * x + T(1);
    top = T(-630) * x * x * x * x;
  }
  value = power * rest;
  slope = top * width / (u * rest * r);
}

template <typename T>
__host__ __device__ inline T logistic(T x) {
  const T e = exp(x < T(0) ? x : -x);
  return x < T(0) ? e / (T(1) + e) : T(1) / (T(1) + e);
}

// f(x) and f'(x)
template <typename T>
__host__ __device__ inline void activation_at(Activation kind, T x, T &value, T &derivative) {
  switch (kind) {
    case Activation::TANH:
      value = tanh(x);
      derivative = T(1) - value * value;
      return;
    case Activation::LINEAR:
      value = x;
      derivative = T(1);
      return;
    case Activation::LOGISTIC:
      value = logistic(x);
      derivative = value * (T(1) - value);
      return;
    case Activation::SOFTPLUS:
      value = (x > T(0) ? x : T(0)) + log1p(exp(x > T(0) ? -x : x));
      derivative = logistic(x);
      return;
    case Activation::GAUSSIAN:
      value = exp(T(-0.5) * x * x);
      derivative = -x * value;
      return;
    case Activation::COSINE:
      value = cos(x);
      derivative = -sin(x);
      return;
    case Activation::RELU:
      value = x > T(0) ? x : T(0);
      derivative = x > T(0) ? T(1) : T(0);
      return;
    case Activation::REVERSE_LOGISTIC:
      value = logistic(-x);
      derivative = -value * (T(1) - value);
      return;
    case Activation::EXPONENTIAL:
      value = exp(-x);
      derivative = -value;
      return;
    case Activation::HARMONIC:
      value = x * x;
      derivative = T(2) * x;
      return;
  }
}

}  // namespace cuda
}  // namespace nnpkit

#endif
