// CUDA or its emulation, memory that frees itself, errors that throw, and sums over threads in a fixed order.

#ifndef NNPKIT_CUDA_DEVICE_H
#define NNPKIT_CUDA_DEVICE_H

#ifdef NNPKIT_CUDA_EMULATION
#include "emulation.h"
// The dynamic shared memory of a block.
#define NNPKIT_SHARED_MEMORY(name) char *const name = emulation::machine.shared
#else
#include <cuda_runtime.h>
#define NNPKIT_SHARED_MEMORY(name) extern __shared__ __align__(16) char name[]
#endif

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace nnpkit {
namespace cuda {

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr size_t SHARED_MEMORY =
    47 << 10;  // of the 48 kB that every block may have: 1 kB is for fixed arrays

inline void check(cudaError_t error, const char *doing) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA: ") + doing + ": " + cudaGetErrorString(error));
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared, cudaStream_t stream,
            const Arguments &...arguments) {
  if (blocks <= 0) return;
#ifdef NNPKIT_CUDA_EMULATION
  (void)stream;
  emulation::run(static_cast<int>(blocks), threads, shared, [&] { kernel(arguments...); });
#else
  kernel<<<static_cast<unsigned>(blocks), threads, shared, stream>>>(arguments...);
  check(cudaGetLastError(), "starting a kernel");
#endif
}

inline int64_t blocks_for(int64_t n, int threads) {
  return (n + threads - 1) / threads;
}

// Memory of the device, or pinned memory of the host, that only grows; what was in it is lost.
template <typename T, bool PINNED>
class Array {
 public:
  Array() = default;
  Array(Array &&other) noexcept : data(other.data), size(other.size) { other.data = nullptr, other.size = 0; }
  Array(const Array &) = delete;
  Array &operator=(const Array &) = delete;
  ~Array() { release(); }

  T *room(int64_t n) {
    if (n > size) {
      release();
      const int64_t wanted = n + n / 8;
      const size_t bytes = static_cast<size_t>(wanted) * sizeof(T);
      check(PINNED ? cudaMallocHost(&data, bytes) : cudaMalloc(&data, bytes),
            PINNED ? "pinned memory" : "memory of the device (a smaller chunk needs less)");
      size = wanted;
    }
    return data;
  }
  T *get() const { return data; }
  double bytes() const { return static_cast<double>(size) * sizeof(T); }

 private:
  T *data = nullptr;
  int64_t size = 0;

  void release() {
    if (data) PINNED ? cudaFreeHost(data) : cudaFree(data);
    data = nullptr;
    size = 0;
  }
};
template <typename T>
using DeviceArray = Array<T, false>;
template <typename T>
using PinnedArray = Array<T, true>;

// An array on its way to the device, through pinned memory so that nobody waits for it.
template <typename T>
class Upload {
 public:
  T *host(int64_t n) { return staging.room(n); }
  const T *send(int64_t n, cudaStream_t stream) {
    T *const to = memory.room(n > 0 ? n : 1);
    if (n > 0)
      check(cudaMemcpyAsync(to, staging.get(), n * sizeof(T), cudaMemcpyHostToDevice, stream),
            "to the device");
    return to;
  }
  const T *device() const { return memory.get(); }
  double bytes() const { return memory.bytes(); }

 private:
  PinnedArray<T> staging;
  DeviceArray<T> memory;
};

// What a model keeps on the device: written once, freed together.
class DeviceStorage {
 public:
  template <typename T>
  const T *keep(const T *values, size_t n) {
    arrays.emplace_back();
    char *const to = arrays.back().room(static_cast<int64_t>(n * sizeof(T)) + 1);
    if (n > 0)
      check(cudaMemcpyAsync(to, values, n * sizeof(T), cudaMemcpyHostToDevice, nullptr),
            "the model to the device");
    check(cudaStreamSynchronize(nullptr), "the model to the device");
    return reinterpret_cast<const T *>(to);
  }
  template <typename T>
  const T *keep(const std::vector<T> &values) {
    return keep(values.data(), values.size());
  }

 private:
  std::vector<DeviceArray<char>> arrays;
};

// What is copied may go when this returns.
template <typename T>
void copy(DeviceArray<T> &to, const T *from, int64_t n, cudaStream_t stream) {
  T *const memory = to.room(n + 1);
  if (n == 0) return;
  check(cudaMemcpyAsync(memory, from, n * sizeof(T), cudaMemcpyHostToDevice, stream), "lists to the device");
  check(cudaStreamSynchronize(stream), "lists to the device");
}

template <typename T>
T *cleared(DeviceArray<T> &array, int64_t n, cudaStream_t stream) {
  T *const memory = array.room(n + 1);
  if (n > 0) check(cudaMemsetAsync(memory, 0, n * sizeof(T), stream), "clearing");
  return memory;
}

template <typename T>
void fetch(T *to, const T *from, int64_t n, cudaStream_t stream) {
  if (n > 0)
    check(cudaMemcpyAsync(to, from, n * sizeof(T), cudaMemcpyDeviceToHost, stream), "results to the host");
}

// The sum over the lanes of a warp, in every lane, always in the same order.
template <typename T>
__device__ __forceinline__ T sum_of_warp(T value) {
  for (int mask = WARP / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(ALL_LANES, value, mask);
  return value;
}

// What a warp of the grid works on, -1: nothing.
__device__ __forceinline__ int item_of_warp(int n) {
  const int warp = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
  return warp < n ? warp : -1;
}

}  // namespace cuda
}  // namespace nnpkit

#endif
