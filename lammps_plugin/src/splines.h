// B-splines that spread charges over a mesh, and what they do to its waves.

#ifndef NNPKIT_SPLINES_H
#define NNPKIT_SPLINES_H

#include <algorithm>
#include <cmath>
#include <vector>

namespace nnpkit {

// M_order(t + j) for j = 0 ... order - 1, of B-splines that begin at 0.
inline void spline(int order, double t, double *values) {
  values[0] = 1.0;
  for (int n = 2; n <= order; n++) {
    values[n - 1] = 0.0;
    for (int j = n - 1; j >= 0; j--) {
      const double x = t + j, before = j > 0 ? values[j - 1] : 0.0;
      values[j] = (x * values[j] + (n - x) * before) / (n - 1);
    }
  }
}

// Of the waves along an axis of n points: U^2 / (sum of U^2 over all waves that the mesh cannot tell apart)^2
inline std::vector<double> influence_of_splines(int order, int n) {
  std::vector<double> twice(2 * static_cast<size_t>(order)), found;
  spline(2 * order, 0.0, twice.data());
  for (int m = 0; m < n; m++) {
    const double angle = 2.0 * 3.14159265358979323846 * std::min(m, n - m) / n;
    double sum = twice[order];
    for (int j = 1; j < order; j++) sum += 2.0 * twice[order + j] * std::cos(j * angle);
    const double single = m == 0 ? 1.0 : std::sin(0.5 * angle) / (0.5 * angle);
    found.push_back(std::pow(single, 2 * order) / (sum * sum));
  }
  return found;
}

}  // namespace nnpkit

#endif
