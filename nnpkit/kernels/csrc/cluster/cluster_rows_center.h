// From the edges of a centre to its energy, first and second derivatives by its coefficients. Included by
// cluster_rows_isa.cpp only.

#ifndef NNPKIT_CLUSTER_ROWS_CENTER_H
#define NNPKIT_CLUSTER_ROWS_CENTER_H

#include "cluster_rows_edges.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::RowsLayer;
using cluster::SecondTerm;

static void describe_center(const RowsPlan &plan, const RowsCenter &center, Site &site) {
  const int wide = plan.angular.by_channel(), rows = plan.n_rows, n_types = plan.n_types;
  const int functions = plan.angular.by_function(), radial_functions = plan.radial.by_function();
  clear(site.radial_moments, n_types * radial_functions);
  clear(site.moments, static_cast<int64_t>(n_types) * rows * functions);
  clear(site.sums, plan.radial.by_channel());
  clear(site.coefficients, plan.n_harmonics * wide);
  const double one = 1.0;
  for (int t = 0; t < n_types; t++) {
    const int at = site.begin[t];
    double *const radial = site.radial_moments + t * radial_functions;
    weighted_sum(&one, 0, site.radial + at * radial_functions, radial_functions, site.n_all[t], radial);
    mix(radial, 1, radial_functions, plan.radial.basis.n,
        center.radial + t * plan.radial.basis.n * plan.radial.by_channel(), plan.radial.by_channel(),
        site.sums);
    double *const moments = site.moments + t * rows * functions;
    outer_sums(site.harmonics + at * rows, rows, rows, site.angular + at * functions, functions,
               site.n_near[t], moments);
    mix(moments, plan.n_harmonics, functions, plan.angular.basis.n,
        center.angular + t * plan.angular.basis.n * wide, wide, site.coefficients);
  }
  for (int c = 0; c < wide; c += EIGHT)
    evaluate_invariants(plan.invariants, site.coefficients + c, wide, site.invariants + c,
                        site.derivatives + c);
  double *out = site.features;
  for (int c = 0; c < plan.radial.n_channels; c++) *out++ = site.sums[c];
  for (int p = 0; p < plan.invariants.n; p++)
    for (int c = 0; c < plan.angular.n_channels; c++) *out++ = site.invariants[p * wide + c];
}

// f(z) in place of z, f'(z), f''(z)
static void activate_twice(Activation activation, double *z, double *first, double *second, int n) {
  typedef Vector<double> V;
  if (activation == Activation::TANH) {  // arrays are padded
    for (int at = 0; at < n; at += WIDTH<double>) {
      const V f = hyperbolic_tangent<double>(load(z + at)), f1 = 1.0 - f * f;
      store(z + at, f);
      store(first + at, f1);
      store(second + at, -2.0 * f * f1);
    }
    return;
  }
  for (int at = 0; at < n; at++) {
    double value;
    activation_at(activation, z[at], value, first[at]);
    second[at] = activation_curvature(activation, z[at], value, first[at]);
    z[at] = value;
  }
}

static void energy_of_center(const RowsPlan &plan, const RowsCenter &center, Site &site) {
  const int wide = plan.angular.by_channel(), n = plan.n_features;
  for (int f = 0; f < n; f++)
    site.inputs[f] = (site.features[f] - center.shift[f]) * center.factor[f] + center.lower;
  const double *in = site.inputs;
  double *node = site.node, *first = site.first, *second = site.second;
  for (int l = 0; l < center.n_layers; l++) {
    const RowsLayer &layer = center.layers[l];
    const int size = padded(layer.n_out);
    for (int o = 0; o < size; o++) node[o] = layer.bias[o];
    weighted_sum(in, 1, layer.transposed, size, layer.n_in, node);
    activate_twice(layer.activation, node, first, second, layer.n_out);
    in = node;
    node += size;
    first += size;
    second += size;
  }
  site.energy = center.energy_scale * in[0];
  double *u = site.node_back;  // of a direction, later
  u[0] = center.energy_scale;
  double *adjoint = site.adjoint + (node - site.node);
  for (int l = center.n_layers - 1; l >= 0; l--) {
    const RowsLayer &layer = center.layers[l];
    const int size = padded(layer.n_out);
    adjoint -= size;
    first -= size;
    second -= size;
    for (int o = 0; o < layer.n_out; o++) {
      second[o] *= u[o];
      adjoint[o] = first[o] * u[o];
    }
    double *const to = l > 0 ? u : site.feature_slope;
    const int columns = padded(layer.n_in);
    clear(to, columns);
    weighted_sum(adjoint, 1, layer.weight, columns, layer.n_out, to);
  }
  for (int f = 0; f < n; f++) site.feature_slope[f] *= center.factor[f];
  // S = J^T u
  clear(site.slope, plan.n_rows * wide);
  const double *derivative = site.derivatives;
  for (int p = 0; p < plan.invariants.n; p++) {
    const auto &invariant = plan.invariants.invariants[p];
    const double *const u_p = site.feature_slope + plan.radial.n_channels + p * plan.angular.n_channels;
    for (int row = 0; row < invariant.n_rows; row++, derivative += wide)
      for (int c = 0; c < plan.angular.n_channels; c++)
        site.slope[invariant.rows[row] + c] += u_p[c] * derivative[c];
  }
}

// dh/dw (types, padded channels, padded functions) to where it belongs
static void add_coefficients(const Radial &radial, int n_types, const double *found, double *to) {
  const int n = radial.basis.n, wide = radial.by_function();
  for (int t = 0; t < n_types; t++, found += radial.by_channel() * wide)
    for (int c = 0; c < radial.n_channels; c++, to += n)
      for (int q = 0; q < n; q++) to[q] += found[c * wide + q];
}

static void energy_row(const RowsPlan &plan, const RowsCenter &center, Site &site, double *row) {
  const int wide = plan.angular.by_channel(), functions = plan.angular.by_function(), rows = plan.n_rows;
  const double *in = site.inputs, *adjoint = site.adjoint, *node = site.node;
  for (int l = 0; l < center.n_layers; l++) {
    const RowsLayer &layer = center.layers[l];
    double *weight = row + layer.weight_at, *const bias = row + layer.bias_at;
    for (int o = 0; o < layer.n_out; o++, weight += layer.n_in) {
      bias[o] += adjoint[o];
      for (int i = 0; i < layer.n_in; i++) weight[i] += adjoint[o] * in[i];
    }
    in = node;
    node += padded(layer.n_out);
    adjoint += padded(layer.n_out);
  }
  double *const angular = site.by_angular, *to = row + center.radial_at;
  for (int t = 0; t < plan.n_types; t++)
    for (int c = 0; c < plan.radial.n_channels; c++)
      for (int q = 0; q < plan.radial.basis.n; q++)
        *to++ += site.feature_slope[c] * site.radial_moments[t * plan.radial.by_function() + q];
  clear(angular, static_cast<int64_t>(plan.n_types) * wide * functions);
  for (int t = 0; t < plan.n_types; t++)
    outer_sums(site.slope, wide, wide, site.moments + t * rows * functions, functions, plan.n_harmonics,
               angular + t * wide * functions);
  add_coefficients(plan.angular, plan.n_types, angular, row + center.angular_at);
}

static void curvature(const RowsPlan &plan, const RowsCenter &, Site &site) {
  const int wide = plan.angular.by_channel();
  const double *const slopes = site.feature_slope + plan.radial.n_channels;
  for (int column = 0; column < wide; column += EIGHT) {
    const double *const a = site.coefficients + column;
    for (int n = 0; n < plan.n_curvatures; n++) {
      Octet sum = {};
      for (int g = plan.group_first[n]; g < plan.group_first[n + 1]; g++) {
        Octet own = {};
        for (int term = plan.term_first[g]; term < plan.term_first[g + 1]; term++) {
          const SecondTerm &product = plan.terms[term];
          own += load_eight(a + product.factor[0]) * load_eight(a + product.factor[1]) * product.coefficient;
        }
        sum += own * load_eight(slopes + plan.group_invariant[g] * plan.angular.n_channels + column);
      }
      store(site.curvatures + n * wide + column, sum);
    }
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
