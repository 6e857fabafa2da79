// Features with their derivatives by the place of every neighbour, for gradients of many members at once.
// Included by acsf_isa.cpp only.
//
// The functions of a group lie side by side in a vector. With v = P A(cos) of a function, d = P dA/dcos and
// t = (fc'/(fc r_jk) - 2 eta) v (without the third side t = 0), a triplet gives
//   own_j = (slope(r_ij) - 2 eta) v + t - d cos / r_ij^2,  own_k likewise,  cross = t - d / (r_ij r_ik)
// and the derivative by x_j is own_j x_j - cross x_k. A shift adds 2 eta shift v / r to the derivative by
// each side.

#ifndef NNPKIT_ACSF_JACOBIAN_H
#define NNPKIT_ACSF_JACOBIAN_H

#include "acsf_describe.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::MEMBERS;
using acsf::Piece;

template <typename T, int N>
using Lanewise = Pieces<T, (WIDTH<T> < N ? WIDTH<T> : N), N>;

template <typename T, int N>
NNPKIT_INLINE Lanewise<T, N> load_lanes(const T *from) {
  Lanewise<T, N> v;
  load_pieces(from, v);
  return v;
}

// v and d of a block of triplets, functions innermost
template <typename T, int N>
static void function_values(const Piece<T> &piece, const Kept<T> &kept, const AngularBlock<T> &angular,
                            int block, int length, T *values, T *derivatives) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>, LENGTH = AngularBlock<T>::LENGTH;
  const T *product[N], *value[N], *derivative[N];
  for (int f = 0; f < N; f++) {
    product[f] = kept.products + piece.part[f] * kept.padded + block;
    value[f] = angular.value + piece.angular[f] * LENGTH;
    derivative[f] = angular.derivative + piece.angular[f] * LENGTH;
  }
  for (int at = 0; at < length; at += W) {
    V rows[N];
#pragma GCC unroll 8
    for (int f = 0; f < N; f++) rows[f] = load(product[f] + at) * load(value[f] + at);
    store_rows<T, N>(values + N * at, rows);
#pragma GCC unroll 8
    for (int f = 0; f < N; f++) rows[f] = load(product[f] + at) * load(derivative[f] + at);
    store_rows<T, N>(derivatives + N * at, rows);
  }
}

// Adds triplets block .. end - 1, whose values these are, to the derivatives of their neighbours and to the
// features.
template <typename T, int N, bool NARROW, bool SHIFTED>
static void add_derivatives(const Piece<T> &piece, const AngularGroup<T> &group, const Workspace<T> &ws,
                            const Kept<T> &kept, const T *values, const T *derivatives, const T *partner,
                            const int32_t *row_slot, const int32_t *row_begin, int rows, int row, int block,
                            int end, T *jacobian, double *sums) {
  typedef Lanewise<T, N> L;
  const T *const x = ws.x, *const y = ws.y, *const z = ws.z, *const inverse = ws.inverse;
  const T *const slope = ws.slope + group.cutoff * ws.n_slots;
  const T *const third = kept.slope, *const cosine = kept.cosine, *const legs = kept.inverse,
                 *const side = kept.shift;
  const L eta2 = load_lanes<T, N>(piece.eta2);
  L shift = {};
  if constexpr (SHIFTED) shift = load_lanes<T, N>(piece.shift);
  for (int at = block; at < end; row++) {
    const int stop = row + 1 < rows && row_begin[row + 1] < end ? row_begin[row + 1] : end;
    const int j = row_slot[row];
    const T xj = x[j], yj = y[j], zj = z[j];
    L v_sum = {}, t_sum = {}, d_sum = {}, x_sum = {}, y_sum = {}, z_sum = {}, shift_sum = {};
    for (; at < stop; at++) {
      const int k = slot_of(partner + at);
      const L v = load_lanes<T, N>(values + N * (at - block)),
              d = load_lanes<T, N>(derivatives + N * (at - block));
      const T inverse_k = inverse[k];
      L t = v * eta2, cross;
      if constexpr (NARROW) {
        t += v * third[at];
        if constexpr (SHIFTED) t += (v * shift) * side[at];
        cross = t - d * legs[at];
        t += v * eta2;
      } else {
        cross = d * -legs[at];
      }
      const L dc = d * cosine[at];
      L own = t + v * slope[k] - dc * (inverse_k * inverse_k);
      if constexpr (SHIFTED) {
        const L s = v * shift;
        own += s * inverse_k;
        shift_sum += s;
      }
      T *const to = jacobian + 4 * N * k;
      store(to, load_lanes<T, N>(to) + own);
      store(to + N, load_lanes<T, N>(to + N) + cross * xj);
      store(to + 2 * N, load_lanes<T, N>(to + 2 * N) + cross * yj);
      store(to + 3 * N, load_lanes<T, N>(to + 3 * N) + cross * zj);
      v_sum += v;
      t_sum += t;
      d_sum += dc;
      x_sum += cross * x[k];
      y_sum += cross * y[k];
      z_sum += cross * z[k];
    }
    T *const to = jacobian + 4 * N * j;
    L own = t_sum + v_sum * slope[j] - d_sum * (inverse[j] * inverse[j]);
    if constexpr (SHIFTED) own += shift_sum * inverse[j];
    store(to, load_lanes<T, N>(to) + own);
    store(to + N, load_lanes<T, N>(to + N) + x_sum);
    store(to + 2 * N, load_lanes<T, N>(to + 2 * N) + y_sum);
    store(to + 3 * N, load_lanes<T, N>(to + 3 * N) + z_sum);
    T row_sums[N];
    store(row_sums, v_sum);
    for (int f = 0; f < N; f++) sums[f] += static_cast<double>(row_sums[f]);
  }
}

template <typename T, int N>
static void add_piece(const Piece<T> &piece, const AngularGroup<T> &group, const Workspace<T> &ws,
                      const Kept<T> &kept, const AngularBlock<T> &angular, int rows, int row, int block,
                      int end, T *jacobian, double *sums) {
  constexpr int LENGTH = AngularBlock<T>::LENGTH;
  alignas(64) T values[N * LENGTH], derivatives[N * LENGTH];
  const int length = (end - block + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>;
  function_values<T, N>(piece, kept, angular, block, length, values, derivatives);
  const auto add =
      group.shifted  ? group.narrow ? &add_derivatives<T, N, true, true> : &add_derivatives<T, N, false, true>
      : group.narrow ? &add_derivatives<T, N, true, false>
                     : &add_derivatives<T, N, false, false>;
  add(piece, group, ws, kept, values, derivatives, ws.partner, ws.row_slot, ws.row_begin, rows, row, block,
      end, jacobian, sums);
}

// One chunk of triplets of a group; `jacobian` and `sums` are those of its first piece.
template <typename T>
static void add_chunk(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept,
                      AngularBlock<T> &angular, int n, int rows, T *jacobian, double *sums) {
  constexpr int LENGTH = AngularBlock<T>::LENGTH;
  int row = 0;
  for (int block = 0; block < n; block += LENGTH) {
    const int end = block + LENGTH < n ? block + LENGTH : n;
    angular.fill(group, kept.cosine + block, (end - block + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>);
    while (row + 1 < rows && ws.row_begin[row + 1] <= block) row++;
    T *to = jacobian;
    for (int p = 0; p < group.n_pieces; p++) {
      const Piece<T> &piece = group.pieces[p];
      if (piece.lanes == 4)
        add_piece<T, 4>(piece, group, ws, kept, angular, rows, row, block, end, to, sums + p * acsf::PIECE);
      else
        add_piece<T, 8>(piece, group, ws, kept, angular, rows, row, block, end, to, sums + p * acsf::PIECE);
      to += 4 * piece.lanes * static_cast<int64_t>(ws.n_slots);
    }
  }
}

// (dG/dr) / r of the radial functions, in place of their summands
template <typename T>
static void radial_slopes(const Center<T> &center, Workspace<T> &ws, int type) {
  const auto &functions = center.radial[type];
  const int begin = ws.begin[type], end = begin + ws.count[type];
  for (int f = 0; f < functions.n; f++) {
    const T eta2 = T(-2) * functions.eta[f], shift = functions.shift[f];
    const T *const slope = ws.slope + functions.cutoff[f] * ws.n_slots;
    T *const radial = ws.radial + f * ws.n_slots;
    for (int at = begin; at < end; at += WIDTH<T>)
      store(radial + at,
            (load(slope + at) + eta2 - eta2 * shift * load(ws.inverse + at)) * load(radial + at));
  }
}

template <typename T>
static void describe_members(const Center<T> &center, Workspace<T> &ws) {
  describe_neighbors(center, ws);
  for (int type = 0; type < center.n_types; type++) radial_slopes(center, ws, type);
  AngularBlock<T> angular;
  T *jacobian = ws.jacobian;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    const int64_t n_slots = ws.n_slots;
    T *const first = jacobian;
    double sums[MAX_ANGULAR + acsf::PIECE] = {0.0};
    for (int p = 0; p < group.n_pieces; p++) {
      const int64_t each = 4 * group.pieces[p].lanes;
      clear(jacobian + each * ws.begin[group.first], each * ws.count[group.first]);
      clear(jacobian + each * ws.begin[group.second], each * ws.count[group.second]);
      jacobian += each * n_slots;
    }
    clear(angular.value + group.n_angular * AngularBlock<T>::LENGTH, AngularBlock<T>::LENGTH);
    clear(angular.derivative + group.n_angular * AngularBlock<T>::LENGTH, AngularBlock<T>::LENGTH);
    const int end = ws.begin[group.first] + ws.count[group.first];
    for (int next = ws.begin[group.first]; next < end;) {
      int rows = 0;
      const int n = find_triplets<T, true>(center, ws, group, next, ws.partner, nullptr, ws.row_slot,
                                           ws.row_begin, &rows);
      if (n == 0) continue;
      const Kept<T> kept = kept_of(group, ws.kept, n);
      evaluate_triplets(center, ws, group, kept, n);
      add_chunk(group, ws, kept, angular, n, rows, first, sums);
    }
    for (int p = 0; p < group.n_pieces; p++)
      for (int f = 0; f < group.pieces[p].n; f++)
        ws.features[group.pieces[p].column[f]] += sums[p * acsf::PIECE + f];
  }
}

// Adds the functions of a piece to sums over functions times coefficients of all members: of the coefficient
// of a neighbour's own vector, and of the vector to subtract. `from` is what the neighbour has of the piece.
template <typename T, int N>
NNPKIT_INLINE void add_piece_gradient(const Piece<T> &piece, const T *from, const T *coefficients,
                                      Eight<T> (&sum)[4]) {
  const auto add = [&](int f) __attribute__((always_inline)) {
    const Eight<T> c = load_eight(coefficients + piece.column[f] * MEMBERS);
    sum[0] += c * from[f];
    sum[1] += c * from[N + f];
    sum[2] += c * from[2 * N + f];
    sum[3] += c * from[3 * N + f];
  };
  if (piece.n == N) {
#pragma GCC unroll 8
    for (int f = 0; f < N; f++) add(f);
  } else {
    for (int f = 0; f < piece.n; f++) add(f);
  }
}

template <typename T>
NNPKIT_INLINE void put_members(double *out, const Eight<T> &g, int n_members) {
  T values[MEMBERS];
  store(values, g);
  if (n_members == MEMBERS)
    for (int m = 0; m < MEMBERS; m++) out[m] = static_cast<double>(values[m]);
  else
    for (int m = 0; m < n_members; m++) out[m] = static_cast<double>(values[m]);
}

template <typename T>
static void differentiate_members(const Center<T> &center, Workspace<T> &ws, double *gradient, int n_rows,
                                  int first_row, int n_members) {
  const T *const coefficients = ws.coefficients;
  for (int type = 0; type < center.n_types; type++) {
    const auto &radial = center.radial[type];
    for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
      const T x = ws.x[at], y = ws.y[at], z = ws.z[at];
      Eight<T> along = {}, odd = {};
      for (int f = 0; f < radial.n; f++) {
        const Eight<T> part =
            load_eight(coefficients + radial.column[f] * MEMBERS) * ws.radial[f * ws.n_slots + at];
        f % 2 ? odd += part : along += part;
      }
      Eight<T> sum[4] = {along + odd};
      const T *jacobian = ws.jacobian;
      for (int g = 0; g < center.n_groups; g++) {
        const AngularGroup<T> &group = center.groups[g];
        const bool reached = group.first == type || group.second == type;
        for (int p = 0; p < group.n_pieces; p++) {
          const Piece<T> &piece = group.pieces[p];
          const T *const from = jacobian + 4 * piece.lanes * static_cast<int64_t>(at);
          jacobian += 4 * piece.lanes * static_cast<int64_t>(ws.n_slots);
          if (!reached) continue;
          if (piece.lanes == 4)
            add_piece_gradient<T, 4>(piece, from, coefficients, sum);
          else
            add_piece_gradient<T, 8>(piece, from, coefficients, sum);
        }
      }
      double *const out = gradient + 3 * ws.edges[at] * n_rows + first_row;
      put_members<T>(out, sum[0] * x - sum[1], n_members);
      put_members<T>(out + n_rows, sum[0] * y - sum[2], n_members);
      put_members<T>(out + 2 * n_rows, sum[0] * z - sum[3], n_members);
    }
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
