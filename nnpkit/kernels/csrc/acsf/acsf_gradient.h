// Second pass: from dE/dG to the gradient of every edge, without another exponential. Included by
// acsf_isa.cpp only.
//
// A triplet's energy e(r_ij, r_ik, r_jk) is a sum of P_p Q_p(cos), P_p = h(r_ij) h(r_ik) h(r_jk), and the
// logarithmic derivative of every h is (-2 eta (r - shift) + fc'/fc). With
//   S0 = sum_p P_p Q_p,  S1 = sum_p -2 eta_p P_p Q_p,  D = sum_p P_p dQ_p/dcos,  w = D / (r_ij r_ik)
// and the slope s(r) = fc'/(fc r), the gradient of edge j is
//   (s(r_ij) S0 + V - D cos / r_ij^2) x_j - B x_k  with  B = s(r_jk) S0 + S1 - w,  V = s(r_jk) S0 + 2 S1
// and that of edge k the same with j and k exchanged. Without the third side, B = -w and V = S1. A shift adds
// S2 / r to the derivatives by each side, S2 = sum_p 2 eta_p shift_p P_p Q_p. Where every zeta is a small
// whole number, Q_p is a polynomial of the cosine.

#ifndef NNPKIT_ACSF_GRADIENT_H
#define NNPKIT_ACSF_GRADIENT_H

#include "acsf_describe.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::MAX_DEGREE;

// Value and derivative of a polynomial of this degree.
template <typename T, int DEGREE>
NNPKIT_INLINE void polynomial(const T *coefficients, const Vector<T> &x, Vector<T> &value, Vector<T> &slope) {
  Vector<T> v = all(coefficients[DEGREE]), d = {};
#pragma GCC unroll 8
  for (int n = DEGREE - 1; n >= 0; n--) {
    d = n == DEGREE - 1 ? v : d * x + v;
    v = v * x + coefficients[n];
  }
  value = v;
  slope = d;
}

// Q_p and dQ_p/dcos of a block of triplets, (n_radial, BLOCK vectors)
template <typename T>
static void angular_sums(const AngularGroup<T> &group, const T *coefficients, const T *cosine, int length,
                         T *value, T *slope) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>, LENGTH = BLOCK * W;
  if (group.degree) {
    for (int p = 0; p < group.n_radial; p++) {
      T q[MAX_DEGREE + 1] = {T(0)};
      for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++)
        for (int n = 0; n <= group.degree; n++)
          q[n] += coefficients[group.column[f]] * group.polynomial[f * (MAX_DEGREE + 1) + n];
      const auto evaluate = [&](auto of) __attribute__((always_inline)) {
        for (int v = 0; v < length; v += W) {
          V a, b;
          of(load(cosine + v), a, b);
          store(value + p * LENGTH + v, a);
          store(slope + p * LENGTH + v, b);
        }
      };
      switch (group.part_degree[p]) {
        case 1:
          evaluate([&](const V &x, V &a, V &b)
                       __attribute__((always_inline)) { polynomial<T, 1>(q, x, a, b); });
          break;
        case 2:
          evaluate([&](const V &x, V &a, V &b)
                       __attribute__((always_inline)) { polynomial<T, 2>(q, x, a, b); });
          break;
        case 3:
        case 4:
          evaluate([&](const V &x, V &a, V &b)
                       __attribute__((always_inline)) { polynomial<T, 4>(q, x, a, b); });
          break;
        default:
          evaluate([&](const V &x, V &a, V &b)
                       __attribute__((always_inline)) { polynomial<T, MAX_DEGREE>(q, x, a, b); });
      }
    }
    return;
  }
  AngularBlock<T> angular;
  angular.fill(group, cosine, length);
  for (int p = 0; p < group.n_radial; p++)
    for (int v = 0; v < length; v += W) {
      V a = {}, b = {};
      for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++) {
        const T c = coefficients[group.column[f]];
        a += c * load(angular.value + group.angular[f] * LENGTH + v);
        b += c * load(angular.derivative + group.angular[f] * LENGTH + v);
      }
      store(value + p * LENGTH + v, a);
      store(slope + p * LENGTH + v, b);
    }
}

// S0, V, D cos, B and S2 of every triplet of a chunk, each a line of ws.forces.
template <typename T, bool NARROW, bool SHIFTED>
static void triplet_forces(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>, LENGTH = BLOCK * W;
  alignas(64) T values[MAX_RADIAL * LENGTH], slopes[MAX_RADIAL * LENGTH];
  const int n_radial = group.n_radial, padded = kept.padded;
  const T *const products = kept.products, *const etas = group.eta, *const shifts = group.shift;
  T *const out = ws.forces;
  const int line = ws.line;
  for (int block = 0; block < padded; block += LENGTH) {
    const int length = padded - block < LENGTH ? padded - block : LENGTH;
    angular_sums(group, ws.coefficients, kept.cosine + block, length, values, slopes);
    for (int v = 0; v < length; v += W) {
      const int at = block + v;
      V s0 = {}, s1 = {}, s2 = {}, d = {};
      for (int p = 0; p < n_radial; p++) {
        const V product = load(products + p * padded + at), q = product * load(values + p * LENGTH + v);
        s0 += q;
        s1 += (T(-2) * etas[p]) * q;
        if constexpr (SHIFTED) s2 += (T(2) * etas[p] * shifts[p]) * q;
        d += product * load(slopes + p * LENGTH + v);
      }
      const V w = d * load(kept.inverse + at);
      V third = s1, both = s1;
      if constexpr (NARROW) {
        third += load(kept.slope + at) * s0;
        if constexpr (SHIFTED) third += load(kept.shift + at) * s2;
        both += third;
      }
      store(out + at, s0);
      store(out + line + at, both);
      store(out + 2 * line + at, d * load(kept.cosine + at));
      store(out + 3 * line + at, NARROW ? third - w : -w);
      if constexpr (SHIFTED) store(out + 4 * line + at, s2);
    }
  }
}

// Adds the triplets of a chunk to the sums of their neighbours: of the coefficient of a neighbour's own
// vector, and of B x of the other neighbour. The neighbours k of a row are taken a vector at a time, those
// without a triplet too.
template <typename T, bool SHIFTED>
static void add_triplets(const AngularGroup<T> &group, Workspace<T> &ws, const uint16_t *&bits_of,
                         const int32_t *row_slot, int rows) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  const Sides sides = sides_of(ws, group);
  const int n_slots = ws.n_slots, line = ws.line;
  T *const own = ws.sums, *const sum_x = own + n_slots, *const sum_y = sum_x + n_slots,
           *const sum_z = sum_y + n_slots;
  const T *const x = ws.x, *const y = ws.y, *const z = ws.z, *const inverse = ws.inverse;
  const T *const slope = ws.slope + group.cutoff * n_slots;
  const T *from = ws.forces;
  T *const row_sums = ws.row_sums;
  for (int row = 0; row < rows; row++) {
    const int j = row_slot[row];
    const T xj = x[j], yj = y[j], zj = z[j];
    V s0_sum = {}, both_sum = {}, angle_sum = {}, s2_sum = {}, x_sum = {}, y_sum = {}, z_sum = {};
    for (int k = row_start<T>(sides, j); k < sides.column_end; k += W) {
      const unsigned bits = *bits_of++;
      const V s0 = load_packed(from, bits), both = load_packed(from + line, bits);
      const V angle = load_packed(from + 2 * line, bits), b = load_packed(from + 3 * line, bits);
      const V inverse_k = load(inverse + k);
      V own_k = load(own + k) + both + s0 * load(slope + k) - angle * (inverse_k * inverse_k);
      if constexpr (SHIFTED) {
        const V s2 = load_packed(from + 4 * line, bits);
        own_k += s2 * inverse_k;
        s2_sum += s2;
      }
      store(own + k, own_k);
      store(sum_x + k, load(sum_x + k) + b * xj);
      store(sum_y + k, load(sum_y + k) + b * yj);
      store(sum_z + k, load(sum_z + k) + b * zj);
      s0_sum += s0;
      both_sum += both;
      angle_sum += angle;
      x_sum += b * load(x + k);
      y_sum += b * load(y + k);
      z_sum += b * load(z + k);
      from += __builtin_popcount(bits);
    }
    V own_j = both_sum + s0_sum * slope[j] - angle_sum * (inverse[j] * inverse[j]);
    if constexpr (SHIFTED) own_j += s2_sum * inverse[j];
    T totals[4];
    sum_four<T>(own_j, x_sum, y_sum, z_sum, totals);
    for (int n = 0; n < 4; n++) row_sums[4 * j + n] += totals[n];
  }
}

// (dE/dr) / r of the radial functions
template <typename T>
static void radial_forces(const Center<T> &center, Workspace<T> &ws) {
  typedef Vector<T> V;
  for (int type = 0; type < center.n_types; type++) {
    const auto &functions = center.radial[type];
    const int begin = ws.begin[type], end = begin + ws.count[type];
    for (int at = begin; at < end; at += WIDTH<T>) {
      V force = {};
      for (int f = 0; f < functions.n; f++) {
        const V summand = ws.coefficients[functions.column[f]] * load(ws.radial + f * ws.n_slots + at);
        V slope = load(ws.slope + functions.cutoff[f] * ws.n_slots + at);
        if (functions.shift[f] != T(0))
          slope += (T(2) * functions.eta[f] * functions.shift[f]) * load(ws.inverse + at);
        force += summand * (slope - T(2) * functions.eta[f]);
      }
      store(ws.sums + at, force);
    }
  }
}

template <typename T>
static void differentiate(const Center<T> &center, Workspace<T> &ws, double *gradient) {
  const int n_slots = ws.n_slots;
  clear(ws.sums, 4 * static_cast<int64_t>(n_slots));
  clear(ws.row_sums, 4 * static_cast<int64_t>(n_slots));
  radial_forces(center, ws);
  T *begin = ws.kept;
  const uint16_t *bits = ws.bits;
  const int32_t *row_slot = ws.row_slot;
  for (int g = 0, chunk = 0; g < center.n_groups; g++)
    for (const AngularGroup<T> &group = center.groups[g]; chunk < ws.group_chunks[g]; chunk++) {
      const int n = ws.chunk_triplets[chunk], rows = ws.chunk_rows[chunk];
      const Kept<T> kept = kept_of(group, begin, n);
      if (group.shifted)
        group.narrow ? triplet_forces<T, true, true>(group, ws, kept)
                     : triplet_forces<T, false, true>(group, ws, kept);
      else
        group.narrow ? triplet_forces<T, true, false>(group, ws, kept)
                     : triplet_forces<T, false, false>(group, ws, kept);
      group.shifted ? add_triplets<T, true>(group, ws, bits, row_slot, rows)
                    : add_triplets<T, false>(group, ws, bits, row_slot, rows);
      begin = kept.end;
      row_slot += rows;
    }
  const T *const sums = ws.sums;
  for (int type = 0; type < center.n_types; type++)
    for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
      const T *const row = ws.row_sums + 4 * at;
      const T along = sums[at] + row[0];
      double *const out = gradient + 3 * ws.edges[at];
      out[0] += static_cast<double>(along * ws.x[at] - (sums[n_slots + at] + row[1]));
      out[1] += static_cast<double>(along * ws.y[at] - (sums[2 * n_slots + at] + row[2]));
      out[2] += static_cast<double>(along * ws.z[at] - (sums[3 * n_slots + at] + row[3]));
    }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
