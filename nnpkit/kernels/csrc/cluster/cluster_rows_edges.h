// Radial functions and harmonics of all edges of a centre with their derivatives, edge by edge, and sums of
// outer products over edges. Included by cluster_rows_isa.cpp only.

#ifndef NNPKIT_CLUSTER_ROWS_EDGES_H
#define NNPKIT_CLUSTER_ROWS_EDGES_H

#include "cluster_channels.h"
#include "cluster_rows_plan.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::MAX_L;
using cluster::Radial;
using cluster::RowsCenter;
using cluster::RowsPlan;
using cluster::Site;

typedef Eight<double> Octet;
constexpr double ROUNDING =
    1.0e-9;  // angstrom: whoever sorts the edges by their squares may see it otherwise

// sums (N, by_sums) += over n of y (n, by_y) times eight columns of h (n, by_h)
template <int N>
NNPKIT_INLINE void outer_tile(const double *y, int by_y, const double *h, int by_h, int n, double *sums,
                              int by_sums) {
  Octet sum[N];
#pragma GCC unroll 8
  for (int row = 0; row < N; row++) sum[row] = load_eight(sums + row * by_sums);
  for (; n > 0; n--, y += by_y, h += by_h) {
    const Octet column = load_eight(h);
#pragma GCC unroll 8
    for (int row = 0; row < N; row++) sum[row] += column * y[row];
  }
#pragma GCC unroll 8
  for (int row = 0; row < N; row++) store(sums + row * by_sums, sum[row]);
}

// sums (rows, wide) += over n of y (n, by_y) times h (n, wide); rows and wide are multiples of EIGHT
static void outer_sums(const double *y, int by_y, int rows, const double *h, int wide, int n, double *sums) {
  constexpr int N = VECTOR_BYTES == 64 ? 8 : 4;
  for (int column = 0; column < wide; column += EIGHT)
    for (int row = 0; row < rows; row += N)
      outer_tile<N>(y + row, by_y, h + column, wide, n, sums + row * wide + column, wide);
}

// sums (wide) += over n of weight[by_weight * n] times h (n, wide)
static void weighted_sum(const double *weight, int by_weight, const double *h, int wide, int n,
                         double *sums) {
  for (int column = 0; column < wide; column += EIGHT) {
    Octet even = load_eight(sums + column), odd = {};
    int k = 0;
    for (; k + 1 < n; k += 2) {
      even += load_eight(h + k * wide + column) * weight[k * by_weight];
      odd += load_eight(h + (k + 1) * wide + column) * weight[(k + 1) * by_weight];
    }
    if (k < n) even += load_eight(h + k * wide + column) * weight[k * by_weight];
    store(sums + column, even + odd);
  }
}

// rows[n] of WIDTH vectors of lanes, eight of them, to `to` (lanes, stride)
NNPKIT_INLINE void store_lanes(const double *rows, int n, double *to, int stride) {
  constexpr int W = WIDTH<double>;
  Vector<double> v[EIGHT];
#pragma GCC unroll 8
  for (int k = 0; k < EIGHT; k++) v[k] = k < n ? load(rows + k * W) : Vector<double>{};
  double turned[EIGHT * W];
  store_rows<double, EIGHT>(turned, v);
  for (int lane = 0; lane < W; lane++) store(to + lane * stride, load_eight(turned + EIGHT * lane));
}

// h_q and dh_q/dr of the edges from `at` on, one vector of them
NNPKIT_INLINE void combine(const Radial &radial, const Vector<double> &r, int at, double *lanes,
                           double *values, double *slopes) {
  typedef Vector<double> V;
  constexpr int W = WIDTH<double>;
  const int n = radial.basis.n, wide = radial.by_function();
  double *const f = lanes, *const df = f + n * W, *const h = df + n * W, *const dh = h + wide * W;
  radial_functions(radial.basis, r, f, df);
  for (int q = 0; q < n; q++) {
    V value = {}, slope = {};
    for (int k = 0; k < n; k++) {
      const double c = radial.combinations[q * n + k];
      value += load(f + k * W) * c;
      slope += load(df + k * W) * c;
    }
    store(h + q * W, value);
    store(dh + q * W, slope);
  }
  for (int q = 0; q < n; q += EIGHT) {
    store_lanes(h + q * W, n - q, values + at * wide + q, wide);
    store_lanes(dh + q * W, n - q, slopes + at * wide + q, wide);
  }
}

// As harmonics.py: values (rows, lanes) and derivatives by the components of the unit vector (3, rows,
// lanes).
static void harmonics_and_derivatives(const RowsPlan &plan, const Vector<double> &x, const Vector<double> &y,
                                      const Vector<double> &z, double *values, double *derivatives) {
  typedef Vector<double> V;
  constexpr int W = WIDTH<double>;
  const int l_max = plan.l_max, by_axis = plan.n_rows * W;
  V legendre[MAX_L + 2][MAX_L + 2];  // [m][l - m]
  double first = 1.0;
  for (int m = 0; m <= l_max + 1; m++) {
    V *const p = legendre[m];
    p[0] = all(first);
    if (l_max > m) p[1] = z * ((2.0 * m + 1.0) * first);
    for (int l = m + 2; l <= l_max; l++)
      p[l - m] = ((2.0 * l - 1.0) * z * p[l - m - 1] - (l + m - 1.0) * p[l - m - 2]) * (1.0 / (l - m));
    first *= 2.0 * m + 1.0;
  }
  V cosine = all(1.0), sine = {}, cosine_below = {}, sine_below = {};
  for (int m = 0; m <= l_max; m++) {
    for (int l = m > 0 ? m : 1; l <= l_max; l++) {
      const double norm = plan.norms[l * (l_max + 1) + m];
      const V value = legendre[m][l - m] * norm, across = value * static_cast<double>(m);
      const V along = l > m ? legendre[m + 1][l - m - 1] * norm : V{};
      double *const to = values + (l * l - 1 + (m > 0 ? 2 * m - 1 : 0)) * W;
      double *const by_x = derivatives + (to - values), *const by_y = by_x + by_axis,
                    *const by_z = by_y + by_axis;
      store(to, value * cosine);
      store(by_x, across * cosine_below);
      store(by_y, -(across * sine_below));
      store(by_z, along * cosine);
      if (m == 0) continue;
      store(to + W, value * sine);
      store(by_x + W, across * sine_below);
      store(by_y + W, across * cosine_below);
      store(by_z + W, along * sine);
    }
    cosine_below = cosine;
    sine_below = sine;
    const V next = x * cosine - y * sine;
    sine = x * sine + y * cosine;
    cosine = next;
  }
}

// Harmonics, and their changes with the components of the edge, of the edges from `at` on.
static void turn(const RowsPlan &plan, const Vector<double> (&u)[3], const Vector<double> &inverse, int at,
                 Site &site) {
  typedef Vector<double> V;
  constexpr int W = WIDTH<double>;
  const int rows = plan.n_rows;
  double *const values = site.lanes, *const derivatives = values + rows * W;
  harmonics_and_derivatives(plan, u[0], u[1], u[2], values, derivatives);
  for (int k = 0; k < plan.n_harmonics; k++) {  // of these what is across the edge
    V d[3];
    for (int axis = 0; axis < 3; axis++) d[axis] = load(derivatives + (axis * rows + k) * W);
    const V along = d[0] * u[0] + d[1] * u[1] + d[2] * u[2];
    for (int axis = 0; axis < 3; axis++)
      store(derivatives + (axis * rows + k) * W, (d[axis] - along * u[axis]) * inverse);
  }
  for (int k = 0; k < rows; k += EIGHT) {
    const int n = plan.n_harmonics - k;
    store_lanes(values + k * W, n, site.harmonics + at * rows + k, rows);
    for (int axis = 0; axis < 3; axis++)
      store_lanes(derivatives + (axis * rows + k) * W, n, site.turns + (3 * at + axis) * rows + k, 3 * rows);
  }
}

static void edge_functions(const RowsPlan &plan, Site &site) {
  typedef Vector<double> V;
  constexpr int W = WIDTH<double>;
  for (int at = 0; at < site.n_edges; at += W) {
    const V x = load(site.x + at), y = load(site.y + at), z = load(site.z + at);
    const V inverse = inverse_root<double>(x * x + y * y + z * z);
    const V r = (x * x + y * y + z * z) * inverse, u[3] = {x * inverse, y * inverse, z * inverse};
    combine(plan.radial, r, at, site.lanes, site.radial, site.radial_slope);
    bool near = false;
    for (int lane = 0; lane < W; lane++) near = near || r[lane] < plan.angular.basis.cutoff + ROUNDING;
    if (near) {
      combine(plan.angular, r, at, site.lanes, site.angular, site.angular_slope);
      turn(plan, u, inverse, at, site);
    }
    store(site.inverse + at, inverse);
    for (int lane = 0; lane < W; lane++)
      for (int axis = 0; axis < 3; axis++) site.unit[3 * (at + lane) + axis] = u[axis][lane];
  }
}

// Channels (n, wide) of functions (n, by_functions) with the coefficients of one type
static void mix_functions(const Radial &radial, const double *functions, int n, const double *coefficients,
                          double *channels) {
  const int wide = radial.by_channel();
  clear(channels, static_cast<int64_t>(n) * wide);
  mix(functions, n, radial.by_function(), radial.basis.n, coefficients, wide, channels);
}

static void mix_edges(const RowsPlan &plan, const RowsCenter &center, Site &site) {
  const int wide = plan.angular.by_channel(), functions = plan.angular.by_function();
  for (int t = 0; t < plan.n_types; t++) {
    const int at = site.begin[t];
    mix_functions(plan.radial, site.radial_slope + at * plan.radial.by_function(), site.n_all[t],
                  center.radial + t * plan.radial.basis.n * plan.radial.by_channel(),
                  site.radial_mixed + at * plan.radial.by_channel());
    const double *const coefficients = center.angular + t * plan.angular.basis.n * wide;
    mix_functions(plan.angular, site.angular + at * functions, site.n_near[t], coefficients,
                  site.mixed + at * wide);
    mix_functions(plan.angular, site.angular_slope + at * functions, site.n_near[t], coefficients,
                  site.mixed_slope + at * wide);
  }
}

// Sum over eight numbers, always in the same order.
NNPKIT_INLINE double sum_eight(const double *v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
NNPKIT_INLINE double sum_octet(const Octet &v) {
  double parts[EIGHT];
  store(parts, v);
  return sum_eight(parts);
}

// S times the harmonics of an edge (0) and their changes with its components (1 to 3), for eight channels
NNPKIT_INLINE void through_edge(const RowsPlan &plan, const Site &site, int edge, int column,
                                Octet (&sum)[4]) {
  const int rows = plan.n_rows, wide = plan.angular.by_channel();
  const double *const y = site.harmonics + edge * rows, *const d = site.turns + 3 * edge * rows;
  sum[0] = sum[1] = sum[2] = sum[3] = Octet{};
  const double *slope = site.slope + column;
  for (int k = 0; k < plan.n_harmonics; k++, slope += wide) {
    const Octet s = load_eight(slope);
    sum[0] += s * y[k];
    sum[1] += s * d[k];
    sum[2] += s * d[rows + k];
    sum[3] += s * d[2 * rows + k];
  }
}

static void edge_gradient(const RowsPlan &plan, const RowsCenter &, Site &site) {
  const int wide = plan.angular.by_channel(), radial_wide = plan.radial.by_channel();
  for (int t = 0; t < plan.n_types; t++)
    for (int k = 0; k < site.n_all[t]; k++) {
      const int e = site.begin[t] + k;
      double along = 0.0, across[3] = {};
      for (int c = 0; c < plan.radial.n_channels; c++)
        along += site.radial_mixed[e * radial_wide + c] * site.feature_slope[c];
      if (k < site.n_near[t])
        for (int c = 0; c < wide; c += EIGHT) {
          Octet through[4];
          through_edge(plan, site, e, c, through);
          along += sum_octet(through[0] * load_eight(site.mixed_slope + e * wide + c));
          const Octet g = load_eight(site.mixed + e * wide + c);
          for (int axis = 0; axis < 3; axis++) across[axis] += sum_octet(through[1 + axis] * g);
        }
      for (int axis = 0; axis < 3; axis++)
        site.gradient[3 * e + axis] = along * site.unit[3 * e + axis] + across[axis];
    }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
