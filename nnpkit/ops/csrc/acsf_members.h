// Networks of up to MEMBERS members of a committee at once, side by side in a vector. Included by
// acsf_isa.cpp only.

#ifndef NNPKIT_ACSF_MEMBERS_H
#define NNPKIT_ACSF_MEMBERS_H

#include "acsf_network.h"

namespace nnpkit {
namespace NNPKIT_ISA {

template <typename T>
NNPKIT_INLINE Eight<T> zero_eight() {
  return Eight<T>{};
}

// out[o] = start[o] + sum_i in[i] W[i][o], all of MEMBERS
template <typename T, int N>
NNPKIT_INLINE void member_columns(const T *in, int n_in, const T *weight, int n_out, const T *start, T *out) {
  Eight<T> sum[N];
  for (int o = 0; o < N; o++) sum[o] = load_eight(start + o * MEMBERS);
  for (int i = 0; i < n_in; i++) {
    const Eight<T> x = load_eight(in + i * MEMBERS);
    const T *const row = weight + static_cast<int64_t>(i) * n_out * MEMBERS;
    for (int o = 0; o < N; o++) sum[o] += x * load_eight(row + o * MEMBERS);
  }
  for (int o = 0; o < N; o++) store(out + o * MEMBERS, sum[o]);
}

// in[i] = sum_o W[i][o] out[o]
template <typename T>
static void member_rows(const T *out, int n_out, const T *weight, int n_in, T *in) {
  for (int i = 0; i < n_in; i++) {
    const T *const row = weight + static_cast<int64_t>(i) * n_out * MEMBERS;
    Eight<T> a = zero_eight<T>(), b = a, c = a, d = a;
    int o = 0;
    for (; o + 4 <= n_out; o += 4) {
      a += load_eight(row + o * MEMBERS) * load_eight(out + o * MEMBERS);
      b += load_eight(row + (o + 1) * MEMBERS) * load_eight(out + (o + 1) * MEMBERS);
      c += load_eight(row + (o + 2) * MEMBERS) * load_eight(out + (o + 2) * MEMBERS);
      d += load_eight(row + (o + 3) * MEMBERS) * load_eight(out + (o + 3) * MEMBERS);
    }
    for (; o < n_out; o++) a += load_eight(row + o * MEMBERS) * load_eight(out + o * MEMBERS);
    store(in + i * MEMBERS, (a + b) + (c + d));
  }
}

// nodes: for each layer its values and slopes, then two rows of net.width for the way back, all times MEMBERS
template <typename T>
static void member_networks(const Network<T> &net, const T *inputs, double *outputs, T *input_gradient,
                            T *nodes) {
  T *at = nodes;
  const T *in = inputs;
  for (int l = 0; l < net.n_layers; l++) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out) * MEMBERS, n = layer.n_out;
    int o = 0;
    for (; o + 8 <= n; o += 8)
      member_columns<T, 8>(in, layer.n_in, layer.weight + o * MEMBERS, n, layer.bias + o * MEMBERS,
                           at + o * MEMBERS);
    for (; o < n; o++)
      member_columns<T, 1>(in, layer.n_in, layer.weight + o * MEMBERS, n, layer.bias + o * MEMBERS,
                           at + o * MEMBERS);
    activate(layer.activation, at, at + size, n * MEMBERS);
    in = at;
    at += 2 * size;
  }
  for (int m = 0; m < MEMBERS; m++) outputs[m] = static_cast<double>(in[m]);
  T *delta = at, *next = at + net.width * MEMBERS;
  for (int m = 0; m < MEMBERS; m++) delta[m] = T(1);
  for (int l = net.n_layers - 1; l >= 0; l--) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out) * MEMBERS;
    at -= 2 * size;
    for (int k = 0; k < layer.n_out * MEMBERS; k++) delta[k] *= at[size + k];
    member_rows(delta, layer.n_out, layer.weight, layer.n_in, l > 0 ? next : input_gradient);
    T *const free = delta;
    delta = next;
    next = free;
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
