// Networks of a few atoms of one element at once: every weight is loaded once for all of them. Included by
// cluster_isa.cpp only.

#ifndef NNPKIT_CLUSTER_NETWORK_H
#define NNPKIT_CLUSTER_NETWORK_H

#include "acsf_network.h"
#include "cluster_plan.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::ATOMS;

// Vectors of outputs whose sums stay in registers for ATOMS atoms.
constexpr int OUTPUTS = VECTOR_BYTES == 64 ? 4 : 2;

// out (atom, by_out) = start + in (atom, by_in) times W for K atoms and N vectors of outputs
template <typename T, int K, int N>
NNPKIT_INLINE void atoms_times(const T *in, int by_in, int n_in, const T *weight, int stride, const T *start,
                               T *out, int by_out) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  V sum[K][N];
#pragma GCC unroll 4
  for (int k = 0; k < K; k++)
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) sum[k][v] = start ? load(start + v * W) : V{};
  for (int i = 0; i < n_in; i++) {
    V w[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) w[v] = load(weight + i * stride + v * W);
#pragma GCC unroll 4
    for (int k = 0; k < K; k++)
#pragma GCC unroll 4
      for (int v = 0; v < N; v++) sum[k][v] += in[k * by_in + i] * w[v];
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; k++)
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) store(out + k * by_out + v * W, sum[k][v]);
}

template <typename T, int K, int N>
static void multiply_atoms(const T *in, int by_in, int n_in, const T *weight, int stride, int n_out,
                           const T *start, T *out, int by_out) {
  constexpr int W = WIDTH<T>;
  for (; n_out > (N - 1) * W; n_out -= N * W, weight += N * W, out += N * W) {
    atoms_times<T, K, N>(in, by_in, n_in, weight, stride, start, out, by_out);
    if (start) start += N * W;
  }
  if constexpr (N > 1)
    if (n_out > 0) multiply_atoms<T, K, N - 1>(in, by_in, n_in, weight, stride, n_out, start, out, by_out);
}

// inputs (ATOMS, width) become `factor` times the gradients; nodes: for each layer its values and slopes
// (ATOMS, padded outputs each), then two times ATOMS rows of net.width for the way back
template <typename T>
static void networks(const Network<T> &net, T factor, T *inputs, int width, double *outputs, T *nodes) {
  constexpr int K = ATOMS;  // fewer take no less time
  const T *in = inputs;
  int by_in = width;
  T *at = nodes;
  for (int l = 0; l < net.n_layers; l++) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out);
    multiply_atoms<T, K, OUTPUTS>(in, by_in, layer.n_in, layer.weight, size, layer.n_out, layer.bias, at,
                                  size);
    for (int k = 0; k < K; k++) activate(layer.activation, at + k * size, at + (K + k) * size, layer.n_out);
    in = at;
    by_in = size;
    at += 2 * K * size;
  }
  for (int k = 0; k < K; k++) outputs[k] = static_cast<double>(in[k * by_in]);
  T *delta = at, *next = at + K * net.width;
  for (int k = 0; k < K; k++) delta[k * net.width] = factor;
  for (int l = net.n_layers - 1; l >= 0; l--) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out);
    at -= 2 * K * size;
    for (int k = 0; k < K; k++)
      for (int o = 0; o < layer.n_out; o++) delta[k * net.width + o] *= at[(K + k) * size + o];
    T *const to = l > 0 ? next : inputs;
    multiply_atoms<T, K, OUTPUTS>(delta, net.width, layer.n_out, layer.transposed, padded_nodes(layer.n_in),
                                  layer.n_in, nullptr, to, l > 0 ? net.width : width);
    next = delta;
    delta = to;
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
