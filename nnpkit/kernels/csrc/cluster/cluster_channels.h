// From moments to features and back: channels and their invariants, eight channels at a time. Included by
// cluster_isa.cpp only.

#ifndef NNPKIT_CLUSTER_CHANNELS_H
#define NNPKIT_CLUSTER_CHANNELS_H

#include "cluster_moments.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::ATOMS;
using cluster::Invariant;
using cluster::Invariants;
using cluster::Mixing;
using cluster::Monomial;
using cluster::Share;

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

// Where the arrays of some atoms are.
template <typename T, int N>
struct Arrays {
  T *of[N];
};

// Of eight channels of N atoms: an invariant and its derivatives (n_rows, wide). The table of its terms is
// read once for all of them.
template <typename T, int N, int DEGREE>
NNPKIT_INLINE void evaluate_invariant(const Invariant<T> &invariant, const Arrays<const T, N> &channels,
                                      int wide, const Arrays<T, N> &values, const Arrays<T, N> &derivatives) {
  Eight<T> value[N] = {};
  const Monomial<T> *monomial = invariant.monomials;
  for (int row = 0; row < invariant.n_rows; row++) {
    Eight<T> sum[N] = {};
    for (int left = invariant.first_monomial[row + 1] - invariant.first_monomial[row]; left > 0;
         left--, monomial++) {
#pragma GCC unroll 4
      for (int a = 0; a < N; a++) {
        Eight<T> product = load_eight(channels.of[a] + monomial->factor[0]);
#pragma GCC unroll 3
        for (int f = 1; f < DEGREE - 1; f++)
          product = product * load_eight(channels.of[a] + monomial->factor[f]);
        sum[a] += product * monomial->coefficient;
      }
    }
#pragma GCC unroll 4
    for (int a = 0; a < N; a++) {
      store(derivatives.of[a] + row * wide, sum[a]);
      value[a] += sum[a] * load_eight(channels.of[a] + invariant.rows[row]);
    }
  }
#pragma GCC unroll 4
  for (int a = 0; a < N; a++) store(values.of[a], value[a] * (T(1) / T(DEGREE)));
}

// All invariants of eight channels, to values[invariant * wide].
template <typename T, int N>
static void evaluate_invariants(const Invariants<T> &invariants, const Arrays<const T, N> &channels, int wide,
                                Arrays<T, N> values, Arrays<T, N> derivatives) {
  for (int p = 0; p < invariants.n; p++) {
    const Invariant<T> &invariant = invariants.invariants[p];
    if (invariant.degree == 2)
      evaluate_invariant<T, N, 2>(invariant, channels, wide, values, derivatives);
    else if (invariant.degree == 3)
      evaluate_invariant<T, N, 3>(invariant, channels, wide, values, derivatives);
    else
      evaluate_invariant<T, N, 4>(invariant, channels, wide, values, derivatives);
    for (int a = 0; a < N; a++) {
      values.of[a] += wide;
      derivatives.of[a] += invariant.n_rows * wide;
    }
  }
}

// Of one atom.
template <typename T>
static void evaluate_invariants(const Invariants<T> &invariants, const T *channels, int wide, T *values,
                                T *derivatives) {
  evaluate_invariants<T, 1>(invariants, {{channels}}, wide, {{values}}, {{derivatives}});
}

// The gradient of eight channels of ATOMS atoms, from that of their invariants.
template <typename T>
static void differentiate_invariants(const Invariants<T> &invariants, int n_rows,
                                     const Arrays<const T, ATOMS> &derivatives, int wide,
                                     const Arrays<const T, ATOMS> &gradient,
                                     const Arrays<T, ATOMS> &channel_gradient) {
  const Share *share = invariants.shares;
  for (int row = 0; row < n_rows; row++) {
    Eight<T> sum[ATOMS] = {};
    for (int left = invariants.first_share[row + 1] - invariants.first_share[row]; left > 0;
         left--, share++) {
#pragma GCC unroll 4
      for (int a = 0; a < ATOMS; a++)
        sum[a] +=
            load_eight(gradient.of[a] + share->invariant) * load_eight(derivatives.of[a] + share->derivative);
    }
#pragma GCC unroll 4
    for (int a = 0; a < ATOMS; a++) store(channel_gradient.of[a] + row * wide, sum[a]);
  }
}

template <typename T>
static void features(const Expansion<T> &expansion, const Center<T> &center, bool direct,
                     Workspace<T> *const *sites, int n_atoms, T *out, int width) {
  const int n_radial = center.radial.n_channels, n = center.angular.n_channels, wide = padded(n);
  const int n_rows = expansion.n_rows(), n_types = expansion.n_types;
  for (int a = 0; a < n_atoms; a++) {
    Workspace<T> &ws = *sites[a];
    mix_types(center.radial, n_types, expansion.radial.n, ws.radial_moments, 1, padded(expansion.radial.n),
              ws.invariants);
    for (int k = 0; k < n_radial; k++) out[a * width + k] = ws.invariants[k];
    if (!direct)
      mix_types(center.angular, n_types, expansion.angular.n, ws.moments, n_rows,
                n_rows * padded(expansion.angular.n), ws.channels);
  }
  for (int c = 0; c < wide; c += EIGHT) {
    Arrays<const T, ATOMS> channels;
    Arrays<T, ATOMS> invariants, derivatives;
    for (int a = 0; a < ATOMS; a++) {
      channels.of[a] = sites[a]->channels + c;
      invariants.of[a] = sites[a]->invariants + c;
      derivatives.of[a] = sites[a]->derivatives + c;
    }
    evaluate_invariants<T, ATOMS>(center.invariants, channels, wide, invariants, derivatives);
  }
  for (int a = 0; a < n_atoms; a++, out += width)
    for (int p = 0; p < center.invariants.n; p++)
      for (int k = 0; k < n; k++) out[n_radial + p * n + k] = sites[a]->invariants[p * wide + k];
}

template <typename T>
static void feature_gradient(const Expansion<T> &expansion, const Center<T> &center, bool direct,
                             Workspace<T> *const *sites, int n_atoms, const T *gradient, int width) {
  const int n_radial = center.radial.n_channels, n = center.angular.n_channels, wide = padded(n);
  const int n_rows = expansion.n_rows(), n_types = expansion.n_types;
  for (int a = 0; a < n_atoms; a++) {
    const T *const from = gradient + a * width;
    mix_types_back(center.radial, n_types, expansion.radial.n, from, 1, padded(expansion.radial.n),
                   sites[a]->radial_moment_gradient);
    for (int p = 0; p < center.invariants.n; p++) {
      T *const row = sites[a]->invariants + p * wide;
      for (int k = 0; k < n; k++) row[k] = from[n_radial + p * n + k];
      for (int k = n; k < wide; k++) row[k] = T(0);
    }
  }
  for (int c = 0; c < wide; c += EIGHT) {
    Arrays<const T, ATOMS> derivatives, invariants;
    Arrays<T, ATOMS> channel_gradient;
    for (int a = 0; a < ATOMS; a++) {
      derivatives.of[a] = sites[a]->derivatives + c;
      invariants.of[a] = sites[a]->invariants + c;
      channel_gradient.of[a] = sites[a]->channel_gradient + c;
    }
    differentiate_invariants(center.invariants, n_rows, derivatives, wide, invariants, channel_gradient);
  }
  for (int a = 0; a < n_atoms && !direct; a++)
    mix_types_back(center.angular, n_types, expansion.angular.n, sites[a]->channel_gradient, n_rows,
                   n_rows * padded(expansion.angular.n), sites[a]->moment_gradient);
}

template <typename T>
static int64_t count_outside(const T *features, const T *low, const T *high, int n, int64_t *counts) {
  int64_t sum = 0;
  if (counts) {
    for (int f = 0; f < n; f++) {
      const int64_t outside = !((features[f] >= low[f]) & (features[f] <= high[f]));
      counts[f] += outside;
      sum += outside;
    }
  } else {
    for (int f = 0; f < n; f++) sum += !((features[f] >= low[f]) & (features[f] <= high[f]));
  }
  return sum;
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
