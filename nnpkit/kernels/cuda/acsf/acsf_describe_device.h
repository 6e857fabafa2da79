// Symmetry functions of one atom, by the threads of one block. Included by acsf.cu only.
//
// The pairs of neighbours that contribute are collected in a queue per warp, so that no lane evaluates
// nothing; every thread sums functions up in a column of its own.

#ifndef NNPKIT_CUDA_ACSF_DESCRIBE_H
#define NNPKIT_CUDA_ACSF_DESCRIBE_H

#include "atom_device.h"

namespace nnpkit {
namespace cuda {

using acsf::AngularGroup;
using acsf::Center;
using acsf::MAX_ANGULAR;

constexpr int ACSF_THREADS = 64, ACSF_WARPS = ACSF_THREADS / WARP;
constexpr int FUNCTIONS = 32;  // summed up at the same time; a group with more is gone through again

// Members with one descriptor.
template <typename T>
struct AcsfTask {
  int n_types, n_members, share /* of all members: the mean is over so many */;
  double longest;                    // angstrom: cutoff of all functions
  const Center<T> *centers;          // (n_types)
  const DeviceElement<T> *elements;  // (n_members, n_types)
  const int *rows;                   // (n_members) of the results
  // features of the training data: (n_types, width), columns from first_function on; null: not counted
  const double *minimum, *maximum;
  int width, n_functions, first_function;
  // of the block's memory
  int n_slots, n_cutoffs, n_features, n_columns, n_nodes;
  char *memory;  // where shared memory does not suffice: `bytes` per block; else null
  size_t bytes;
};

// What a block needs; neighbours lie in slots, one element after the other.
template <typename T, int ROWS>
struct Scratch {
  double *features, *mean;            // (n_features); mean: of dE/dG over the members
  T *x, *y, *z, *r2, *inverse;        // (n_slots)
  T *envelope, *slope;                // (n_cutoffs, n_slots)
  T *columns;                         // (n_columns, threads) partial sums of functions
  T *coefficients;                    // (n_features, ROWS): dE/dG
  T *nodes;                           // of a network
  int *edge, *begin, *count, *queue;  // (n_slots), (n_types), (n_types), (warps, 2 warps)

  // Returns the bytes that all of it takes.
  __host__ __device__ size_t carve(char *base, const AcsfTask<T> &task) {
    size_t at = 0;
    const auto take = [&](auto *&to, size_t n) {
      to = reinterpret_cast<std::decay_t<decltype(to)>>(base + at);
      at += (n * sizeof(*to) + 15) / 16 * 16;
    };
    take(features, task.n_features);
    take(mean, task.n_features);
    take(x, task.n_slots);
    take(y, task.n_slots);
    take(z, task.n_slots);
    take(r2, task.n_slots);
    take(inverse, task.n_slots);
    take(envelope, static_cast<size_t>(task.n_cutoffs) * task.n_slots);
    take(slope, static_cast<size_t>(task.n_cutoffs) * task.n_slots);
    take(columns, static_cast<size_t>(task.n_columns) * ACSF_THREADS);
    take(coefficients, static_cast<size_t>(task.n_features) * ROWS);
    take(nodes, task.n_nodes);
    take(edge, task.n_slots);
    take(begin, task.n_types);
    take(count, task.n_types);
    take(queue, 2 * ACSF_THREADS);
    return at;
  }
};

// Sums the columns of functions first .. last - 1 over the threads, in double precision.
template <typename T, int ROWS>
__device__ void sum_columns(Scratch<T, ROWS> &ws, const int *column, int first, int last) {
  __syncthreads();
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  for (int f = first + warp; f < last; f += ACSF_WARPS) {
    double sum = 0.0;
    for (int t = lane; t < ACSF_THREADS; t += WARP)
      sum += static_cast<double>(ws.columns[(f - first) * ACSF_THREADS + t]);
    sum = sum_of_warp(sum);
    if (lane == 0) ws.features[column[f]] += sum;
  }
  __syncthreads();
}

template <typename T, int ROWS>
__device__ void describe_radial(const AcsfTask<T> &task, const Center<T> &center, Scratch<T, ROWS> &ws) {
  for (int type = 0; type < task.n_types; type++) {
    const auto functions = center.radial[type];
    const int begin = ws.begin[type], end = begin + ws.count[type];
    for (int first = 0; first < functions.n; first += FUNCTIONS) {
      const int last = first + FUNCTIONS < functions.n ? first + FUNCTIONS : functions.n;
      for (int f = first; f < last; f++) {
        T sum = T(0);
        const T eta = functions.eta[f], shift = functions.shift[f];
        const T *const fc = ws.envelope + functions.cutoff[f] * task.n_slots;
        for (int at = begin + threadIdx.x; at < end; at += ACSF_THREADS) {
          const T d = ws.r2[at] * ws.inverse[at] - shift;
          sum += exp(-eta * (shift != T(0) ? d * d : ws.r2[at])) * fc[at];
        }
        ws.columns[(f - first) * ACSF_THREADS + threadIdx.x] = sum;
      }
      sum_columns(ws, functions.column, first, last);
    }
  }
}

// What two neighbours of an atom have to do with each other.
template <typename T>
struct Triplet {
  T cosine, inverse /* 1 / (r_ij r_ik) */, legs2, side2, fc, slope /* of the third side */, side_inverse;
};

// False if the triplet contributes nothing.
template <typename T, int ROWS>
__device__ __forceinline__ bool close_enough(const AngularGroup<T> &group, T limit,
                                             const Scratch<T, ROWS> &ws, int j, int k) {
  if (!(ws.r2[j] < limit && ws.r2[k] < limit)) return false;
  if (!group.narrow) return true;
  const T dx = ws.x[k] - ws.x[j], dy = ws.y[k] - ws.y[j], dz = ws.z[k] - ws.z[j];
  return dx * dx + dy * dy + dz * dz < limit;
}

template <typename T, int ROWS>
__device__ __forceinline__ Triplet<T> triplet_of(const AcsfTask<T> &task, const Center<T> &center,
                                                 const AngularGroup<T> &group, const Scratch<T, ROWS> &ws,
                                                 int j, int k) {
  const T dx = ws.x[k] - ws.x[j], dy = ws.y[k] - ws.y[j], dz = ws.z[k] - ws.z[j];
  const T *const fc = ws.envelope + group.cutoff * task.n_slots;
  Triplet<T> t;
  t.side2 = dx * dx + dy * dy + dz * dz;
  t.legs2 = ws.r2[j] + ws.r2[k];
  t.inverse = ws.inverse[j] * ws.inverse[k];
  t.cosine = T(0.5) * (t.legs2 - t.side2) * t.inverse;
  t.fc = fc[j] * fc[k];
  t.slope = t.side_inverse = T(0);
  if (group.narrow) {
    const auto &ring = center.cutoffs[group.cutoff];
    T value;
    t.side_inverse = rsqrt(t.side2);
    cutoff_at(ring.kind, ring.radius, ring.inner, t.side2 * t.side_inverse, value, t.slope);
    t.fc *= value;
  }
  return t;
}

// h(r_ij) h(r_ik) h(r_jk) of radial part p
template <typename T>
__device__ __forceinline__ T radial_product(const AngularGroup<T> &group, const Triplet<T> &t, int p) {
  T exponent = group.narrow ? t.legs2 + t.side2 : t.legs2;
  if (group.shifted) {
    T lengths = sqrt(t.legs2 + T(2) / t.inverse);  // r_ij + r_ik
    if (group.narrow) lengths += t.side2 * t.side_inverse;
    exponent += group.shift[p] * (T(group.narrow ? 3 : 2) * group.shift[p] - T(2) * lengths);
  }
  return exp(-group.eta[p] * exponent) * t.fc;
}

// 2 (1/2 + lambda/2 cos)^zeta, and its derivative by the cosine
template <typename T>
__device__ __forceinline__ void angular_part(const AngularGroup<T> &group, int a, T cosine, T &value,
                                             T &derivative) {
  const T lambda = group.lambda[a], zeta = group.zeta[a];
  const T exact = T(0.5) + T(0.5) * lambda * cosine, base = exact > T(0) ? exact : T(0);
  T lower = T(1);  // base^(zeta - 1)
  if (group.power[a] > 0) {
    T square = base;
    for (int left = group.power[a] - 1; left > 0; left >>= 1) {
      if (left & 1) lower *= square;
      square *= square;
    }
  } else {
    lower = base > T(0) ? pow(base, zeta - T(1)) : T(0);
  }
  value = T(2) * lower * base;
  derivative = lambda * zeta * lower;
}

// Adds a triplet to the thread's columns of functions first .. last - 1.
template <typename T, int ROWS>
__device__ void add_triplet(const AcsfTask<T> &task, const Center<T> &center, const AngularGroup<T> &group,
                            Scratch<T, ROWS> &ws, int pair, int first, int last) {
  const Triplet<T> t = triplet_of(task, center, group, ws, pair & 0xffff, pair >> 16);
  T value[MAX_ANGULAR], derivative;
  for (int a = 0; a < group.n_angular; a++) angular_part(group, a, t.cosine, value[a], derivative);
  for (int p = 0; p < group.n_radial; p++) {
    if (group.first_function[p + 1] <= first || group.first_function[p] >= last) continue;
    const T product = radial_product(group, t, p);
    for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++)
      if (f >= first && f < last)
        ws.columns[(f - first) * ACSF_THREADS + threadIdx.x] += product * value[group.angular[f]];
  }
}

template <typename T, int ROWS>
__device__ void describe_angular(const AcsfTask<T> &task, const Center<T> &center, Scratch<T, ROWS> &ws) {
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  int *const queue = ws.queue + 2 * WARP * warp;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> group = center.groups[g];
    const T radius = center.cutoffs[group.cutoff].radius, limit = radius * radius;
    const int a = ws.begin[group.first], n = ws.count[group.first], b = ws.begin[group.second];
    const bool same = group.first == group.second;
    const int n_pairs = same ? n * (n - 1) / 2 : n * ws.count[group.second];
    for (int first = 0; first < group.n_functions; first += FUNCTIONS) {
      const int last = first + FUNCTIONS < group.n_functions ? first + FUNCTIONS : group.n_functions;
      for (int f = first; f < last; f++) ws.columns[(f - first) * ACSF_THREADS + threadIdx.x] = T(0);
      int waiting = 0;
      for (int from = warp * WARP; from < n_pairs; from += ACSF_THREADS) {
        const int pair = from + lane;
        int j = 0, k = 0;
        bool found = pair < n_pairs;
        if (found) {
          j = pair % n;
          k = pair / n;
          // the pairs of one element: j with the next ones, around the end
          k = same ? (j + k + 1 < n ? j + k + 1 : j + k + 1 - n) : k;
          j += a;
          k += b;
          found = close_enough(group, limit, ws, j, k);
        }
        const unsigned bits = __ballot_sync(ALL_LANES, found);
        if (found) queue[waiting + __popc(bits & ((1u << lane) - 1u))] = j | k << 16;
        waiting += __popc(bits);
        __syncwarp();
        if (waiting < WARP) continue;
        waiting -= WARP;
        add_triplet(task, center, group, ws, queue[waiting + lane], first, last);
        __syncwarp();
      }
      if (lane < waiting) add_triplet(task, center, group, ws, queue[lane], first, last);
      sum_columns(ws, group.column, first, last);
    }
  }
}

}  // namespace cuda
}  // namespace nnpkit

#endif
