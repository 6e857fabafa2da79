// Environment rows, tables of embedding networks and the gradient of edges, one block of threads per atom.
// Included by deep.cu only; the formulae are those of csrc/deep/deep_embedding.h.

#ifndef NNPKIT_CUDA_DEEP_DEVICE_H
#define NNPKIT_CUDA_DEEP_DEVICE_H

#include "cuda_kernel.h"
#include "deep_stages.h"

namespace nnpkit {
namespace cuda {

constexpr int DEEP_THREADS = 128, DEEP_WARPS = DEEP_THREADS / WARP;
constexpr int MOST_TYPES = 200;                // deep::read_model takes no more
constexpr int OUTSIDE = -1, NO_NEIGHBOR = -2;  // instead of an interval: of the table, of the cutoff

// A layer of an embedding network, evaluated where there is no table; (n_out, n_in) row-major.
struct ExactLayer {
  int n_in, n_out, copies;
  Activation activation;
  const double *weight, *bias, *timestep;  // timestep may be null
};

template <typename T>
struct DeviceTable {
  const T *node;  // (n_intervals, 6, padded width)
  int64_t n_intervals;
  double start, inverse_spacing;
  int n_layers;
  const ExactLayer *layers;
};

// Environment rows of all edges of a chunk.
template <typename T>
struct DeviceRows {
  double *argument;  // (n_slots) R_0
  T *row;            // (n_slots, 4) R
  T *chain;          // (n_slots, 3): p, q, w of deep_stages.h
  int *interval;     // (n_slots) of the table of the member that is evaluated
  T *place;          // (n_slots) in the interval, 0 .. 1
};

// Atoms of one element of a chunk, and one member.
template <typename T>
struct DeepTask {
  DeviceEdges edges;  // `order` begins with these atoms
  DeviceRows<T> rows;
  int n_atoms, type, n_types, width, padded, widest /* layer of an embedding */;
  const DeviceTable<T> *tables;  // (n_types) by neighbour
  const T *absent;               // (n_types, padded): G(R_0) R_0 of a neighbour that is missing
  const double *expected;        // (n_types) neighbours
  T normalisation;
  T *sums, *sums_gradient;  // (n_atoms, 4, width): T and dE/dT
};

template <typename T>
__global__ void environment_of_atoms(DeviceEdges edges, const deep::Environment *environments,
                                     DeviceRows<T> rows) {
  const int atom = blockIdx.x;
  const Slots slots = slots_of(edges, atom);
  const deep::Environment env = environments[edges.types[atom]];
  for (int e = slots.begin + threadIdx.x; e < slots.begin + slots.n; e += DEEP_THREADS) {
    const double *const v = edges.edge_vec + 3 * static_cast<int64_t>(e);
    const double r2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    if (edges.neighbor_type[e] < 0 || !(r2 < env.cutoff * env.cutoff)) {
      rows.interval[e] = NO_NEIGHBOR;
      continue;
    }
    const double r = sqrt(r2), inverse = 1.0 / r;
    double fc, slope;
    cutoff_at(env.kind, env.cutoff, env.inner, r, fc, slope);
    const double s = fc * inverse, ds = (slope * fc * r - s) * inverse;  // ds/dr
    const double w = s * inverse * env.inverse_std_angular;              // R_k = w vec_k
    const double dw = (ds * env.inverse_std_angular - w) * inverse;
    const double argument = (s - env.mean) * env.inverse_std;
    T *const row = rows.row + 4 * static_cast<int64_t>(e), *const chain =
                                                               rows.chain + 3 * static_cast<int64_t>(e);
    rows.interval[e] = OUTSIDE;
    rows.argument[e] = argument;
    row[0] = static_cast<T>(argument);
    for (int c = 0; c < 3; c++) row[1 + c] = static_cast<T>(w * v[c]);
    chain[0] = static_cast<T>(ds * env.inverse_std * inverse);
    chain[1] = static_cast<T>(dw * inverse);
    chain[2] = static_cast<T>(w);
  }
}

// Value and derivative of an embedding network at x, by a whole block; memory: (4, widest). All threads may
// read the results until the next call.
__device__ inline void embed_exactly(int n_layers, const ExactLayer *layers, double x, double *memory,
                                     int widest, const double *&value, const double *&slope) {
  double *in = memory, *out = memory + 2 * widest;
  __syncthreads();
  if (threadIdx.x == 0) {
    in[0] = x;
    in[widest] = 1.0;
  }
  __syncthreads();
  for (int l = 0; l < n_layers; l++) {
    const ExactLayer layer = layers[l];
    for (int h = threadIdx.x; h < layer.n_out; h += DEEP_THREADS) {
      double u = layer.bias[h], du = 0.0, f, df;
      for (int k = 0; k < layer.n_in; k++) {
        const double weight = layer.weight[static_cast<int64_t>(h) * layer.n_in + k];
        u += weight * in[k];
        du += weight * in[widest + k];
      }
      activation_at(layer.activation, u, f, df);
      const double step = layer.timestep ? layer.timestep[h] : 1.0;
      const int k = h % layer.n_in;
      out[h] = step * f + (layer.copies > 0 ? in[k] : 0.0);
      out[widest + h] = step * df * du + (layer.copies > 0 ? in[widest + k] : 0.0);
    }
    __syncthreads();
    double *const free = in;
    in = out;
    out = free;
  }
  value = in;
  slope = in + widest;
}

// T of every atom: the sum over its neighbours of G R, and what missing ones would give.
template <typename T>
__global__ void __launch_bounds__(DEEP_THREADS) embed(DeepTask<T> task) {
  NNPKIT_SHARED_MEMORY(shared);
  __shared__ int found[MOST_TYPES], outside;
  const DeviceEdges &edges = task.edges;
  const DeviceRows<T> &rows = task.rows;
  const Slots slots = slots_of(edges, edges.order[blockIdx.x]);
  for (int t = threadIdx.x; t < task.n_types; t += DEEP_THREADS) found[t] = 0;
  if (threadIdx.x == 0) outside = 0;
  __syncthreads();
  for (int e = slots.begin + threadIdx.x; e < slots.begin + slots.n; e += DEEP_THREADS) {
    if (rows.interval[e] == NO_NEIGHBOR) continue;
    const int type = edges.neighbor_type[e];
    const DeviceTable<T> &table = task.tables[type];
    const double place = (rows.argument[e] - table.start) * table.inverse_spacing;
    const bool inside = place >= 0.0 && place < static_cast<double>(table.n_intervals);
    const int interval = inside ? static_cast<int>(place) : OUTSIDE;
    rows.interval[e] = interval;
    rows.place[e] = static_cast<T>(inside ? place - interval : 0.0);
    atomicAdd(&found[type], 1);
    if (!inside) atomicAdd(&outside, 1);
  }
  __syncthreads();
  T *const sums = task.sums + static_cast<int64_t>(blockIdx.x) * 4 * task.width;
  for (int m = threadIdx.x; m < task.width; m += DEEP_THREADS) {
    T sum[4] = {};
    for (int t = 0; t < task.n_types; t++)
      sum[0] += static_cast<T>(task.expected[t] - found[t]) * task.absent[t * task.padded + m];
    for (int e = slots.begin; e < slots.begin + slots.n; e++) {
      const int interval = rows.interval[e];
      if (interval < 0) continue;
      const T *const node =
          task.tables[edges.neighbor_type[e]].node + (static_cast<int64_t>(interval) * 6) * task.padded + m;
      const T t = rows.place[e], *const row = rows.row + 4 * static_cast<int64_t>(e);
      T g = __ldg(node + 5 * task.padded);
      for (int k = 4; k >= 0; k--) g = g * t + __ldg(node + k * task.padded);
      for (int c = 0; c < 4; c++) sum[c] += g * row[c];
    }
    for (int c = 0; c < 4; c++) sums[c * task.width + m] = sum[c] * task.normalisation;
  }
  for (int e = slots.begin; outside > 0 && e < slots.begin + slots.n; e++) {
    if (rows.interval[e] != OUTSIDE) continue;
    const DeviceTable<T> &table = task.tables[edges.neighbor_type[e]];
    const double *value, *slope;
    embed_exactly(table.n_layers, table.layers, rows.argument[e], reinterpret_cast<double *>(shared),
                  task.widest, value, slope);
    for (int m = threadIdx.x; m < task.width; m += DEEP_THREADS)
      for (int c = 0; c < 4; c++)
        sums[c * task.width + m] +=
            static_cast<T>(value[m] * rows.row[4 * static_cast<int64_t>(e) + c]) * task.normalisation;
  }
}

// dE/dvec = vec (p dE/dR_0 + q sum_k vec_k dE/dR_k) + w (dE/dR_1, dE/dR_2, dE/dR_3), added to a row
template <typename T>
__device__ __forceinline__ void add_edge_gradient(const DeepTask<T> &task, const DeviceResults &results,
                                                  int row, double share, int e, const T *gradient) {
  const double *const v = task.edges.edge_vec + 3 * static_cast<int64_t>(e);
  const T *const chain = task.rows.chain + 3 * static_cast<int64_t>(e);
  double along = static_cast<double>(chain[0]) * gradient[0];
  for (int c = 0; c < 3; c++) along += chain[1] * v[c] * gradient[1 + c];
  double *const to = results.gradient + 3 * static_cast<int64_t>(e) * results.n_rows + row;
  for (int c = 0; c < 3; c++) to[c * results.n_rows] += share * (v[c] * along + chain[2] * gradient[1 + c]);
}

// dE/dvec of every edge from dE/dT: a warp per edge, its lanes share the outputs of the embedding.
template <typename T>
__global__ void __launch_bounds__(DEEP_THREADS)
    embed_gradient(DeepTask<T> task, DeviceResults results, int result_row, double share) {
  NNPKIT_SHARED_MEMORY(shared);
  __shared__ int outside;
  const DeviceEdges &edges = task.edges;
  const DeviceRows<T> &rows = task.rows;
  const Slots slots = slots_of(edges, edges.order[blockIdx.x]);
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, width = task.width;
  double *const exact = reinterpret_cast<double *>(shared);
  T *const dt = reinterpret_cast<T *>(exact + 4 * task.widest);  // (4, width)
  if (threadIdx.x == 0) outside = 0;
  for (int k = threadIdx.x; k < 4 * width; k += DEEP_THREADS)
    dt[k] = task.sums_gradient[static_cast<int64_t>(blockIdx.x) * 4 * width + k] * task.normalisation;
  __syncthreads();
  for (int e = slots.begin + warp; e < slots.begin + slots.n; e += DEEP_WARPS) {
    const int interval = rows.interval[e];
    if (interval == OUTSIDE && lane == 0) atomicAdd(&outside, 1);
    if (interval < 0) continue;
    const DeviceTable<T> &table = task.tables[edges.neighbor_type[e]];
    const T *const node = table.node + static_cast<int64_t>(interval) * 6 * task.padded;
    const T t = rows.place[e], *const row = rows.row + 4 * static_cast<int64_t>(e);
    T sum[4] = {}, slope = T(0);
    for (int m = lane; m < width; m += WARP) {
      T g = __ldg(node + 5 * task.padded + m), d = T(0);
      for (int k = 4; k >= 0; k--) {
        d = d * t + g;
        g = g * t + __ldg(node + k * task.padded + m);
      }
      for (int c = 0; c < 4; c++) {
        sum[c] += g * dt[c * width + m];
        slope += d * row[c] * dt[c * width + m];
      }
    }
    for (int c = 0; c < 4; c++) sum[c] = sum_of_warp(sum[c]);
    sum[0] += sum_of_warp(slope) * static_cast<T>(table.inverse_spacing);
    if (lane == 0) add_edge_gradient(task, results, result_row, share, e, sum);
  }
  __syncthreads();
  for (int e = slots.begin; outside > 0 && e < slots.begin + slots.n; e++) {
    if (rows.interval[e] != OUTSIDE) continue;
    const DeviceTable<T> &table = task.tables[edges.neighbor_type[e]];
    const double *value, *slope;
    embed_exactly(table.n_layers, table.layers, rows.argument[e], exact, task.widest, value, slope);
    if (warp != 0) continue;
    T gradient[4];
    for (int c = 0; c < 4; c++) {
      double sum = 0.0;
      for (int m = lane; m < width; m += WARP) sum += value[m] * dt[c * width + m];
      gradient[c] = static_cast<T>(sum_of_warp(sum));
    }
    double along = 0.0;
    for (int m = lane; m < width; m += WARP)
      for (int c = 0; c < 4; c++)
        along += slope[m] * rows.row[4 * static_cast<int64_t>(e) + c] * dt[c * width + m];
    gradient[0] += static_cast<T>(sum_of_warp(along));
    if (lane == 0) add_edge_gradient(task, results, result_row, share, e, gradient);
  }
}

}  // namespace cuda
}  // namespace nnpkit

#endif
