// Features with their derivatives by the place of every neighbour, for gradients of many members at once.
// Included by acsf_isa.cpp only.
//
// The functions of a group lie side by side in a vector. With v = P A(cos) of a function, d = P dA/dcos /
// (r_ij r_ik), e = fc'/(fc r_jk) - 2 eta and cross = e v - d, the derivative by x_j is own_j x_j - sum_k
// cross x_k. The angle does not change along x_j, so own_j needs no d: it is (x_j . sum_k cross x_k) /
// r_ij^2, which can wait until everything is summed up, plus the derivative by r_ij at a constant angle, a
// sum over k of
//   (slope(r_ij) - 2 eta + e (1 - q_j)) v,  q_j = x_j . x_k / r_ij^2.
// Without the third side e = 0. A shift adds 2 eta shift / r to the derivatives by each side.

#ifndef NNPKIT_ACSF_JACOBIAN_H
#define NNPKIT_ACSF_JACOBIAN_H

#include "acsf_describe.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using acsf::MEMBERS;
using acsf::Piece;

template <int N>
struct Constant {
  static constexpr int value = N;
};

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
    const V inverse = load(kept.inverse + block + at);
#pragma GCC unroll 8
    for (int f = 0; f < N; f++) rows[f] = load(product[f] + at) * load(value[f] + at);
    store_rows<T, N>(values + N * at, rows);
#pragma GCC unroll 8
    for (int f = 0; f < N; f++) rows[f] = load(product[f] + at) * load(derivative[f] + at) * inverse;
    store_rows<T, N>(derivatives + N * at, rows);
  }
}

// What a neighbour contributes to its triplets, in one cache line.
enum Record { SLOPE, X, Y, Z, SQUARE, INVERSE, RECORD = 8 };

template <typename T>
static void make_records(const Workspace<T> &ws, int cutoff) {
  const T *const slope = ws.slope + cutoff * ws.n_slots;
  for (int at = 0; at < ws.n_slots; at++) {
    T *const record = ws.records + RECORD * at;
    record[SLOPE] = slope[at];
    record[X] = ws.x[at];
    record[Y] = ws.y[at];
    record[Z] = ws.z[at];
    record[SQUARE] = ws.r2[at];
    record[INVERSE] = ws.inverse[at];
  }
}

// x_j . x_k / (r_ij r_ik)^2 of every triplet of a chunk, where the squares of the third side were
template <typename T>
static void leg_ratios(const Workspace<T> &ws, const Kept<T> &kept) {
  for (int at = 0; at < kept.padded; at += WIDTH<T>)
    store(ws.side2 + at, load(kept.cosine + at) * load(kept.inverse + at));
}

// Adds triplets block .. end - 1, whose values (and, N * LENGTH further, derivatives) these are, to the
// derivatives of their neighbours and to the features.
template <typename T, int N, bool NARROW, bool SHIFTED>
static void add_derivatives(const Piece<T> &piece, const Workspace<T> &ws, const Kept<T> &kept,
                            const T *values, int rows, int row, int block, int end, T *jacobian,
                            double *sums) {
  typedef Lanewise<T, N> L;
  constexpr int LENGTH = AngularBlock<T>::LENGTH;
  const T *const partner = ws.partner, *const records = ws.records, *const slopes = kept.slope,
                 *const shifts = kept.shift, *const ratios = ws.side2;
  const L eta2 = load_lanes<T, N>(piece.eta2);
  L shift = {}, total = {};
  if constexpr (SHIFTED) shift = load_lanes<T, N>(piece.shift);
  for (int at = block; at < end; row++) {
    const int stop = row + 1 < rows && ws.row_begin[row + 1] < end ? ws.row_begin[row + 1] : end;
    const int64_t j = ws.row_slot[row];
    const T *const mine = records + RECORD * j;
    const T xj = mine[X], yj = mine[Y], zj = mine[Z], j2 = mine[SQUARE];
    L v_sum = {}, own = {}, x_sum = {}, y_sum = {}, z_sum = {};
    for (; at < stop; at++) {
      const int64_t k = slot_of(partner + at);
      const T *const other = records + RECORD * k, *const from = values + N * (at - block);
      const L v = load_lanes<T, N>(from), d = load_lanes<T, N>(from + N * LENGTH);
      L of_k = eta2, of_j = eta2, cross = L{} - d;
      if constexpr (NARROW) {
        L third = eta2 + slopes[at];
        if constexpr (SHIFTED) third += shift * shifts[at];
        cross = v * third - d;
        const L part = third * ratios[at];
        of_k += third - part * j2;
        of_j += third - part * other[SQUARE];
      }
      of_k = of_k + other[SLOPE];
      if constexpr (SHIFTED) of_k += shift * other[INVERSE];
      T *const to = jacobian + 4 * N * k;
      store(to, load_lanes<T, N>(to) + v * of_k);
      store(to + N, load_lanes<T, N>(to + N) + cross * xj);
      store(to + 2 * N, load_lanes<T, N>(to + 2 * N) + cross * yj);
      store(to + 3 * N, load_lanes<T, N>(to + 3 * N) + cross * zj);
      v_sum += v;
      own += v * of_j;
      x_sum += cross * other[X];
      y_sum += cross * other[Y];
      z_sum += cross * other[Z];
    }
    T *const to = jacobian + 4 * N * j;
    own += v_sum * mine[SLOPE];
    if constexpr (SHIFTED) own += v_sum * shift * mine[INVERSE];
    store(to, load_lanes<T, N>(to) + own);
    store(to + N, load_lanes<T, N>(to + N) + x_sum);
    store(to + 2 * N, load_lanes<T, N>(to + 2 * N) + y_sum);
    store(to + 3 * N, load_lanes<T, N>(to + 3 * N) + z_sum);
    total += v_sum;
  }
  T totals[N];
  store(totals, total);
  for (int f = 0; f < N; f++) sums[f] += static_cast<double>(totals[f]);
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
  int cutoff = -1;
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
    if (group.cutoff != cutoff) make_records(ws, cutoff = group.cutoff);
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
      if (group.narrow) leg_ratios(ws, kept);
      add_chunk(group, ws, kept, angular, n, rows, first, sums);
    }
    for (int p = 0; p < group.n_pieces; p++)
      for (int f = 0; f < group.pieces[p].n; f++)
        ws.features[group.pieces[p].column[f]] += sums[p * acsf::PIECE + f];
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

// Neighbours whose sums fit into half of the registers.
template <typename T>
constexpr int TOGETHER = (VECTOR_BYTES == 64                    ? 4
                          : sizeof(T) * MEMBERS == VECTOR_BYTES ? 2
                                                                : 1);

// Slots at .. at + N - 1, neighbours of one type: sums over functions of coefficients of all members times
// derivatives, one row of derivatives after the other.
template <typename T, int N>
static void differentiate_slots(const Center<T> &center, const Workspace<T> &ws, int type, int64_t at,
                                double *gradient, int n_rows, int n_members) {
  const T *const coefficients = ws.coefficients, *radial = ws.radial + at;
  const auto &functions = center.radial[type];
  Eight<T> sum[N][4] = {};
  for (int f = 0; f < functions.n; f++, radial += ws.n_slots) {
    const Eight<T> row = load_eight(coefficients + functions.column[f] * MEMBERS);
#pragma GCC unroll 4
    for (int s = 0; s < N; s++) sum[s][0] += row * radial[s];
  }
  const T *jacobian = ws.jacobian;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    const bool reached = group.first == type || group.second == type;
    for (int p = 0; p < group.n_pieces; p++) {
      const Piece<T> &piece = group.pieces[p];
      const T *const from = jacobian + 4 * piece.lanes * at;
      jacobian += 4 * piece.lanes * static_cast<int64_t>(ws.n_slots);
      if (!reached) continue;
      const auto add = [&](auto lanes) __attribute__((always_inline)) {
        constexpr int LANES = decltype(lanes)::value;
        for (int f = 0; f < piece.n; f++) {
          const Eight<T> row = load_eight(coefficients + piece.column[f] * MEMBERS);
#pragma GCC unroll 4
          for (int s = 0; s < N; s++)
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) sum[s][k] += row * from[(4 * s + k) * LANES + f];
        }
      };
      piece.lanes == 4 ? add(Constant<4>{}) : add(Constant<8>{});
    }
  }
  const int64_t *const edges = ws.edges + at;
  const T *const x = ws.x + at, *const y = ws.y + at, *const z = ws.z + at, *const inverse = ws.inverse + at;
#pragma GCC unroll 4
  for (int s = 0; s < N; s++) {
    const Eight<T> along = sum[s][1] * x[s] + sum[s][2] * y[s] + sum[s][3] * z[s];
    const Eight<T> own = sum[s][0] + along * (inverse[s] * inverse[s]);
    double *const out = gradient + 3 * edges[s] * n_rows;
    put_members<T>(out, own * x[s] - sum[s][1], n_members);
    put_members<T>(out + n_rows, own * y[s] - sum[s][2], n_members);
    put_members<T>(out + 2 * n_rows, own * z[s] - sum[s][3], n_members);
  }
}

template <typename T>
static void differentiate_members(const Center<T> &center, Workspace<T> &ws, double *gradient, int n_rows,
                                  int first_row, int n_members) {
  constexpr int N = TOGETHER<T>;
  gradient += first_row;
  for (int type = 0; type < center.n_types; type++) {
    int64_t at = ws.begin[type];
    const int64_t end = at + ws.count[type];
    for (; at + N <= end; at += N)
      differentiate_slots<T, N>(center, ws, type, at, gradient, n_rows, n_members);
    for (; at < end; at++) differentiate_slots<T, 1>(center, ws, type, at, gradient, n_rows, n_members);
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
