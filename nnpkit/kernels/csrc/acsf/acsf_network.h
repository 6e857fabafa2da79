// Atomic networks of one atom: output and its derivatives by the inputs. Included by acsf_isa.cpp only.

#ifndef NNPKIT_ACSF_NETWORK_H
#define NNPKIT_ACSF_NETWORK_H

#include "acsf_plan.h"
#include "simd.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::Layer;
using acsf::MEMBERS;
using acsf::Network;

using acsf::padded_nodes;

// f(x) in place of x, f'(x) into slope
template <typename T>
static void activate(Activation activation, T *x, T *slope, int n) {
  typedef Vector<T> V;
  if (activation == Activation::TANH) {
    for (int at = 0; at < n; at += WIDTH<T>) {
      const V y = hyperbolic_tangent<T>(load(x + at));
      store(x + at, y);
      store(slope + at, T(1) - y * y);
    }
    return;
  }
  for (int at = 0; at < n; at++) {
    double value, derivative;
    activation_at(activation, static_cast<double>(x[at]), value, derivative);
    x[at] = static_cast<T>(value);
    slope[at] = static_cast<T>(derivative);
  }
}

// out = start + in W, rows of W padded; up to eight vectors of outputs at a time stay in registers, each with
// the sums of even and of odd inputs if there are few, because one sum would be waited for
template <typename T, int N>
NNPKIT_INLINE void rows_times(const T *in, int n_in, const T *weight, int stride, const T *start, T *out) {
  typedef Vector<T> V;
  constexpr int SUMS = N > 4 ? 1 : 2;
  V sum[SUMS][N] = {};
  for (int v = 0; v < N; v++) sum[0][v] = start ? load(start + v * WIDTH<T>) : V{};
  int i = 0;
  for (; i + SUMS <= n_in; i += SUMS)
#pragma GCC unroll 2
    for (int s = 0; s < SUMS; s++)
#pragma GCC unroll 8
      for (int v = 0; v < N; v++) sum[s][v] += in[i + s] * load(weight + (i + s) * stride + v * WIDTH<T>);
  if (i < n_in)
    for (int v = 0; v < N; v++) sum[0][v] += in[i] * load(weight + i * stride + v * WIDTH<T>);
  for (int v = 0; v < N; v++) store(out + v * WIDTH<T>, SUMS == 1 ? sum[0][v] : sum[0][v] + sum[SUMS - 1][v]);
}

// The outputs that are needed, in vectors; what they are padded with is left alone.
template <typename T>
static void multiply(const T *in, int n_in, const T *weight, int n_out, const T *start, T *out) {
  constexpr int W = WIDTH<T>;
  const int stride = padded_nodes(n_out);
  int o = 0;
  const auto some = [&](auto rows, int vectors) __attribute__((always_inline)) {
    for (; o + (vectors - 1) * W < n_out; o += vectors * W)
      rows(in, n_in, weight + o, stride, start ? start + o : nullptr, out + o);
  };
  if constexpr (VECTOR_BYTES == 64) some(&rows_times<T, 8>, 8);
  some(&rows_times<T, 4>, 4);
  some(&rows_times<T, 3>, 3);
  some(&rows_times<T, 2>, 2);
  some(&rows_times<T, 1>, 1);
}

// nodes: for each layer its values and slopes, then two rows of net.width for the way back
template <typename T>
static double network(const Network<T> &net, const T *inputs, T *input_gradient, T *nodes) {
  T *at = nodes;
  const T *in = inputs;
  for (int l = 0; l < net.n_layers; l++) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out);
    multiply(in, layer.n_in, layer.weight, layer.n_out, layer.bias, at);
    activate(layer.activation, at, at + size, layer.n_out);
    in = at;
    at += 2 * size;
  }
  const double output = static_cast<double>(in[0]);
  T *delta = at, *next = at + net.width;
  delta[0] = T(1);
  for (int l = net.n_layers - 1; l >= 0; l--) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out);
    at -= 2 * size;
    for (int o = 0; o < layer.n_out; o++) delta[o] *= at[size + o];
    multiply<T>(delta, layer.n_out, layer.transposed, layer.n_in, nullptr, l > 0 ? next : input_gradient);
    T *const free = delta;
    delta = next;
    next = free;
  }
  return output;
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
