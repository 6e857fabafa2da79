// The gradient of the edges of one atom, by the threads of one block. Included by acsf.cu only.
//
// The formulae are those of csrc/acsf/acsf_gradient.h. Every thread has a neighbour j of its own and goes
// through all others: it evaluates each triplet once more than needed but owns its sums, which need neither
// atomics nor memory.

#ifndef NNPKIT_CUDA_ACSF_GRADIENT_H
#define NNPKIT_CUDA_ACSF_GRADIENT_H

#include "acsf_describe_device.h"

namespace nnpkit {
namespace cuda {

// The sums of csrc/acsf/acsf_gradient.h over the third atoms of a group, for the neighbour j of one thread.
template <typename T, int ROWS>
__device__ __forceinline__ void add_partner(const AcsfTask<T> &task, const Center<T> &center,
                                            const AngularGroup<T> &group, const Scratch<T, ROWS> &ws, int j,
                                            int k, T (&along)[ROWS], T (&across)[ROWS][3]) {
  const Triplet<T> t = triplet_of(task, center, group, ws, j, k);
  T value[MAX_ANGULAR], derivative[MAX_ANGULAR];
  for (int a = 0; a < group.n_angular; a++) angular_part(group, a, t.cosine, value[a], derivative[a]);
  T s0[ROWS] = {}, s1[ROWS] = {}, s2[ROWS] = {}, d[ROWS] = {};
  for (int p = 0; p < group.n_radial; p++) {
    const T product = radial_product(group, t, p), eta = T(-2) * group.eta[p];
    T q[ROWS] = {}, dq[ROWS] = {};
    for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++) {
      const T v = value[group.angular[f]], dv = derivative[group.angular[f]];
      for (int m = 0; m < ROWS; m++) {
        const T c = ws.coefficients[group.column[f] * ROWS + m];
        q[m] += c * v;
        dq[m] += c * dv;
      }
    }
    for (int m = 0; m < ROWS; m++) {
      s0[m] += product * q[m];
      s1[m] += eta * product * q[m];
      if (group.shifted) s2[m] -= eta * group.shift[p] * product * q[m];
      d[m] += product * dq[m];
    }
  }
  const T slope = ws.slope[group.cutoff * task.n_slots + j], inverse = ws.inverse[j];
  for (int m = 0; m < ROWS; m++) {
    T third = T(0), both = s1[m];
    if (group.narrow) {
      third = s1[m] + t.slope * s0[m] + t.side_inverse * s2[m];
      both += third;
    }
    along[m] += slope * s0[m] + both - d[m] * t.cosine * inverse * inverse + inverse * s2[m];
    const T b = third - d[m] * t.inverse;
    across[m][0] += b * ws.x[k];
    across[m][1] += b * ws.y[k];
    across[m][2] += b * ws.z[k];
  }
}

// Gradient of the edges in all slots, for the first n of ROWS rows.
template <typename T, int ROWS>
__device__ void differentiate(const AcsfTask<T> &task, const Center<T> &center, const Scratch<T, ROWS> &ws,
                              int n_slots, const DeviceResults &results, const int *rows, int n) {
  for (int j = threadIdx.x; j < n_slots; j += ACSF_THREADS) {
    int type = 0;
    while (j >= ws.begin[type] + ws.count[type]) type++;
    T along[ROWS] = {}, across[ROWS][3] = {};
    const auto functions = center.radial[type];
    for (int f = 0; f < functions.n; f++) {
      const int at = functions.cutoff[f] * task.n_slots + j;
      const T shift = functions.shift[f], eta = functions.eta[f], d = ws.r2[j] * ws.inverse[j] - shift;
      const T summand = exp(-eta * (shift != T(0) ? d * d : ws.r2[j])) * ws.envelope[at];
      const T factor = summand * (ws.slope[at] + T(2) * eta * (shift * ws.inverse[j] - T(1)));
      for (int m = 0; m < ROWS; m++) along[m] += ws.coefficients[functions.column[f] * ROWS + m] * factor;
    }
    for (int g = 0; g < center.n_groups; g++) {
      const AngularGroup<T> group = center.groups[g];
      if (group.first != type && group.second != type) continue;
      const T radius = center.cutoffs[group.cutoff].radius, limit = radius * radius;
      const int partner = group.first == type ? group.second : group.first;
      for (int k = ws.begin[partner]; k < ws.begin[partner] + ws.count[partner]; k++)
        if (k != j && close_enough(group, limit, ws, j, k))
          add_partner(task, center, group, ws, j, k, along, across);
    }
    for (int m = 0; m < n; m++) {
      double *const to = results.gradient + 3 * static_cast<int64_t>(ws.edge[j]) * results.n_rows + rows[m];
      to[0] += static_cast<double>(along[m] * ws.x[j] - across[m][0]);
      to[results.n_rows] += static_cast<double>(along[m] * ws.y[j] - across[m][1]);
      to[2 * results.n_rows] += static_cast<double>(along[m] * ws.z[j] - across[m][2]);
    }
  }
}

}  // namespace cuda
}  // namespace nnpkit

#endif
