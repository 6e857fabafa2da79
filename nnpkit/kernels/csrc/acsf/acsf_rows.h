// The derivatives of acsf_jacobian.h written out, and multiplied with a direction. Included by acsf_isa.cpp
// only.

#ifndef NNPKIT_ACSF_ROWS_H
#define NNPKIT_ACSF_ROWS_H

#include "acsf_jacobian.h"

namespace nnpkit {
namespace NNPKIT_ISA {

// d features / d place of a neighbour, (columns, 3), of the functions of a piece.
template <typename T, int N>
NNPKIT_INLINE void write_piece(const Piece<T> &piece, const T *from, const T (&place)[3], T inverse2,
                               double *row) {
  Lanewise<T, N> along = {};
  for (int k = 0; k < 3; k++) along += load_lanes<T, N>(from + (k + 1) * N) * place[k];
  const Lanewise<T, N> own = load_lanes<T, N>(from) + along * inverse2;
  T values[3][N];
  for (int k = 0; k < 3; k++) store(values[k], own * place[k] - load_lanes<T, N>(from + (k + 1) * N));
  for (int f = 0; f < piece.n; f++)
    for (int k = 0; k < 3; k++) row[3 * piece.column[f] + k] = static_cast<double>(values[k][f]);
}

template <typename T>
static void write_jacobian(const Center<T> &center, const Workspace<T> &ws, int width, double *rows) {
  for (int type = 0; type < center.n_types; type++)
    for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
      double *const row = rows + 3 * width * ws.edges[at];
      for (int n = 0; n < 3 * width; n++) row[n] = 0.0;
      const T place[3] = {ws.x[at], ws.y[at], ws.z[at]}, inverse2 = ws.inverse[at] * ws.inverse[at];
      const auto &radial = center.radial[type];
      for (int f = 0; f < radial.n; f++)
        for (int k = 0; k < 3; k++)
          row[3 * radial.column[f] + k] = static_cast<double>(ws.radial[f * ws.n_slots + at] * place[k]);
      const T *jacobian = ws.jacobian;
      for (int g = 0; g < center.n_groups; g++) {
        const AngularGroup<T> &group = center.groups[g];
        for (int p = 0; p < group.n_pieces; p++) {
          const Piece<T> &piece = group.pieces[p];
          const T *const from = jacobian + 4 * piece.lanes * static_cast<int64_t>(at);
          jacobian += 4 * piece.lanes * static_cast<int64_t>(ws.n_slots);
          if (group.first != type && group.second != type) continue;
          piece.lanes == 4 ? write_piece<T, 4>(piece, from, place, inverse2, row)
                           : write_piece<T, 8>(piece, from, place, inverse2, row);
        }
      }
    }
}

template <typename T>
static void add_products(const Center<T> &center, const Workspace<T> &ws, int width, const double *rows,
                         double *products) {
  const int64_t n = 3 * width;
  for (int type = 0; type < center.n_types; type++)
    for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
      const double *const __restrict row = rows + n * ws.edges[at];
      const double x = static_cast<double>(ws.x[at]), y = static_cast<double>(ws.y[at]),
                   z = static_cast<double>(ws.z[at]);
      double *const __restrict along_x = products;
      double *const __restrict along_y = products + n;
      double *const __restrict along_z = products + 2 * n;
      for (int64_t k = 0; k < n; k++) {
        along_x[k] += x * row[k];
        along_y[k] += y * row[k];
        along_z[k] += z * row[k];
      }
    }
}

// Adds the change of the functions of a piece. ws.row_sums holds what multiplies the derivatives of each
// slot: place times direction, and the direction perpendicular to the place with the opposite sign.
template <typename T, int N>
static void add_direction(const Piece<T> &piece, const Workspace<T> &ws, const T *jacobian, int type,
                          double *change) {
  Lanewise<T, N> sum = {};
  for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) {
    const T *const from = jacobian + 4 * N * static_cast<int64_t>(at), *const along = ws.row_sums + 4 * at;
    for (int k = 0; k < 4; k++) sum += load_lanes<T, N>(from + k * N) * along[k];
  }
  T values[N];
  store(values, sum);
  for (int f = 0; f < piece.n; f++) change[piece.column[f]] += static_cast<double>(values[f]);
}

template <typename T>
static void push_forward(const Center<T> &center, Workspace<T> &ws, const double *direction, double *change) {
  for (int type = 0; type < center.n_types; type++) {
    const auto &radial = center.radial[type];
    const int begin = ws.begin[type], end = begin + ws.count[type];
    for (int at = begin; at < end; at++) {
      const double *const d = direction + 3 * ws.edges[at];
      T *const along = ws.row_sums + 4 * at;
      const T place[3] = {ws.x[at], ws.y[at], ws.z[at]};
      along[0] = T(0);
      for (int k = 0; k < 3; k++) along[0] += place[k] * static_cast<T>(d[k]);
      const T share = along[0] * ws.inverse[at] * ws.inverse[at];
      for (int k = 0; k < 3; k++) along[k + 1] = share * place[k] - static_cast<T>(d[k]);
    }
    for (int f = 0; f < radial.n; f++)
      for (int at = begin; at < end; at++)
        change[radial.column[f]] += static_cast<double>(ws.radial[f * ws.n_slots + at] * ws.row_sums[4 * at]);
  }
  const T *jacobian = ws.jacobian;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    for (int p = 0; p < group.n_pieces; p++) {
      const Piece<T> &piece = group.pieces[p];
      const auto add = piece.lanes == 4 ? &add_direction<T, 4> : &add_direction<T, 8>;
      add(piece, ws, jacobian, group.first, change);
      if (group.second != group.first) add(piece, ws, jacobian, group.second, change);
      jacobian += 4 * piece.lanes * static_cast<int64_t>(ws.n_slots);
    }
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
