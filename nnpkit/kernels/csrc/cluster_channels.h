// From moments to features and back: channels and their invariants, eight channels at a time. Included by
// cluster_isa.cpp only.

#ifndef NNPKIT_CLUSTER_CHANNELS_H
#define NNPKIT_CLUSTER_CHANNELS_H

#include "cluster_moments.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::Invariant;
using cluster::Invariants;
using cluster::Mixing;
using cluster::Monomial;

// out (rows, wide) += in (rows, by_in) times matrix (n_in, wide), for N rows and eight columns
template <typename T, int N>
NNPKIT_INLINE void mix_tile(const T *in, int by_in, int n_in, const T *matrix, int wide, T *out) {
  Eight<T> sum[N];
#pragma GCC unroll 8
  for (int row = 0; row < N; row++) sum[row] = load_eight(out + row * wide);
  for (int k = 0; k < n_in; k++) {
    const Eight<T> column = load_eight(matrix + k * wide);
#pragma GCC unroll 8
    for (int row = 0; row < N; row++) sum[row] += column * in[row * by_in + k];
  }
#pragma GCC unroll 8
  for (int row = 0; row < N; row++) store(out + row * wide, sum[row]);
}

template <typename T>
static void mix(const T *in, int n_rows, int by_in, int n_in, const T *matrix, int wide, T *out) {
  constexpr int N = VECTOR_BYTES == 64 ? 8 : 4;
  for (int column = 0; column < wide; column += EIGHT) {
    int row = 0;
    for (; row + N <= n_rows; row += N)
      mix_tile<T, N>(in + row * by_in, by_in, n_in, matrix + column, wide, out + row * wide + column);
    for (; row < n_rows; row++)
      mix_tile<T, 1>(in + row * by_in, by_in, n_in, matrix + column, wide, out + row * wide + column);
  }
}

// Channels (rows, padded channels) of all types
template <typename T>
static void mix_types(const Mixing<T> &mixing, int n_types, int n_functions, const T *moments, int n_rows,
                      int by_type, T *channels) {
  const int wide = padded(mixing.n_channels), by_row = padded(n_functions);
  clear(channels, n_rows * wide);
  for (int type = 0; type < n_types; type++)
    mix(moments + type * by_type, n_rows, by_row, n_functions, mixing.forward + type * n_functions * wide,
        wide, channels);
}

// The way back: adds to the gradients of the moments.
template <typename T>
static void mix_types_back(const Mixing<T> &mixing, int n_types, int n_functions, const T *channel_gradient,
                           int n_rows, int by_type, T *moment_gradient) {
  const int wide = padded(n_functions), by_row = padded(mixing.n_channels);
  for (int type = 0; type < n_types; type++)
    mix(channel_gradient, n_rows, by_row, mixing.n_channels,
        mixing.backward + type * mixing.n_channels * wide, wide, moment_gradient + type * by_type);
}

// Of eight channels: an invariant and its derivatives (n_rows, wide).
template <typename T, int DEGREE>
NNPKIT_INLINE Eight<T> evaluate_invariant(const Invariant<T> &invariant, const T *channels, int wide,
                                          T *derivatives) {
  Eight<T> value = {};
  const Monomial<T> *monomial = invariant.monomials;
  for (int row = 0; row < invariant.n_rows; row++) {
    Eight<T> sum = {};
    for (int left = invariant.first_monomial[row + 1] - invariant.first_monomial[row]; left > 0;
         left--, monomial++) {
      Eight<T> product = load_eight(channels + monomial->factor[0]);
#pragma GCC unroll 3
      for (int f = 1; f < DEGREE - 1; f++) product = product * load_eight(channels + monomial->factor[f]);
      sum += product * monomial->coefficient;
    }
    store(derivatives + row * wide, sum);
    value += sum * load_eight(channels + invariant.rows[row]);
  }
  return value * (T(1) / T(DEGREE));
}

// All invariants of eight channels, to values[invariant * wide].
template <typename T>
static void evaluate_invariants(const Invariants<T> &invariants, const T *channels, int wide, T *values,
                                T *derivatives) {
  for (int p = 0; p < invariants.n; p++) {
    const Invariant<T> &invariant = invariants.invariants[p];
    const Eight<T> value =
        invariant.degree == 2   ? evaluate_invariant<T, 2>(invariant, channels, wide, derivatives)
        : invariant.degree == 3 ? evaluate_invariant<T, 3>(invariant, channels, wide, derivatives)
                                : evaluate_invariant<T, 4>(invariant, channels, wide, derivatives);
    store(values + p * wide, value);
    derivatives += invariant.n_rows * wide;
  }
}

// Adds to the gradient of eight channels, from that of their invariants.
template <typename T>
static void differentiate_invariants(const Invariants<T> &invariants, const T *derivatives, int wide,
                                     const T *gradient, T *channel_gradient) {
  for (int p = 0; p < invariants.n; p++) {
    const Invariant<T> &invariant = invariants.invariants[p];
    const Eight<T> weight = load_eight(gradient + p * wide);
    for (int row = 0; row < invariant.n_rows; row++, derivatives += wide) {
      T *const to = channel_gradient + invariant.rows[row];
      store(to, load_eight(to) + weight * load_eight(derivatives));
    }
  }
}

template <typename T>
static void features(const Expansion<T> &expansion, const Center<T> &center, bool direct, Workspace<T> &ws,
                     T *out) {
  const int n_radial = center.radial.n_channels, n = center.angular.n_channels, wide = padded(n);
  const int n_rows = expansion.n_rows(), n_types = expansion.n_types;
  mix_types(center.radial, n_types, expansion.radial.n, ws.radial_moments, 1, padded(expansion.radial.n),
            ws.invariants);
  for (int k = 0; k < n_radial; k++) *out++ = ws.invariants[k];
  if (!direct)
    mix_types(center.angular, n_types, expansion.angular.n, ws.moments, n_rows,
              n_rows * padded(expansion.angular.n), ws.channels);
  for (int c = 0; c < wide; c += EIGHT)
    evaluate_invariants(center.invariants, ws.channels + c, wide, ws.invariants + c, ws.derivatives + c);
  for (int p = 0; p < center.invariants.n; p++)
    for (int k = 0; k < n; k++) *out++ = ws.invariants[p * wide + k];
}

template <typename T>
static void feature_gradient(const Expansion<T> &expansion, const Center<T> &center, bool direct,
                             Workspace<T> &ws, const T *gradient) {
  const int n_radial = center.radial.n_channels, n = center.angular.n_channels, wide = padded(n);
  const int n_rows = expansion.n_rows(), n_types = expansion.n_types;
  mix_types_back(center.radial, n_types, expansion.radial.n, gradient, 1, padded(expansion.radial.n),
                 ws.radial_moment_gradient);
  gradient += n_radial;
  for (int p = 0; p < center.invariants.n; p++, gradient += n) {
    T *const row = ws.invariants + p * wide;
    for (int k = 0; k < n; k++) row[k] = gradient[k];
    for (int k = n; k < wide; k++) row[k] = T(0);
  }
  clear(ws.channel_gradient, n_rows * wide);
  for (int c = 0; c < wide; c += EIGHT)
    differentiate_invariants(center.invariants, ws.derivatives + c, wide, ws.invariants + c,
                             ws.channel_gradient + c);
  if (direct) return;
  mix_types_back(center.angular, n_types, expansion.angular.n, ws.channel_gradient, n_rows,
                 n_rows * padded(expansion.angular.n), ws.moment_gradient);
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
