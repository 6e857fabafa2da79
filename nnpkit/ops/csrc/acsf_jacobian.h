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
__attribute__((noinline)) static void function_values(const Piece<T> &piece, const Kept<T> &kept,
                                                      const AngularBlock<T> &angular, int block, int length,
                                                      T *values, T *derivatives) {
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

// What a neighbour contributes to its triplets, in one cache line.
enum Record { SLOPE, INVERSE2, X, Y, Z, INVERSE, RECORD = 8 };

template <typename T>
static void make_records(const Workspace<T> &ws, const AngularGroup<T> &group, int type) {
  const T *const slope = ws.slope + group.cutoff * ws.n_slots;
  for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
    T *const record = ws.records + RECORD * at;
    record[SLOPE] = slope[at];
    record[INVERSE2] = ws.inverse[at] * ws.inverse[at];
    record[X] = ws.x[at];
    record[Y] = ws.y[at];
    record[Z] = ws.z[at];
    record[INVERSE] = ws.inverse[at];
  }
}

// Adds triplets block .. end - 1, whose values (and, N * LENGTH further, derivatives) these are, to the
// derivatives of their neighbours and to the features.
template <typename T, int N, bool NARROW, bool SHIFTED>
static void add_derivatives(const Piece<T> &piece, const Workspace<T> &ws, const Kept<T> &kept,
                            const T *values, int rows, int row, int block, int end, T *jacobian,
                            double *sums) {
  typedef Lanewise<T, N> L;
  constexpr int LENGTH = AngularBlock<T>::LENGTH;
  const int64_t padded = kept.padded;
  const T *const partner = ws.partner, *const records = ws.records, *const shifts = kept.shift;
  const L eta2 = load_lanes<T, N>(piece.eta2);
  L shift = {};
  if constexpr (SHIFTED) shift = load_lanes<T, N>(piece.shift);
  for (int at = block; at < end; row++) {
    const int stop = row + 1 < rows && ws.row_begin[row + 1] < end ? ws.row_begin[row + 1] : end;
    const int64_t j = ws.row_slot[row];
    const T *const mine = records + RECORD * j;
    const T xj = mine[X], yj = mine[Y], zj = mine[Z];
    L v_sum = {}, t_sum = {}, d_sum = {}, x_sum = {}, y_sum = {}, z_sum = {}, shift_sum = {};
    for (; at < stop; at++) {
      const int64_t k = slot_of(partner + at);
      const T *const other = records + RECORD * k, *const sides = kept.slope + at;
      const T *const from = values + N * (at - block);
      const L v = load_lanes<T, N>(from), d = load_lanes<T, N>(from + N * LENGTH);
      const T cosine = sides[padded], legs = sides[2 * padded];
      L t = v * eta2, cross;
      if constexpr (NARROW) {
        t += v * sides[0];
        if constexpr (SHIFTED) t += (v * shift) * shifts[at];
        cross = t - d * legs;
        t += v * eta2;
      } else {
        cross = d * -legs;
      }
      const L dc = d * cosine;
      L own = t + v * other[SLOPE] - dc * other[INVERSE2];
      if constexpr (SHIFTED) {
        const L s = v * shift;
        own += s * other[INVERSE];
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
      x_sum += cross * other[X];
      y_sum += cross * other[Y];
      z_sum += cross * other[Z];
    }
    T *const to = jacobian + 4 * N * j;
    L own = t_sum + v_sum * mine[SLOPE] - d_sum * mine[INVERSE2];
    if constexpr (SHIFTED) own += shift_sum * mine[INVERSE];
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
  alignas(64) T values[2 * N * LENGTH];
  const int length = (end - block + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>;
  function_values<T, N>(piece, kept, angular, block, length, values, values + N * LENGTH);
  const auto add =
      group.shifted  ? group.narrow ? &add_derivatives<T, N, true, true> : &add_derivatives<T, N, false, true>
      : group.narrow ? &add_derivatives<T, N, true, false>
                     : &add_derivatives<T, N, false, false>;
  add(piece, ws, kept, values, rows, row, block, end, jacobian, sums);
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
    make_records(ws, group, group.first);
    if (group.second != group.first) make_records(ws, group, group.second);
    clear(angular.value + group.n_angular * AngularBlock<T>::LENGTH, AngularBlock<T>::LENGTH);
    clear(angular.derivative + group.n_angular * AngularBlock<T>::LENGTH, AngularBlock<T>::LENGTH);
    const Sides sides = sides_of(ws, group);
    for (int next = sides.row_begin; next < sides.row_end;) {
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

// Adds the N functions of a piece, times coefficients of all members, to the sums over functions: of the
// coefficient of a neighbour's own vector, and of the vector to subtract.
template <typename T, int N>
NNPKIT_INLINE void add_piece_gradient(const T *from, const T *coefficients, Eight<T> (&sum)[4]) {
#pragma GCC unroll 8
  for (int f = 0; f < N; f++) {
    const Eight<T> c = load_eight(coefficients + f * MEMBERS);
    sum[0] += c * from[f];
    sum[1] += c * from[N + f];
    sum[2] += c * from[2 * N + f];
    sum[3] += c * from[3 * N + f];
  }
}

// Rows of ws.coefficients for what a neighbour of this type sees, in the order in which it is added up: of
// its radial functions, then of the lanes of the pieces, zero in lanes without a function.
template <typename T>
static void gather_coefficients(const Center<T> &center, const Workspace<T> &ws, int type, T *gathered) {
  const auto put = [&](int column) {
    store(gathered, load_eight(ws.coefficients + column * MEMBERS));
    gathered += MEMBERS;
  };
  for (int f = 0; f < center.radial[type].n; f++) put(center.radial[type].column[f]);
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    if (group.first != type && group.second != type) continue;
    for (int p = 0; p < group.n_pieces; p++) {
      const Piece<T> &piece = group.pieces[p];
      for (int f = 0; f < piece.n; f++) put(piece.column[f]);
      clear(gathered, (piece.lanes - piece.n) * MEMBERS);
      gathered += (piece.lanes - piece.n) * MEMBERS;
    }
  }
}

template <typename T>
NNPKIT_INLINE void put_members(double *out, const Eight<T> &g, int n_members) {
  if constexpr (sizeof(T) == sizeof(double)) {
    if (n_members == MEMBERS) return store(out, g);
  }
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
  for (int type = 0; type < center.n_types; type++) {
    gather_coefficients(center, ws, type, ws.gathered);
    const int n_radial = center.radial[type].n;
    for (int64_t at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
      const T *c = ws.gathered, *radial = ws.radial + at;
      Eight<T> sum[4] = {}, odd = {};
      int f = 0;
      for (; f + 1 < n_radial; f += 2, c += 2 * MEMBERS, radial += 2 * static_cast<int64_t>(ws.n_slots)) {
        sum[0] += load_eight(c) * radial[0];
        odd += load_eight(c + MEMBERS) * radial[ws.n_slots];
      }
      if (f < n_radial) {
        sum[0] += load_eight(c) * radial[0];
        c += MEMBERS;
      }
      sum[0] += odd;
      const T *jacobian = ws.jacobian;
      for (int g = 0; g < center.n_groups; g++) {
        const AngularGroup<T> &group = center.groups[g];
        const bool reached = group.first == type || group.second == type;
        for (int p = 0; p < group.n_pieces; p++) {
          const int lanes = group.pieces[p].lanes;
          const T *const from = jacobian + 4 * lanes * at;
          jacobian += 4 * lanes * static_cast<int64_t>(ws.n_slots);
          if (!reached) continue;
          lanes == 4 ? add_piece_gradient<T, 4>(from, c, sum) : add_piece_gradient<T, 8>(from, c, sum);
          c += lanes * MEMBERS;
        }
      }
      const T x = ws.x[at], y = ws.y[at], z = ws.z[at];
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
