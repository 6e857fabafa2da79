// Activation functions of one number, for processors and GPUs.
//
// Everything here has internal linkage: sources that are compiled once for each instruction set include it,
// and the linker must not take the one of the newest for all.

#ifndef NNPKIT_ACTIVATION_H
#define NNPKIT_ACTIVATION_H

#include "anywhere.h"

#include <math.h>

namespace nnpkit {

// In the order of nnpkit.models.networks.ACTIVATIONS.
enum class Activation {
  TANH,
  LINEAR,
  LOGISTIC,
  SOFTPLUS,
  GAUSSIAN,
  COSINE,
  RELU,
  REVERSE_LOGISTIC,
  EXPONENTIAL,
  HARMONIC
};

// Their names in model files, in the same order.
constexpr const char *ACTIVATION_NAMES[] = {"tanh",        "linear",  "logistic", "softplus",
                                            "gaussian",    "cosine",  "relu",     "reverse_logistic",
                                            "exponential", "harmonic"};

template <typename T>
static NNPKIT_ANYWHERE T logistic(T x) {
  const T e = exp(x < T(0) ? x : -x);
  return x < T(0) ? e / (T(1) + e) : T(1) / (T(1) + e);
}

// f(x) and f'(x)
template <typename T>
static NNPKIT_ANYWHERE void activation_at(Activation kind, T x, T &value, T &derivative) {
  switch (kind) {
    case Activation::TANH:
      value = tanh(x);
      derivative = T(1) - value * value;
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
    case Activation::LINEAR:
      break;
  }
  value = x;
  derivative = T(1);
}

// f''(x), from x, f(x) and f'(x)
template <typename T>
static NNPKIT_ANYWHERE T activation_curvature(Activation kind, T x, T value, T derivative) {
  switch (kind) {
    case Activation::TANH:
      return T(-2) * value * derivative;
    case Activation::LOGISTIC:
      return derivative * (T(1) - T(2) * value);
    case Activation::SOFTPLUS:
      return derivative * (T(1) - derivative);
    case Activation::GAUSSIAN:
      return (x * x - T(1)) * value;
    case Activation::COSINE:
      return -value;
    case Activation::REVERSE_LOGISTIC:
      return derivative * (T(2) * value - T(1));
    case Activation::EXPONENTIAL:
      return value;
    case Activation::HARMONIC:
      return T(2);
    case Activation::LINEAR:
    case Activation::RELU:
      break;
  }
  return T(0);
}

}  // namespace nnpkit

#endif
