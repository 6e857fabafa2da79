// Features of Deep Potentials and their fitting networks, for all atoms of one element of a chunk at once.
// Included by deep.cu only.

#ifndef NNPKIT_CUDA_DEEP_FITTING_DEVICE_H
#define NNPKIT_CUDA_DEEP_FITTING_DEVICE_H

#include "cuda_kernel.h"

namespace nnpkit {
namespace cuda {

constexpr int FIT_THREADS = 256, TILE = 64, DEPTH = 16, SIDE = 16, EACH = TILE / SIDE;

// C (m, n) = A (m, k) B (k, n), row-major; a block makes a tile of C, a thread 4 x 4 numbers of it.
template <typename T>
__global__ void __launch_bounds__(FIT_THREADS) multiply(int m, int n, int k, const T *a, const T *b, T *c) {
  __shared__ T part_a[DEPTH][TILE + 1], part_b[DEPTH][TILE];
  const int tiles = (n + TILE - 1) / TILE, row = blockIdx.x / tiles * TILE,
            column = blockIdx.x % tiles * TILE;
  const int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
  T sum[EACH][EACH] = {};
  for (int from = 0; from < k; from += DEPTH) {
    for (int at = threadIdx.x; at < TILE * DEPTH; at += FIT_THREADS) {
      const int i = row + at / DEPTH, l = from + at % DEPTH;
      part_a[at % DEPTH][at / DEPTH] = i < m && l < k ? a[static_cast<int64_t>(i) * k + l] : T(0);
    }
    for (int at = threadIdx.x; at < TILE * DEPTH; at += FIT_THREADS) {
      const int l = from + at / TILE, j = column + at % TILE;
      part_b[at / TILE][at % TILE] = l < k && j < n ? b[static_cast<int64_t>(l) * n + j] : T(0);
    }
    __syncthreads();
    for (int l = 0; l < DEPTH; l++) {
      T left[EACH], right[EACH];
      for (int e = 0; e < EACH; e++) {
        left[e] = part_a[l][y + SIDE * e];
        right[e] = part_b[l][x + SIDE * e];
      }
      for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) sum[i][j] += left[i] * right[j];
    }
    __syncthreads();
  }
  for (int i = 0; i < EACH; i++)
    for (int j = 0; j < EACH; j++) {
      const int to_row = row + y + SIDE * i, to_column = column + x + SIDE * j;
      if (to_row < m && to_column < n) c[static_cast<int64_t>(to_row) * n + to_column] = sum[i][j];
    }
}

// Position of a thread among all of a kernel.
__device__ __forceinline__ int64_t thread_of_grid() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <typename T>
struct FeatureTask {
  int n_atoms, type, width, axis;
  const T *sums;                    // (n_atoms, 4, width)
  const T *factor, *offset;         // (width * axis), or null
  const double *minimum, *maximum;  // (width * axis); null: do not count
  const int *order;                 // atoms of the chunk
  int n_functions, first_function;
};

// D = T T_<^T, scaled: features (n_atoms, width * axis)
template <typename T>
__global__ void expand(FeatureTask<T> task, T *features, DeviceResults results) {
  const int n_features = task.width * task.axis;
  const int64_t at = thread_of_grid();
  if (at >= static_cast<int64_t>(task.n_atoms) * n_features) return;
  const int atom = static_cast<int>(at / n_features), f = static_cast<int>(at % n_features);
  const T *const t = task.sums + static_cast<int64_t>(atom) * 4 * task.width;
  T d = T(0);
  for (int c = 0; c < 4; c++) d += t[c * task.width + f / task.axis] * t[c * task.width + f % task.axis];
  if (task.minimum && (d < static_cast<T>(task.minimum[f]) || d > static_cast<T>(task.maximum[f]))) {
    atomicAdd(results.per_atom + task.order[atom], 1ull);  // whole numbers: the order does not matter
    atomicAdd(
        results.per_function + static_cast<int64_t>(task.type) * task.n_functions + task.first_function + f,
        1ull);
  }
  features[at] = task.factor ? d * task.factor[f] + task.offset[f] : d;
}

// dE/dT (n_atoms, 4, width) from dE/d(scaled D)
template <typename T>
__global__ void contract(FeatureTask<T> task, const T *gradient, T *sums_gradient) {
  const int64_t at = thread_of_grid();
  if (at >= static_cast<int64_t>(task.n_atoms) * 4 * task.width) return;
  const int m = static_cast<int>(at % task.width), n_features = task.width * task.axis;
  const T *const t = task.sums + at - m;  // of the same atom and component
  const T *const d = gradient + at / (4 * task.width) * n_features;
  T sum = T(0);
  for (int a = 0; a < task.axis; a++) {
    const int f = m * task.axis + a;
    sum += (task.factor ? d[f] * task.factor[f] : d[f]) * t[a];
  }
  for (int other = 0; m < task.axis && other < task.width; other++) {
    const int f = other * task.axis + m;
    sum += (task.factor ? d[f] * task.factor[f] : d[f]) * t[other];
  }
  sums_gradient[at] = sum;
}

// A layer of a fitting network on the device.
template <typename T>
struct FittingLayer {
  int n_in, n_out, copies;
  Activation activation;
  const T *weight, *transposed;  // (n_out, n_in) and (n_in, n_out)
  const T *bias, *timestep;      // timestep may be null
};

// z = W x (in `value`) to y = timestep f(z + bias) + shortcut, and timestep f'
template <typename T>
__global__ void finish_layer(FittingLayer<T> layer, int64_t n, const T *x, T *value, T *slope) {
  const int64_t at = thread_of_grid();
  if (at >= n) return;
  const int h = static_cast<int>(at % layer.n_out);
  T y, dy;
  activation_at(layer.activation, value[at] + layer.bias[h], y, dy);
  if (layer.timestep) {
    y *= layer.timestep[h];
    dy *= layer.timestep[h];
  }
  if (layer.copies > 0) y += x[at / layer.n_out * layer.n_in + h % layer.n_in];
  value[at] = y;
  slope[at] = dy;
}

// dE/dz in place of the slope; dE/dy of the last layer are the weights of the linear node, here `output`
template <typename T>
__global__ void backward_layer(int n_out, int64_t n, const double *output, T *gradient, T *slope) {
  const int64_t at = thread_of_grid();
  if (at >= n) return;
  if (output) gradient[at] = static_cast<T>(output[at % n_out]);
  slope[at] *= gradient[at];
}

// dE/dx += dE/dy along the shortcuts
template <typename T>
__global__ void add_shortcuts(FittingLayer<T> layer, int64_t n, const T *gradient, T *to) {
  const int64_t at = thread_of_grid();
  if (at >= n) return;
  const int64_t from = at / layer.n_in * layer.n_out + at % layer.n_in;
  for (int c = 0; c < layer.copies; c++) to[at] += gradient[from + static_cast<int64_t>(c) * layer.n_in];
}

// The linear node, a warp per atom, added to a row of the energies
template <typename T>
__global__ void energies(int n_atoms, int n_out, const T *y, const double *output, double bias,
                         const int *order, int row, double share, DeviceResults results) {
  const int atom = static_cast<int>(thread_of_grid() / WARP), lane = threadIdx.x % WARP;
  if (atom >= n_atoms) return;
  double sum = 0.0;
  for (int h = lane; h < n_out; h += WARP)
    sum += output[h] * static_cast<double>(y[static_cast<int64_t>(atom) * n_out + h]);
  sum = sum_of_warp(sum);
  if (lane == 0)
    results.energy[static_cast<int64_t>(order[atom]) * results.n_rows + row] += share * (sum + bias);
}

}  // namespace cuda
}  // namespace nnpkit

#endif
