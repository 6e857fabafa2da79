// What blocks of threads with one atom each have in common: neighbours in slots, and a network.

#ifndef NNPKIT_CUDA_ATOM_DEVICE_H
#define NNPKIT_CUDA_ATOM_DEVICE_H

#include "acsf_plan.h"
#include "activation.h"
#include "cuda_kernel.h"

#include <type_traits>

namespace nnpkit {
namespace cuda {

using acsf::Layer;
using acsf::Network;
using acsf::padded_nodes;

// Of one element of one member, on the device.
template <typename T>
struct DeviceElement {
  Network<T> network;
  const double *shift, *factor;  // scaled = (raw - shift) * factor + lower
  double lower, energy_scale, reference;
};

template <typename T>
Network<T> to_device(Network<T> network, DeviceStorage &storage) {
  std::vector<Layer<T>> layers(network.layers, network.layers + network.n_layers);
  for (Layer<T> &layer : layers) {
    const int wide_in = padded_nodes(layer.n_in), wide_out = padded_nodes(layer.n_out);
    layer.weight = storage.keep(layer.weight, static_cast<size_t>(layer.n_in) * wide_out);
    layer.transposed = storage.keep(layer.transposed, static_cast<size_t>(layer.n_out) * wide_in);
    layer.bias = storage.keep(layer.bias, wide_out);
  }
  network.layers = storage.keep(layers);
  return network;
}

// Neighbours within the longest cutoff into slots: one warp, one element after the other, in the order of the
// edges. Returns how many there are.
template <typename Task, typename Memory>
__device__ int gather(const Task &task, const DeviceEdges &edges, const Slots &slots, Memory &ws) {
  using T = std::remove_reference_t<decltype(*ws.x)>;
  if (threadIdx.x < WARP) {
    const int lane = threadIdx.x;
    const double limit = task.longest * task.longest;
    int n = 0;
    for (int type = 0; type < task.n_types; type++) {
      const int begin = n;
      for (int from = 0; from < slots.n; from += WARP) {
        const int e = slots.begin + from + lane;
        const bool there = from + lane < slots.n && edges.neighbor_type[e] == type;
        double v[3] = {}, r2 = 0.0;
        if (there) {
          for (int c = 0; c < 3; c++) v[c] = edges.edge_vec[3 * static_cast<int64_t>(e) + c];
          r2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
        }
        const bool inside = there && r2 < limit;
        const unsigned bits = __ballot_sync(ALL_LANES, inside);
        if (inside) {
          const int at = n + __popc(bits & ((1u << lane) - 1u));
          ws.x[at] = static_cast<T>(v[0]);
          ws.y[at] = static_cast<T>(v[1]);
          ws.z[at] = static_cast<T>(v[2]);
          ws.r2[at] = static_cast<T>(r2);
          ws.edge[at] = e;
        }
        n += __popc(bits);
      }
      if (lane == 0) {
        ws.begin[type] = begin;
        ws.count[type] = n - begin;
      }
    }
  }
  __syncthreads();
  return ws.begin[task.n_types - 1] + ws.count[task.n_types - 1];
}

// Features outside the ranges, (n) each, added to the counts of the atom and of each of them.
template <typename Memory>
__device__ void count_outside(const Memory &ws, const double *minimum, const double *maximum, int n,
                              unsigned long long *per_atom, unsigned long long *per_function) {
  for (int f = threadIdx.x; f < n; f += blockDim.x) {
    if (ws.features[f] >= minimum[f] && ws.features[f] <= maximum[f]) continue;
    atomicAdd(per_atom, 1ull);  // whole numbers: the order does not matter
    atomicAdd(per_function + f, 1ull);
  }
}

// Energy of one member; dE/dG go to coefficients[f * stride + column].
template <typename T, typename Memory>
__device__ double network(const DeviceElement<T> &element, int n_features, Memory &ws, int stride,
                          int column) {
  const Network<T> &net = element.network;
  const int threads = blockDim.x;
  T *at = ws.nodes, *in = at;
  for (int f = threadIdx.x; f < n_features; f += threads)
    in[f] = static_cast<T>((ws.features[f] - element.shift[f]) * element.factor[f] + element.lower);
  at += n_features;
  __syncthreads();
  for (int l = 0; l < net.n_layers; l++) {
    const Layer<T> layer = net.layers[l];
    const int wide = padded_nodes(layer.n_out);
    for (int o = threadIdx.x; o < layer.n_out; o += threads) {
      T sum = layer.bias[o];
      for (int i = 0; i < layer.n_in; i++) sum += in[i] * layer.weight[i * wide + o];
      activation_at(layer.activation, sum, at[o], at[layer.n_out + o]);
    }
    in = at;
    at += 2 * layer.n_out;
    __syncthreads();
  }
  const double output = static_cast<double>(in[0]);
  for (int l = net.n_layers - 1; l >= 0; l--) {
    const Layer<T> layer = net.layers[l];
    T *const delta = at - layer.n_out;  // the slopes become dE/dz
    at -= 2 * layer.n_out;
    // dE/dy is where y was
    for (int o = threadIdx.x; o < layer.n_out; o += threads) delta[o] *= l + 1 == net.n_layers ? T(1) : at[o];
    __syncthreads();
    const int wide = padded_nodes(layer.n_in);
    T *const out = l > 0 ? at - 2 * layer.n_in : ws.nodes;
    for (int i = threadIdx.x; i < layer.n_in; i += threads) {
      T sum = T(0);
      for (int o = 0; o < layer.n_out; o++) sum += delta[o] * layer.transposed[o * wide + i];
      out[i] = sum;
    }
    __syncthreads();
  }
  for (int f = threadIdx.x; f < n_features; f += threads)
    ws.coefficients[f * stride + column] =
        static_cast<T>(static_cast<double>(ws.nodes[f]) * element.factor[f] * element.energy_scale);
  __syncthreads();
  return output * element.energy_scale + element.reference;
}

}  // namespace cuda
}  // namespace nnpkit

#endif
