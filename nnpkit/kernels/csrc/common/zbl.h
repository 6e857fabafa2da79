// Energy and derivative of the screened nuclear repulsion of one pair, for processors and GPUs.

#ifndef NNPKIT_ZBL_H
#define NNPKIT_ZBL_H

#include "anywhere.h"

#include <math.h>

namespace nnpkit {

// Half the repulsion of a pair (an edge counts for its centre), eV, and d/dr of it. charges: Z_a Z_b; powers:
// Z_a^0.23 + Z_b^0.23; damped from half of `end` (angstrom) to zero there; r < end.
static NNPKIT_ANYWHERE double zbl_repulsion(double charges, double powers, double end, double r,
                                            double &slope) {
  constexpr double COULOMB = 14.399645478;  // e^2 / (4 pi epsilon_0), eV angstrom
  constexpr double INNER = 0.5;             // of the outer distance: the repulsion acts undamped below
  const double scale = powers / 0.46850, x = r * scale;
  const double terms[4] = {0.18175 * exp(-3.19980 * x), 0.50986 * exp(-0.94229 * x),
                           0.28022 * exp(-0.40290 * x), 0.02817 * exp(-0.20162 * x)};
  const double screening = terms[0] + terms[1] + terms[2] + terms[3];
  const double d_screening =
      -scale * (3.19980 * terms[0] + 0.94229 * terms[1] + 0.40290 * terms[2] + 0.20162 * terms[3]);
  const double inside = (r / end - INNER) / (1.0 - INNER), u = inside > 0.0 ? inside : 0.0;
  const double fc = ((15.0 - 6.0 * u) * u - 10.0) * u * u * u + 1.0;
  const double d_fc = -30.0 * u * u * (1.0 - u) * (1.0 - u) / (end * (1.0 - INNER));
  const double coulomb = 0.5 * COULOMB * charges / r;
  const double energy = coulomb * screening * fc;
  slope = coulomb * (d_screening * fc + screening * d_fc) - energy / r;
  return energy;
}

// The same with a screening and a range of the pair's own, as neuroevolution potentials have it
// (nnpkit.models.tabulated_zbl), and its second derivative; row: inner and outer distance, then amplitude and
// exponent of each term.
static NNPKIT_ANYWHERE double tabulated_repulsion(const double *row, double charges, double powers, double r,
                                                  double &slope, double &curvature) {
  constexpr double COULOMB = 14.399645, SCALE = 2.134563, PI = 3.14159265358979323846;
  const double scale = SCALE * powers, x = r * scale;
  double s = 0.0, s1 = 0.0, s2 = 0.0;  // screening and its derivatives
  for (int k = 2; k < 10; k += 2) {
    const double term = row[k] * exp(-row[k + 1] * x), rate = -scale * row[k + 1];
    s += term;
    s1 += rate * term;
    s2 += rate * rate * term;
  }
  double f = 1.0, f1 = 0.0, f2 = 0.0;  // switch
  if (r > row[0]) {
    const double rate = PI / (row[1] - row[0]), phase = rate * (r - row[0]);
    f = 0.5 * (1.0 + cos(phase));
    f1 = -0.5 * rate * sin(phase);
    f2 = -0.5 * rate * rate * cos(phase);
  }
  const double c = 0.5 * COULOMB * charges / r, c1 = -c / r, c2 = -2.0 * c1 / r;
  slope = c1 * s * f + c * (s1 * f + s * f1);
  curvature = c2 * s * f + 2.0 * c1 * (s1 * f + s * f1) + c * (s2 * f + 2.0 * s1 * f1 + s * f2);
  return c * s * f;
}

}  // namespace nnpkit

#endif
