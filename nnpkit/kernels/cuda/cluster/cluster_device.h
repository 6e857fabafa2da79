// A cluster expansion of one atom, by the threads of one block. Included by cluster.cu only.
//
// The formulae are those of csrc/cluster/cluster_basis.h, cluster_moments.h and cluster_channels.h.
// Neighbours are worked on a tile at a time, one by each thread; between tiles, threads own the sums over
// neighbours.

#ifndef NNPKIT_CUDA_CLUSTER_DEVICE_H
#define NNPKIT_CUDA_CLUSTER_DEVICE_H

#include "atom_device.h"
#include "cluster_plan.h"
#include "cuda_kernel.h"

namespace nnpkit {
namespace cuda {

using cluster::Basis;
using cluster::Center;
using cluster::Expansion;
using cluster::Invariant;
using cluster::Invariants;
using cluster::Mixing;
using cluster::padded;

constexpr int CLUSTER_THREADS = 64, TILE = CLUSTER_THREADS;

// Of one member.
template <typename T>
struct ClusterMember {
  const Center<T> *centers;          // (n_types)
  const DeviceElement<T> *elements;  // (n_types)
  int n_features, first_function, row;
  const double *minimum, *maximum;  // (n_types, n_features) of the training data; null: not counted
};

// Members whose moments are the same.
template <typename T>
struct ClusterTask {
  Expansion<T> expansion;
  int n_types, n_members, share /* of all members: the mean is over so many */, n_functions;
  double longest;  // angstrom: the longer cutoff
  const ClusterMember<T> *members;
  // of the block's memory
  int n_slots, n_features, n_nodes, n_channels /* padded */, n_derivatives;
  char *memory;  // where shared memory does not suffice: `bytes` per block; else null
  size_t bytes;

  __host__ __device__ int n_basis() const {
    return expansion.radial.n > expansion.angular.n ? expansion.radial.n : expansion.angular.n;
  }
  __host__ __device__ int n_moments() const {  // of one type of neighbours
    return expansion.n_rows() * expansion.angular.n;
  }
};

// What a block needs; neighbours lie in slots, one element after the other. Tiles and what a member needs are
// never there at the same time.
template <typename T>
struct ClusterScratch {
  double *features;                     // (n_features)
  T *x, *y, *z, *r2;                    // (n_slots) angstrom
  int *edge, *begin, *count;            // (n_slots), (n_types), (n_types)
  T *radial_moments, *radial_gradient;  // (n_types, functions)
  T *moments, *gradient;                // (n_types, rows, functions)
  T *values, *slopes;                   // (functions, TILE)
  T *rows;                              // (rows, TILE) harmonics, then dE by them
  T *channels, *channel_gradient;       // (rows, padded channels)
  T *derivatives;                       // (derivatives of invariants, padded channels)
  T *coefficients, *nodes;              // (n_features) dE by them; of a network

  // Returns the bytes that all of it takes.
  __host__ __device__ size_t carve(char *base, const ClusterTask<T> &task) {
    size_t at = 0;
    const auto take = [&](auto *&to, size_t n) {
      to = reinterpret_cast<std::decay_t<decltype(to)>>(base + at);
      at += (n * sizeof(*to) + 15) / 16 * 16;
    };
    take(features, task.n_features);
    for (T **const array : {&x, &y, &z, &r2}) take(*array, task.n_slots);
    take(edge, task.n_slots);
    take(begin, task.n_types);
    take(count, task.n_types);
    for (T **const array : {&radial_moments, &radial_gradient})
      take(*array, static_cast<size_t>(task.n_types) * task.expansion.radial.n);
    for (T **const array : {&moments, &gradient})
      take(*array, static_cast<size_t>(task.n_types) * task.n_moments());
    const size_t both = at;
    take(values, static_cast<size_t>(task.n_basis()) * TILE);
    take(slopes, static_cast<size_t>(task.n_basis()) * TILE);
    take(rows, static_cast<size_t>(task.expansion.n_rows()) * TILE);
    const size_t tiles = at;
    at = both;
    for (T **const array : {&channels, &channel_gradient})
      take(*array, static_cast<size_t>(task.expansion.n_rows()) * task.n_channels);
    take(derivatives, static_cast<size_t>(task.n_derivatives) * task.n_channels);
    take(coefficients, task.n_features);
    take(nodes, task.n_nodes);
    return at > tiles ? at : tiles;
  }
};

// f_k(r) and its derivative for k < n, to values[k * TILE] and slopes[k * TILE].
template <typename T>
__device__ void radial_functions(const Basis<T> &basis, T r, T *values, T *slopes) {
  const T over = T(1) / basis.cutoff, u = r < basis.cutoff ? T(1) - r * over : T(0), x = T(1) - u;
  T half, half_slope;  // fc / 2 and its derivative
  if (basis.kind == cluster::CutoffKind::COSINE) {
    const T angle = T(1.5707963267948966) * u, s = sin(angle);
    half = T(0.5) * s * s;
    half_slope = s * cos(angle) * (T(-1.5707963267948966) * over);
  } else if (basis.kind == cluster::CutoffKind::POLY2) {
    half = u * u * u * ((T(3) * x + T(1.5)) * x + T(0.5));
    half_slope = x * x * u * u * (T(-15) * over);
  } else {
    half = u * u * u * u * (((T(10) * x + T(5)) * x + T(2)) * x + T(0.5));
    half_slope = x * x * x * u * u * u * (T(-70) * over);
  }
  const T x2 = T(4) * basis.stretch * u * u - T(2), x2_slope = u * (T(-8) * basis.stretch * over);
  T last = half, last_slope = half_slope, value = T(0.5) * x2 * half,
    slope = T(0.5) * (x2_slope * half + x2 * half_slope);
  for (int k = 0; k < basis.n; k++, values += TILE, slopes += TILE) {
    *values = last + half;
    *slopes = last_slope + half_slope;
    const T next = x2 * value - last, next_slope = x2 * slope + (x2_slope * value - last_slope);
    last = value;
    last_slope = slope;
    value = next;
    slope = next_slope;
  }
}

// What makes the polynomial of degree l + 1 from those of l and l - 1, of leading coefficient 1.
template <typename T>
__device__ __forceinline__ T below(int l, int m) {
  return (T(l) * T(l) - T(m) * T(m)) / (T(4) * T(l) * T(l) - T(1));
}

// All harmonics of a unit vector, to rows[row * TILE].
template <typename T>
__device__ void harmonics(int l_max, T x, T y, T z, T *rows) {
  T c = T(1), s = T(0);
  for (int m = 0; m <= l_max; m++) {
    T q = T(1), before = T(0);
    for (int l = m; l <= l_max; l++) {
      rows[cluster::row_of_harmonic(l_max, l, m) * TILE] = q * c;
      if (m > 0) rows[cluster::row_of_harmonic(l_max, l, -m) * TILE] = q * s;
      const T next = z * q - (l > m ? below<T>(l, m) * before : T(0));
      before = q;
      q = next;
    }
    const T next = c * x - s * y;
    s = s * x + c * y;
    c = next;
  }
}

// sum over rows of gradient[row * TILE] times the derivative of the polynomial; what of it is along the unit
// vector means nothing.
template <typename T>
__device__ void harmonics_gradient(int l_max, T x, T y, T z, const T *gradient, T &dx, T &dy, T &dz) {
  dx = dy = dz = T(0);
  T c = x, s = y, c_below = T(1), s_below = T(0);
  for (int m = 1; m <= l_max; m++) {
    T q = T(1), before = T(0), by_c = T(0), by_s = T(0);
    for (int l = m; l <= l_max; l++) {
      // the derivative of a polynomial of order m - 1 by z is that of order m
      T lower = gradient[cluster::row_of_harmonic(l_max, l, m - 1) * TILE] * c_below;
      if (m > 1) lower += gradient[cluster::row_of_harmonic(l_max, l, 1 - m) * TILE] * s_below;
      dz += T(l - m + 1) * q * lower;
      by_c += q * gradient[cluster::row_of_harmonic(l_max, l, m) * TILE];
      by_s += q * gradient[cluster::row_of_harmonic(l_max, l, -m) * TILE];
      const T next = z * q - (l > m ? below<T>(l, m) * before : T(0));
      before = q;
      q = next;
    }
    dx += T(m) * (by_c * c_below + by_s * s_below);
    dy += T(m) * (by_s * c_below - by_c * s_below);
    const T next = c * x - s * y;
    c_below = c;
    s_below = s;
    s = s * x + c * y;
    c = next;
  }
}

// Moments of all types of neighbours.
template <typename T>
__device__ void describe(const ClusterTask<T> &task, ClusterScratch<T> &ws) {
  const Expansion<T> &expansion = task.expansion;
  const int n_radial = expansion.radial.n, n_angular = expansion.angular.n, n_moments = task.n_moments();
  const int lane = threadIdx.x;
  for (int type = 0; type < task.n_types; type++) {
    T *const radial = ws.radial_moments + type * n_radial, *const moments = ws.moments + type * n_moments;
    for (int k = lane; k < n_radial; k += CLUSTER_THREADS) radial[k] = T(0);
    for (int k = lane; k < n_moments; k += CLUSTER_THREADS) moments[k] = T(0);
    const int end = ws.begin[type] + ws.count[type];
    for (int from = ws.begin[type]; from < end; from += TILE) {
      const int n = end - from < TILE ? end - from : TILE, at = from + lane;
      T inverse = T(0), r = T(0);
      if (lane < n) {
        inverse = rsqrt(ws.r2[at]);
        r = ws.r2[at] * inverse;
        radial_functions(expansion.radial, r, ws.values + lane, ws.slopes + lane);
      }
      __syncthreads();
      for (int k = lane; k < n_radial; k += CLUSTER_THREADS)
        for (int j = 0; j < n; j++) radial[k] += ws.values[k * TILE + j];
      __syncthreads();
      if (lane < n) {
        radial_functions(expansion.angular, r, ws.values + lane, ws.slopes + lane);
        harmonics(expansion.l_max, ws.x[at] * inverse, ws.y[at] * inverse, ws.z[at] * inverse,
                  ws.rows + lane);
      }
      __syncthreads();
      for (int item = lane; item < n_moments; item += CLUSTER_THREADS) {
        const T *const value = ws.values + item % n_angular * TILE, *const row =
                                                                        ws.rows + item / n_angular * TILE;
        T sum = T(0);
        for (int j = 0; j < n; j++) sum += value[j] * row[j];
        moments[item] += sum;
      }
      __syncthreads();
    }
  }
  __syncthreads();  // an atom without neighbours has not met a barrier
}

// Features of one member; keeps its channels and derivatives of invariants.
template <typename T>
__device__ void features_of(const ClusterTask<T> &task, const Center<T> &center, ClusterScratch<T> &ws) {
  const int n_radial = task.expansion.radial.n, n_angular = task.expansion.angular.n;
  const int n_channels = center.radial.n_channels, n = center.angular.n_channels, wide = padded(n);
  for (int channel = threadIdx.x; channel < n_channels; channel += CLUSTER_THREADS) {
    T sum = T(0);
    for (int k = 0; k < task.n_types * n_radial; k++)
      sum += center.radial.forward[k * padded(n_channels) + channel] * ws.radial_moments[k];
    ws.features[channel] = static_cast<double>(sum);
  }
  for (int item = threadIdx.x; item < task.expansion.n_rows() * n; item += CLUSTER_THREADS) {
    const int row = item / n, channel = item % n;
    T sum = T(0);
    for (int type = 0; type < task.n_types; type++)
      for (int k = 0; k < n_angular; k++)
        sum += center.angular.forward[(type * n_angular + k) * wide + channel] *
               ws.moments[type * task.n_moments() + row * n_angular + k];
    ws.channels[row * wide + channel] = sum;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < center.invariants.n * n; item += CLUSTER_THREADS) {
    const int p = item / n, channel = item % n;
    int at = 0;
    for (int q = 0; q < p; q++) at += center.invariants.invariants[q].n_rows;
    const Invariant<T> invariant = center.invariants.invariants[p];
    const T *const channels = ws.channels + channel;
    T value = T(0);
    for (int row = 0; row < invariant.n_rows; row++) {
      T derivative = T(0);
      for (int t = invariant.first_monomial[row]; t < invariant.first_monomial[row + 1]; t++) {
        const cluster::Monomial<T> monomial = invariant.monomials[t];
        T product = monomial.coefficient;
        for (int f = 0; f < invariant.degree - 1; f++) product *= channels[monomial.factor[f]];
        derivative += product;
      }
      ws.derivatives[(at + row) * wide + channel] = derivative;
      value += derivative * channels[invariant.rows[row]];
    }
    ws.features[n_channels + item] = static_cast<double>(value / T(invariant.degree));
  }
  __syncthreads();
}

// Adds `share` times what coefficients, dE by the features, make of the moments to their gradients.
template <typename T>
__device__ void feature_gradient(const ClusterTask<T> &task, const Center<T> &center, ClusterScratch<T> &ws,
                                 T share) {
  const int n_radial = task.expansion.radial.n, n_angular = task.expansion.angular.n;
  const int n_channels = center.radial.n_channels, n = center.angular.n_channels, wide = padded(n);
  for (int item = threadIdx.x; item < task.expansion.n_rows() * n; item += CLUSTER_THREADS) {
    const int row = item / n, channel = item % n;
    T sum = T(0);
    for (int s = center.invariants.first_share[row]; s < center.invariants.first_share[row + 1]; s++) {
      const cluster::Share from = center.invariants.shares[s];
      sum += ws.coefficients[n_channels + from.invariant / wide * n + channel] *
             ws.derivatives[from.derivative + channel];
    }
    ws.channel_gradient[row * wide + channel] = sum;
  }
  for (int item = threadIdx.x; item < task.n_types * n_radial; item += CLUSTER_THREADS) {
    const T *const column =
        center.radial.backward + item / n_radial * n_channels * padded(n_radial) + item % n_radial;
    T sum = T(0);
    for (int channel = 0; channel < n_channels; channel++)
      sum += column[channel * padded(n_radial)] * ws.coefficients[channel];
    ws.radial_gradient[item] += share * sum;
  }
  __syncthreads();
  for (int item = threadIdx.x; item < task.n_types * task.n_moments(); item += CLUSTER_THREADS) {
    const int type = item / task.n_moments(), row = item % task.n_moments() / n_angular, k = item % n_angular;
    const T *const column = center.angular.backward + type * n * padded(n_angular) + k;
    T sum = T(0);
    for (int channel = 0; channel < n; channel++)
      sum += column[channel * padded(n_angular)] * ws.channel_gradient[row * wide + channel];
    ws.gradient[item] += share * sum;
  }
  __syncthreads();
}

// The gradient of every slot, added to a row of the results.
template <typename T>
__device__ void differentiate(const ClusterTask<T> &task, ClusterScratch<T> &ws, const DeviceResults &results,
                              int row) {
  const Expansion<T> &expansion = task.expansion;
  const int n_radial = expansion.radial.n, n_angular = expansion.angular.n, n_rows = expansion.n_rows();
  const int lane = threadIdx.x;
  T *const values = ws.values + lane, *const slopes = ws.slopes + lane, *const rows = ws.rows + lane;
  for (int type = 0; type < task.n_types; type++) {
    const T *const radial = ws.radial_gradient + type * n_radial,
                   *gradient = ws.gradient + type * task.n_moments();
    for (int at = ws.begin[type] + lane; at < ws.begin[type] + ws.count[type]; at += TILE) {
      const T inverse = rsqrt(ws.r2[at]), r = ws.r2[at] * inverse;
      const T x = ws.x[at] * inverse, y = ws.y[at] * inverse, z = ws.z[at] * inverse;
      T along = T(0), dx, dy, dz;
      radial_functions(expansion.radial, r, values, slopes);
      for (int k = 0; k < n_radial; k++) along += radial[k] * slopes[k * TILE];
      radial_functions(expansion.angular, r, values, slopes);
      harmonics(expansion.l_max, x, y, z, rows);
      for (int of = 0; of < n_rows; of++) {
        T by_row = T(0), by_distance = T(0);
        for (int k = 0; k < n_angular; k++) {
          by_row += gradient[of * n_angular + k] * values[k * TILE];
          by_distance += gradient[of * n_angular + k] * slopes[k * TILE];
        }
        along += by_distance * rows[of * TILE];
        rows[of * TILE] = by_row;
      }
      harmonics_gradient(expansion.l_max, x, y, z, rows, dx, dy, dz);
      along -= (dx * x + dy * y + dz * z) * inverse;  // what is across stays
      double *const to = results.gradient + 3 * static_cast<int64_t>(ws.edge[at]) * results.n_rows + row;
      to[0] += static_cast<double>(along * x + dx * inverse);
      to[results.n_rows] += static_cast<double>(along * y + dy * inverse);
      to[2 * results.n_rows] += static_cast<double>(along * z + dz * inverse);
    }
  }
}

}  // namespace cuda
}  // namespace nnpkit

#endif
