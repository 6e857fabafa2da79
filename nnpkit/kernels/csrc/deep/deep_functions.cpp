// Activation and cutoff functions without a fast path; see deep_stages.h.

#include "deep_stages.h"

namespace nnpkit {
namespace deep {

template <typename Real>
void activate(Activation kind, int64_t n, const Real *z, Real *y, Real *derivative) {
  for (int64_t k = 0; k < n; k++) activation_at(kind, Real(z[k]), y[k], derivative[k]);
}

template void activate<double>(Activation, int64_t, const double *, double *, double *);
template void activate<float>(Activation, int64_t, const float *, float *, float *);

void cutoff_values(const Environment &e, int64_t n, const double *r, double *value, double *derivative) {
  for (int64_t k = 0; k < n; k++) {
    double slope;
    cutoff_at(e.kind, e.cutoff, e.inner, r[k], value[k], slope);
    derivative[k] = slope * value[k] * r[k];
  }
}

}  // namespace deep
}  // namespace nnpkit
