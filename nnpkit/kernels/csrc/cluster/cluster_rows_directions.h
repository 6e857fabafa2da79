// Directions that touch a centre: how its coefficients change along them, and what of that the weights
// change. Included by cluster_rows_isa.cpp only.

#ifndef NNPKIT_CLUSTER_ROWS_DIRECTIONS_H
#define NNPKIT_CLUSTER_ROWS_DIRECTIONS_H

#include "cluster_rows_center.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::BATCH;

// Sizes of what each direction of a batch has.
struct DirectionSizes {
  int change, radial, by_radial, by_angular;
};
NNPKIT_INLINE DirectionSizes sizes_of(const RowsPlan &plan) {
  return {plan.n_rows * plan.angular.by_channel(), plan.radial.by_channel(),
          plan.n_types * plan.radial.by_channel() * plan.radial.by_function(),
          plan.n_types * plan.angular.by_channel() * plan.angular.by_function()};
}

static void clear_direction(const DirectionSizes &size, Site &site, int slot) {
  clear(site.change + slot * size.change, size.change);
  clear(site.change_radial + slot * size.radial, size.radial);
  clear(site.by_radial + slot * size.by_radial, size.by_radial);
  clear(site.by_angular + slot * size.by_angular, size.by_angular);
}

// A few edges, one after the other: without moments of their change.
static void move_some(const RowsPlan &plan, const RowsCenter &, Site &site, int slot, int type,
                      const int *edges, int n, const double *changes) {
  const DirectionSizes size = sizes_of(plan);
  const int rows = plan.n_rows, wide = plan.angular.by_channel(), functions = plan.angular.by_function();
  const int radial_wide = plan.radial.by_channel(), radial_functions = plan.radial.by_function();
  clear_direction(size, site, slot);
  double *const change = site.change + slot * size.change;
  double *const radial = site.change_radial + slot * size.radial;
  double *const by_radial =
      site.by_radial + slot * size.by_radial + type * plan.radial.by_channel() * radial_functions;
  double *const by_angular = site.by_angular + slot * size.by_angular + type * wide * functions;
  for (int k = 0; k < n; k++, changes += 3) {
    const int e = edges[k];
    const double *const unit = site.unit + 3 * e;
    const double along = unit[0] * changes[0] + unit[1] * changes[1] + unit[2] * changes[2];
    for (int c = 0; c < plan.radial.n_channels; c++) {
      radial[c] += along * site.radial_mixed[e * radial_wide + c];
      const double weight = along * site.feature_slope[c];
      for (int q = 0; q < plan.radial.basis.n; q++)
        by_radial[c * radial_functions + q] += weight * site.radial_slope[e * radial_functions + q];
    }
    if (e >= site.begin[type] + site.n_near[type]) continue;
    const double *const y = site.harmonics + e * rows, *const d = site.turns + 3 * e * rows;
    double *const turned = site.turned;
    for (int row = 0; row < rows; row += EIGHT)
      store(turned + row, load_eight(d + row) * changes[0] + load_eight(d + rows + row) * changes[1] +
                              load_eight(d + 2 * rows + row) * changes[2]);
    for (int column = 0; column < wide; column += EIGHT) {
      const Octet g = load_eight(site.mixed + e * wide + column);
      const Octet stretch = load_eight(site.mixed_slope + e * wide + column) * along;
      Octet through[2] = {};  // S times harmonics and their changes
      for (int row = 0; row < plan.n_harmonics; row++) {
        double *const to = change + row * wide + column;
        store(to, load_eight(to) + (stretch * y[row] + g * turned[row]));
        const Octet s = load_eight(site.slope + row * wide + column);
        through[0] += s * y[row];
        through[1] += s * turned[row];
      }
      double parts[2][EIGHT];
      store(parts[0], through[0] * along);
      store(parts[1], through[1]);
      for (int q = 0; q < functions; q += EIGHT) {
        const Octet h = load_eight(site.angular + e * functions + q);
        const Octet dh = load_eight(site.angular_slope + e * functions + q);
        double *to = by_angular + column * functions + q;
        for (int c = 0; c < EIGHT; c++, to += functions)
          store(to, load_eight(to) + (h * parts[1][c] + dh * parts[0][c]));
      }
    }
  }
}

// All edges, by the change of the moments.
static void move_all(const RowsPlan &plan, const RowsCenter &center, Site &site, int slot,
                     const double *changes) {
  const DirectionSizes size = sizes_of(plan);
  const int rows = plan.n_rows, wide = plan.angular.by_channel(), functions = plan.angular.by_function();
  const int radial_wide = plan.radial.by_channel(), radial_functions = plan.radial.by_function();
  clear_direction(size, site, slot);
  double *const along = site.lanes;
  for (int t = 0; t < plan.n_types; t++) {
    const int at = site.begin[t], n = site.n_all[t];
    for (int e = at; e < at + n; e++)
      along[e] = site.unit[3 * e] * changes[3 * e] + site.unit[3 * e + 1] * changes[3 * e + 1] +
                 site.unit[3 * e + 2] * changes[3 * e + 2];
    double *const strained_radial = site.strained_radial;
    clear(strained_radial, radial_functions);
    weighted_sum(along + at, 1, site.radial_slope + at * radial_functions, radial_functions, n,
                 strained_radial);
    mix(strained_radial, 1, radial_functions, plan.radial.basis.n,
        center.radial + t * plan.radial.basis.n * radial_wide, radial_wide,
        site.change_radial + slot * size.radial);
    double *const by_radial = site.by_radial + slot * size.by_radial + t * radial_wide * radial_functions;
    for (int c = 0; c < plan.radial.n_channels; c++)
      for (int q = 0; q < plan.radial.basis.n; q++)
        by_radial[c * radial_functions + q] = site.feature_slope[c] * strained_radial[q];
    const int near = site.n_near[t];
    if (near == 0) continue;
    for (int k = 0; k < near; k++) {
      const int e = at + k;
      const double *const y = site.harmonics + e * rows, *const d = site.turns + 3 * e * rows;
      const double *const change = changes + 3 * e;
      for (int row = 0; row < rows; row += EIGHT) {
        store(site.stretched + k * rows + row, load_eight(y + row) * along[e]);
        store(site.turned + k * rows + row, load_eight(d + row) * change[0] +
                                                load_eight(d + rows + row) * change[1] +
                                                load_eight(d + 2 * rows + row) * change[2]);
      }
    }
    double *const strained = site.strained;
    clear(strained, rows * functions);
    outer_sums(site.stretched, rows, rows, site.angular_slope + at * functions, functions, near, strained);
    outer_sums(site.turned, rows, rows, site.angular + at * functions, functions, near, strained);
    mix(strained, plan.n_harmonics, functions, plan.angular.basis.n,
        center.angular + t * plan.angular.basis.n * wide, wide, site.change + slot * size.change);
    outer_sums(site.slope, wide, wide, strained, functions, plan.n_harmonics,
               site.by_angular + slot * size.by_angular + t * wide * functions);
  }
}

// Changes of the features, raw, then scaled, and of the energy.
static void change_features(const RowsPlan &plan, const RowsCenter &center, Site &site, int slot) {
  const DirectionSizes size = sizes_of(plan);
  const int wide = plan.angular.by_channel(), n = plan.n_features;
  double *const tangent = site.tangents + slot * site.width;
  const double *const change = site.change + slot * size.change;
  for (int c = 0; c < plan.radial.n_channels; c++) tangent[c] = site.change_radial[slot * size.radial + c];
  const double *derivative = site.derivatives;
  double *to = tangent + plan.radial.n_channels;
  for (int p = 0; p < plan.invariants.n; p++, to += plan.angular.n_channels) {
    const auto &invariant = plan.invariants.invariants[p];
    for (int column = 0; column < wide; column += EIGHT) {
      Octet sum = {};
      for (int row = 0; row < invariant.n_rows; row++)
        sum +=
            load_eight(derivative + row * wide + column) * load_eight(change + invariant.rows[row] + column);
      store(to + column, sum);  // what is behind the channels is written again
    }
    derivative += invariant.n_rows * wide;
  }
  for (int f = n; f < site.width; f++) tangent[f] = 0.0;
  double value = 0.0;
  for (int f = 0; f < n; f++) {
    value += tangent[f] * site.feature_slope[f];
    tangent[f] *= center.factor[f];
  }
  site.values[slot] = value;
}

// weight (n_out, n_in) += q y^T + p dy^T
static void add_layer(int n_out, int n_in, const double *q, const double *y, const double *p,
                      const double *dy, double *weight) {
  for (int o = 0; o < n_out; o++, weight += n_in) {
    int i = 0;
    for (; i + EIGHT <= n_in; i += EIGHT)
      store(weight + i, load_eight(weight + i) + (load_eight(y + i) * q[o] + load_eight(dy + i) * p[o]));
    for (; i < n_in; i++) weight[i] += q[o] * y[i] + p[o] * dy[i];
  }
}

// Eight columns of the product below, for N directions.
template <int N>
NNPKIT_INLINE void direction_tile(const double *in, int by_in, int n_in, const double *matrix, int wide,
                                  double *out, int by_out) {
  Octet sum[N] = {};
  for (int k = 0; k < n_in; k++) {
    const Octet column = load_eight(matrix + k * wide);
#pragma GCC unroll 8
    for (int row = 0; row < N; row++) sum[row] += column * in[row * by_in + k];
  }
#pragma GCC unroll 8
  for (int row = 0; row < N; row++) store(out + row * by_out, sum[row]);
}

// out (n, wide) = in (n, n_in) times matrix (n_in, wide). What stands in the place of more directions, up to
// the next multiple of four, is treated as if it were one.
static void directions_times(const double *in, int by_in, int n_in, const double *matrix, int wide, int n,
                             double *out, int by_out) {
  for (int column = 0; column < wide; column += EIGHT) {
    if (VECTOR_BYTES == 64 && n > 4)
      direction_tile<8>(in, by_in, n_in, matrix + column, wide, out + column, by_out);
    else
      for (int b = 0; b < n; b += 4)
        direction_tile<4>(in + b * by_in, by_in, n_in, matrix + column, wide, out + b * by_out + column,
                          by_out);
  }
}

// Through the networks: to rows what their weights change, to site.back the derivatives v by the features.
static void change_networks(const RowsPlan &plan, const RowsCenter &center, Site &site, int n,
                            double *const *rows) {
  const int by_node = site.all_nodes, by_back = site.widest;
  const double *in = site.tangents, *first = site.first;
  int by_in = site.width, at = 0;
  for (int l = 0; l < center.n_layers;
       l++) {  // changes of z, and behind those of all layers the changes of nodes
    const RowsLayer &layer = center.layers[l];
    const int size = padded(layer.n_out);
    directions_times(in, by_in, layer.n_in, layer.transposed, size, n, site.node_change + at, 2 * by_node);
    for (int b = 0; b < n; b++) {
      const double *const z = site.node_change + b * 2 * by_node + at;
      double *const y = site.node_change + b * 2 * by_node + by_node + at;
      for (int o = 0; o < size; o += EIGHT) store(y + o, load_eight(first + at + o) * load_eight(z + o));
    }
    in = site.node_change + by_node + at;
    by_in = 2 * by_node;
    at += size;
  }
  for (int l = center.n_layers - 1; l >= 0; l--) {
    const RowsLayer &layer = center.layers[l];
    const int size = padded(layer.n_out), columns = padded(layer.n_in);
    at -= size;
    const int below = l > 0 ? at - padded(center.layers[l - 1].n_out) : 0;
    for (int b = 0; b < n; b++) {
      double *const q = site.node_change + b * 2 * by_node + at;  // in place of the change of z
      const double *const v = site.node_back + b * by_back;
      for (int o = 0; o < size; o += EIGHT) {
        Octet sum = load_eight(site.second + at + o) * load_eight(q + o);
        if (l + 1 < center.n_layers) sum += load_eight(first + at + o) * load_eight(v + o);
        store(q + o, sum);
      }
      const double *const y = l > 0 ? site.node + below : site.inputs;
      const double *const dy =
          l > 0 ? site.node_change + b * 2 * by_node + by_node + below : site.tangents + b * site.width;
      add_layer(layer.n_out, layer.n_in, q, y, site.adjoint + at, dy, rows[b] + layer.weight_at);
      for (int o = 0; o < layer.n_out; o++) rows[b][layer.bias_at + o] += q[o];
    }
    double *const to = l > 0 ? site.node_back : site.back;
    const int by_to = l > 0 ? by_back : site.width;
    directions_times(site.node_change + at, 2 * by_node, layer.n_out, layer.weight, columns, n, to, by_to);
  }
  for (int b = 0; b < n; b++)
    for (int f = 0; f < plan.n_features; f++) site.back[b * site.width + f] *= center.factor[f];
}

// Q = J^T v + H A. of N directions from `slot` on
template <int N>
static void change_slopes(const RowsPlan &plan, Site &site, int slot) {
  const DirectionSizes size = sizes_of(plan);
  const int wide = plan.angular.by_channel();
  for (int column = 0; column < wide; column += EIGHT) {
    const double *const change = site.change + slot * size.change + column;
    const double *const v = site.back + slot * site.width + plan.radial.n_channels + column;
    double *const to = site.through + slot * size.change + column;
    for (int k = 0; k < plan.n_harmonics; k++) {
      Octet sum[N] = {};
      for (int n = plan.curvature_first[k]; n < plan.curvature_first[k + 1]; n++) {
        const Octet h = load_eight(site.curvatures + plan.curvature_value[n] * wide + column);
        const double *const of = change + plan.curvature_row[n];
#pragma GCC unroll 8
        for (int b = 0; b < N; b++) sum[b] += h * load_eight(of + b * size.change);
      }
      for (int n = plan.column_first[k]; n < plan.column_first[k + 1]; n++) {
        const Octet j = load_eight(site.derivatives + plan.column_derivative[n] * wide + column);
        const double *const of = v + plan.column_invariant[n] * plan.angular.n_channels;
#pragma GCC unroll 8
        for (int b = 0; b < N; b++) sum[b] += j * load_eight(of + b * site.width);
      }
#pragma GCC unroll 8
      for (int b = 0; b < N; b++) store(to + b * size.change + k * wide, sum[b]);
    }
  }
}

static void finish(const RowsPlan &plan, const RowsCenter &center, Site &site, int n, double *const *rows) {
  const DirectionSizes size = sizes_of(plan);
  const int wide = plan.angular.by_channel(), functions = plan.angular.by_function();
  const int radial_functions = plan.radial.by_function();
  for (int slot = 0; slot < n; slot++) change_features(plan, center, site, slot);
  if (!rows) return;
  change_networks(plan, center, site, n, rows);
  constexpr int N = 4;  // BATCH is a multiple; what the last ones have too much is never looked at
  for (int slot = 0; slot < n; slot += N) change_slopes<N>(plan, site, slot);
  for (int slot = 0; slot < n; slot++) {
    const double *const q = site.through + slot * size.change, *const v = site.back + slot * site.width;
    double *const by_radial = site.by_radial + slot * size.by_radial;
    double *const by_angular = site.by_angular + slot * size.by_angular;
    for (int t = 0; t < plan.n_types; t++) {
      double *to = by_radial + t * plan.radial.by_channel() * radial_functions;
      const double *const moments = site.radial_moments + t * radial_functions;
      for (int c = 0; c < plan.radial.n_channels; c++, to += radial_functions)
        for (int f = 0; f < radial_functions; f += EIGHT)
          store(to + f, load_eight(to + f) + load_eight(moments + f) * v[c]);
      if (site.n_near[t] > 0)
        outer_sums(q, wide, wide, site.moments + t * plan.n_rows * functions, functions, plan.n_harmonics,
                   by_angular + t * wide * functions);
    }
    add_coefficients(plan.radial, plan.n_types, by_radial, rows[slot] + center.radial_at);
    add_coefficients(plan.angular, plan.n_types, by_angular, rows[slot] + center.angular_at);
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
