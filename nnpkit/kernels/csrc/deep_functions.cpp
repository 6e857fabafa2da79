// Activation and cutoff functions without a fast path; see deep_stages.h.

#include "deep_stages.h"

#include <algorithm>
#include <cmath>

namespace nnpkit {
namespace deep {

namespace {

template <typename Real, typename Function>
void each(int64_t n, const Real *z, Real *y, Real *derivative, const Function &function) {
  for (int64_t k = 0; k < n; k++) {
    const Real x = z[k];
    function(x, y[k], derivative[k]);
  }
}

template <typename Real>
Real logistic(Real x) {
  return Real(1) / (Real(1) + std::exp(-x));
}

}  // namespace

template <typename Real>
void activate(Activation kind, int64_t n, const Real *z, Real *y, Real *derivative) {
  const auto apply = [&](const auto &function) { each(n, z, y, derivative, function); };
  switch (kind) {
    case Activation::TANH:
      return apply([](Real x, Real &f, Real &d) { f = std::tanh(x), d = Real(1) - f * f; });
    case Activation::LINEAR:
      return apply([](Real x, Real &f, Real &d) { f = x, d = Real(1); });
    case Activation::LOGISTIC:
      return apply([](Real x, Real &f, Real &d) { f = logistic(x), d = f * (Real(1) - f); });
    case Activation::SOFTPLUS:
      return apply([](Real x, Real &f, Real &d) {
        d = logistic(x);
        f = (x > Real(0) ? x : Real(0)) + std::log1p(std::exp(-std::abs(x)));
      });
    case Activation::GAUSSIAN:
      return apply([](Real x, Real &f, Real &d) { f = std::exp(-x * x / Real(2)), d = -x * f; });
    case Activation::COSINE:
      return apply([](Real x, Real &f, Real &d) { f = std::cos(x), d = -std::sin(x); });
    case Activation::RELU:
      return apply([](Real x, Real &f, Real &d) { f = x > Real(0) ? x : Real(0), d = Real(x > Real(0)); });
    case Activation::REVERSE_LOGISTIC:
      return apply([](Real x, Real &f, Real &d) { f = logistic(-x), d = -f * (Real(1) - f); });
    case Activation::EXPONENTIAL:
      return apply([](Real x, Real &f, Real &d) { f = std::exp(-x), d = -f; });
    case Activation::HARMONIC:
      return apply([](Real x, Real &f, Real &d) { f = x * x, d = x + x; });
  }
}

template void activate<double>(Activation, int64_t, const double *, double *, double *);
template void activate<float>(Activation, int64_t, const float *, float *, float *);

void cutoff_values(const Environment &e, int64_t n, const double *r, double *value, double *derivative) {
  const double scale = 1.0 / (e.cutoff - e.inner);
  const double peak = e.kind == Cutoff::TANH3_NORMALIZED ? std::pow(std::tanh(1.0), -3.0) : 1.0;
  for (int64_t k = 0; k < n; k++) {
    double f = 0.0, d = 0.0;
    const double u = std::min(std::max((r[k] - e.inner) * scale, 0.0), 1.0), u2 = u * u, v = 1.0 - u;
    const double y = r[k] / e.cutoff;
    if (r[k] < e.cutoff) switch (e.kind) {
        case Cutoff::HARD:
          f = 1.0;
          break;
        case Cutoff::COSINE:
          f = 0.5 * (std::cos(M_PI * u) + 1.0);
          d = -0.5 * M_PI * std::sin(M_PI * u) * scale;
          break;
        case Cutoff::TANH3:
        case Cutoff::TANH3_NORMALIZED: {
          const double t = std::tanh(1.0 - y);
          f = t * t * t * peak;
          d = -3.0 * t * t * (1.0 - t * t) * peak / e.cutoff;
          break;
        }
        case Cutoff::EXPONENTIAL: {
          const double rest = 1.0 - y * y;
          f = std::exp(1.0 - 1.0 / rest);
          d = -2.0 * y * f / (rest * rest * e.cutoff);
          break;
        }
        case Cutoff::POLY1:
          f = (2.0 * u - 3.0) * u2 + 1.0;
          d = -6.0 * u * v * scale;
          break;
        case Cutoff::POLY2:
          f = ((15.0 - 6.0 * u) * u - 10.0) * u2 * u + 1.0;
          d = -30.0 * u2 * v * v * scale;
          break;
        case Cutoff::POLY3:
          f = (((20.0 * u - 70.0) * u + 84.0) * u - 35.0) * u2 * u2 + 1.0;
          d = -140.0 * u2 * u * v * v * v * scale;
          break;
        case Cutoff::POLY4:
          f = ((((315.0 - 70.0 * u) * u - 540.0) * u + 420.0) * u - 126.0) * u2 * u2 * u + 1.0;
          d = -630.0 * u2 * u2 * v * v * v * v * scale;
          break;
      }
    value[k] = f;
    derivative[k] = d;
  }
}

}  // namespace deep
}  // namespace nnpkit
