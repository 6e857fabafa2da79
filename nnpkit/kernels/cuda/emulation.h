// The part of CUDA that the kernels use, on the processor: the same sources, compiled by any C++ compiler
// with NNPKIT_CUDA_EMULATION, can be tested where there is no GPU.
//
// The threads of a block are fibers of one thread. Each runs until it waits for the others of its warp or
// block, first to last in one block and last to first in the next: what lacks a barrier reads what is not
// there yet. Memory starts as NaN. Threads that wait at different barriers end the program with a message.

#ifndef NNPKIT_CUDA_EMULATION_H
#define NNPKIT_CUDA_EMULATION_H

#include <math.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static

namespace emulation {

constexpr int WARP = 32;
constexpr size_t STACK = 256 << 10, SHARED = 48 << 10;

struct Index {
  int x = 0;
};

enum class State { READY, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
  ucontext_t start;
  jmp_buf resume;
  State state = State::READY;
  std::unique_ptr<char[]> stack;
  uint64_t exchange = 0;  // what the others of the warp may read
};

struct Machine {
  Fiber fibers[1024];
  jmp_buf scheduler;
  int current = 0, n = 0;
  std::function<void()> body;
  alignas(64) char shared[SHARED];
};
inline Machine machine;

}  // namespace emulation

inline emulation::Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

// A fiber serves one block after the other.
inline void enter() {
  for (;;) {
    machine.body();
    Fiber &fiber = machine.fibers[machine.current];
    fiber.state = State::DONE;
    if (!_setjmp(fiber.resume)) _longjmp(machine.scheduler, 1);
  }
}

inline void resume(int thread) {
  machine.current = threadIdx.x = thread;
  Fiber &fiber = machine.fibers[thread];
  if (_setjmp(machine.scheduler)) return;
  if (fiber.stack) _longjmp(fiber.resume, 1);
  fiber.stack.reset(new char[STACK]);
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = STACK;
  fiber.start.uc_link = nullptr;
  makecontext(&fiber.start, &enter, 0);
  setcontext(&fiber.start);
}

inline void wait(State where) {
  Fiber &fiber = machine.fibers[machine.current];
  fiber.state = where;
  if (!_setjmp(fiber.resume)) _longjmp(machine.scheduler, 1);
}

// Lets threads begin .. end - 1 go on if all that still run wait at the same kind of barrier.
inline bool release(int begin, int end, State where) {
  int waiting = 0;
  for (int t = begin; t < end; t++) {
    if (machine.fibers[t].state == State::DONE) continue;
    if (machine.fibers[t].state != where) return false;
    waiting++;
  }
  for (int t = begin; t < end; t++)
    if (machine.fibers[t].state == where) machine.fibers[t].state = State::READY;
  return waiting > 0;
}

inline void run_block(bool backward) {
  for (int t = 0; t < machine.n; t++) machine.fibers[t].state = State::READY;
  std::memset(machine.shared, 0xff, SHARED);
  for (bool moved = true; moved;) {
    moved = false;
    for (int k = 0; k < machine.n; k++) {
      const int t = backward ? machine.n - 1 - k : k;
      if (machine.fibers[t].state != State::READY) continue;
      resume(t);
      moved = true;
    }
    for (int t = 0; t < machine.n; t += WARP)
      moved |= release(t, std::min(t + WARP, machine.n), State::AT_WARP);
    moved |= release(0, machine.n, State::AT_BLOCK);
  }
  for (int t = 0; t < machine.n; t++)
    if (machine.fibers[t].state != State::DONE) {
      std::fprintf(stderr, "emulated kernel: threads of block %d wait at different barriers\n", blockIdx.x);
      std::abort();
    }
}

inline void run(int blocks, int threads, size_t shared, std::function<void()> body) {
  if (threads % WARP != 0 || shared > SHARED) {
    std::fprintf(stderr, "emulated kernel: %d threads, %zu bytes of shared memory\n", threads, shared);
    std::abort();
  }
  machine.n = threads;
  machine.body = std::move(body);
  gridDim.x = blocks;
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) run_block(blockIdx.x % 2 == 1);
}

template <typename V>
V from_lane(V value, int lane) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(V));
  const int first = machine.current / WARP * WARP;
  machine.fibers[machine.current].exchange = bits;
  wait(State::AT_WARP);
  bits = machine.fibers[first + lane].exchange;
  wait(State::AT_WARP);
  std::memcpy(&value, &bits, sizeof(V));
  return value;
}

}  // namespace emulation

inline void __syncthreads() {
  emulation::wait(emulation::State::AT_BLOCK);
}
inline void __syncwarp() {
  emulation::wait(emulation::State::AT_WARP);
}
template <typename V>
V __shfl_xor_sync(unsigned, V value, int mask) {
  return emulation::from_lane(value, (threadIdx.x ^ mask) % emulation::WARP);
}
inline unsigned __ballot_sync(unsigned, bool mine) {
  using namespace emulation;
  const int first = machine.current / WARP * WARP;
  machine.fibers[machine.current].exchange = mine;
  wait(State::AT_WARP);
  unsigned bits = 0;
  for (int lane = 0; lane < WARP; lane++)
    bits |= static_cast<unsigned>(machine.fibers[first + lane].exchange) << lane;
  wait(State::AT_WARP);
  return bits;
}
inline int __popc(unsigned bits) {
  return __builtin_popcount(bits);
}
template <typename V>
V atomicAdd(V *to, V value) {
  const V before = *to;
  *to += value;
  return before;
}
template <typename V>
V __ldg(const V *from) {
  return *from;
}
inline double rsqrt(double x) {
  return 1.0 / std::sqrt(x);
}
inline float rsqrt(float x) {
  return 1.0f / std::sqrt(x);
}

// ---- the runtime: every call is finished when it returns -------------------------------------------------
using cudaStream_t = void *;
enum cudaError_t { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };

inline const char *cudaGetErrorString(cudaError_t) {
  return "out of memory";
}
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int *count) {
  return *count = 2, cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
template <typename V>
cudaError_t cudaMalloc(V **to, size_t bytes) {
  *to = static_cast<V *>(std::malloc(bytes));
  if (!*to) return cudaErrorMemoryAllocation;
  std::memset(static_cast<void *>(*to), 0xff, bytes);
  return cudaSuccess;
}
template <typename V>
cudaError_t cudaMallocHost(V **to, size_t bytes) {
  return cudaMalloc(to, bytes);
}
inline cudaError_t cudaFree(void *memory) {
  return std::free(memory), cudaSuccess;
}
inline cudaError_t cudaFreeHost(void *memory) {
  return std::free(memory), cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t) {
  return std::memset(to, value, bytes), cudaSuccess;
}
inline cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  return *stream = nullptr, cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}

#endif
