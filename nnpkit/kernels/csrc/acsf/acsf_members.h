// Networks of up to MEMBERS members of a committee, side by side in a vector, for a few atoms at once: every
// weight is loaded once for all of them. Included by acsf_isa.cpp only.

#ifndef NNPKIT_ACSF_MEMBERS_H
#define NNPKIT_ACSF_MEMBERS_H

#include "acsf_network.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::MemberNetworks;

// How many atoms, and of how many nodes the sums stay in registers with them: 20 of 32, or 8 of 16.
template <typename T>
constexpr int VECTORS_OF_EIGHT = (MEMBERS * static_cast<int>(sizeof(T)) + VECTOR_BYTES - 1) / VECTOR_BYTES;
template <typename T>
constexpr int SIDE_BY_SIDE = VECTOR_BYTES == 64         ? 4
                             : VECTORS_OF_EIGHT<T> == 1 ? 4
                             : VECTORS_OF_EIGHT<T> == 2 ? 2
                                                        : 1;
template <typename T>
constexpr int NODES_AT_ONCE = VECTOR_BYTES == 64 ? 5 : 2;

// N nodes of K atoms: out[n] = start[n] + sum_i in[i] weight[i * by_in + n * by_out]. Nodes are (node, K,
// MEMBERS).
template <typename T, int K, int N>
NNPKIT_INLINE void some_nodes(const T *in, int n_in, const T *weight, int64_t by_in, int64_t by_out,
                              const T *start, T *out) {
  Eight<T> sum[N][K] = {};
  if (start)
    for (int n = 0; n < N; n++)
      for (int k = 0; k < K; k++) sum[n][k] = load_eight(start + n * MEMBERS);
  for (int i = 0; i < n_in; i++, in += K * MEMBERS, weight += by_in) {
    Eight<T> x[K];
#pragma GCC unroll 4
    for (int k = 0; k < K; k++) x[k] = load_eight(in + k * MEMBERS);
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) {
      const Eight<T> w = load_eight(weight + n * by_out);
#pragma GCC unroll 4
      for (int k = 0; k < K; k++) sum[n][k] += w * x[k];
    }
  }
#pragma GCC unroll 8
  for (int n = 0; n < N; n++)
#pragma GCC unroll 4
    for (int k = 0; k < K; k++) store(out + (n * K + k) * MEMBERS, sum[n][k]);
}

// all of n_out nodes, N at a time, then fewer
template <typename T, int K, int N>
static void all_nodes(const T *in, int n_in, const T *weight, int64_t by_in, int64_t by_out, const T *start,
                      T *out, int n_out) {
  for (; n_out >= N; n_out -= N) {
    some_nodes<T, K, N>(in, n_in, weight, by_in, by_out, start, out);
    weight += N * by_out;
    out += N * K * MEMBERS;
    if (start) start += N * MEMBERS;
  }
  if constexpr (N > 1)
    if (n_out > 0) all_nodes<T, K, N / 2>(in, n_in, weight, by_in, by_out, start, out, n_out);
}

// K atoms. nodes: inputs, for each layer its values and slopes, then two rows of width for the way back, all
// times K * MEMBERS
template <typename T, int K>
static void networks_of(const MemberNetworks<T> &members, const double *const *features, double *energies,
                        T *const *coefficients, T *nodes) {
  constexpr int N = NODES_AT_ONCE<T>, ROW = K * MEMBERS;
  const Network<T> &net = members.network;
  const int n_in = net.layers[0].n_in;
  T *const inputs = nodes;
  for (int f = 0; f < n_in; f++)
    for (int k = 0; k < K; k++)
      for (int m = 0; m < MEMBERS; m++)
        inputs[f * ROW + k * MEMBERS + m] = static_cast<T>((features[k][f] - members.shift[f * MEMBERS + m]) *
                                                               members.factor[f * MEMBERS + m] +
                                                           members.lower[m]);
  const T *in = inputs;
  T *at = inputs + padded_nodes(n_in) * ROW;
  for (int l = 0; l < net.n_layers; l++) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out) * ROW;
    all_nodes<T, K, N>(in, layer.n_in, layer.weight, layer.n_out * MEMBERS, MEMBERS, layer.bias, at,
                       layer.n_out);
    activate(layer.activation, at, at + size, layer.n_out * ROW);
    in = at;
    at += 2 * size;
  }
  for (int k = 0; k < K; k++)
    for (int m = 0; m < MEMBERS; m++)
      energies[k * MEMBERS + m] =
          static_cast<double>(in[k * MEMBERS + m]) * members.energy_scale[m] + members.reference[m];
  T *delta = at, *next = at + net.width * ROW;
  for (int k = 0; k < ROW; k++) delta[k] = T(1);
  for (int l = net.n_layers - 1; l >= 0; l--) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out) * ROW;
    at -= 2 * size;
    for (int k = 0; k < layer.n_out * ROW; k++) delta[k] *= at[size + k];
    all_nodes<T, K, N>(delta, layer.n_out, layer.weight, MEMBERS, layer.n_out * MEMBERS, nullptr, next,
                       layer.n_in);
    T *const free = delta;
    delta = next;
    next = free;
  }
  for (int f = 0; f < n_in; f++)
    for (int k = 0; k < K; k++)
      for (int m = 0; m < MEMBERS; m++)
        coefficients[k][f * MEMBERS + m] =
            static_cast<T>(static_cast<double>(delta[f * ROW + k * MEMBERS + m]) *
                           members.factor[f * MEMBERS + m] * members.energy_scale[m]);
}

template <typename T>
static void member_networks(const MemberNetworks<T> &members, int n_atoms, const double *const *features,
                            double *energies, T *const *coefficients, T *nodes) {
  constexpr int K = SIDE_BY_SIDE<T>;
  int a = 0;
  for (; a + K <= n_atoms; a += K)
    networks_of<T, K>(members, features + a, energies + a * MEMBERS, coefficients + a, nodes);
  for (; a < n_atoms; a++)
    networks_of<T, 1>(members, features + a, energies + a * MEMBERS, coefficients + a, nodes);
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
