// symmetric_product.h, compiled once for each instruction set.

#include "symmetric_product.h"

#include "simd.h"

namespace nnpkit {
namespace NNPKIT_ISA {

namespace {

constexpr int TILE = SYMMETRIC_TILE;

// y (R, wide) += a (R, n_k) times x (n_k, wide), V vectors of columns
template <typename T, int R, int V>
NNPKIT_INLINE void rows_of_tile(const T *a, int by_row, int by_k, int n_k, const T *x, T *y, int wide) {
  constexpr int W = WIDTH<T>;
  Vector<T> sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sum[r][v] = load(y + r * wide + v * W);
  for (int k = 0; k < n_k; k++, x += wide, a += by_k) {
    Vector<T> column[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) column[v] = load(x + v * W);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const T number = a[r * by_row];
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) sum[r][v] += column[v] * number;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) store(y + r * wide + v * W, sum[r][v]);
}

template <typename T, int R, int V>
static void all_rows(const T *a, int by_row, int by_k, int n_rows, int n_k, const T *x, T *y, int wide) {
  int r = 0;
  for (; r + R <= n_rows; r += R)
    rows_of_tile<T, R, V>(a + r * by_row, by_row, by_k, n_k, x, y + r * wide, wide);
  for (; r < n_rows; r++) rows_of_tile<T, 1, V>(a + r * by_row, by_row, by_k, n_k, x, y + r * wide, wide);
}

// Vectors of columns, as many at a time as registers allow.
template <typename T>
static void times(const T *a, int by_row, int by_k, int n_rows, int n_k, const T *x, T *y, int wide) {
  constexpr int W = WIDTH<T>;
  constexpr bool MANY = VECTOR_BYTES == 64;  // 32 registers, not 16
  for (int left = wide / W; left > 0;) {
    int used;
    if (MANY && left >= 5) {
      all_rows<T, 5, 5>(a, by_row, by_k, n_rows, n_k, x, y, wide);
      used = 5;
    } else if (MANY && left == 4) {
      all_rows<T, 6, 4>(a, by_row, by_k, n_rows, n_k, x, y, wide);
      used = 4;
    } else if (left >= 3) {
      all_rows<T, MANY ? 8 : 4, 3>(a, by_row, by_k, n_rows, n_k, x, y, wide);
      used = 3;
    } else if (left == 2) {
      all_rows<T, MANY ? 8 : 4, 2>(a, by_row, by_k, n_rows, n_k, x, y, wide);
      used = 2;
    } else {
      all_rows<T, 8, 1>(a, by_row, by_k, n_rows, n_k, x, y, wide);
      used = 1;
    }
    left -= used;
    x += used * W;
    y += used * W;
  }
}

template <typename T>
static void mirror(T *tile, int n, bool lower) {
  for (int c = 0; c < n; c++)
    for (int r = c + 1; r < n; r++) {
      T *const below = tile + c * TILE + r, *const above = tile + r * TILE + c;
      (lower ? *above : *below) = lower ? *below : *above;
    }
}

template <typename T>
static void product(const SymmetricTask<T> &task) {
  T *const tile = task.tile;  // (columns, rows) of the stored triangle
  for (int64_t column = 0; column < task.n; column += TILE) {
    const int n_columns = static_cast<int>(task.n - column < TILE ? task.n - column : TILE);
    const int64_t first = task.lower ? column : 0, end = task.lower ? task.n : column + 1;
    for (int64_t row = first; row < end; row += TILE) {
      const int n_rows = static_cast<int>(task.n - row < TILE ? task.n - row : TILE);
      for (int c = 0; c < n_columns; c++) {
        const T *const from = task.matrix + (column + c) * task.ld + row;
        const int begin = row == column && task.lower ? c : 0;
        const int stop = row == column && !task.lower ? c + 1 : n_rows;
        for (int r = begin; r < stop; r++) tile[c * TILE + r] = from[r];
      }
      if (row == column) mirror(tile, n_rows, task.lower);
      times(tile, 1, TILE, n_rows, n_columns, task.x + column * task.wide, task.y + row * task.wide,
            task.wide);
      if (row != column)
        times(tile, TILE, 1, n_columns, n_rows, task.x + row * task.wide, task.y + column * task.wide,
              task.wide);
    }
  }
}

}  // namespace

void symmetric_product(const SymmetricTask<double> &task) {
  product(task);
}
void symmetric_product(const SymmetricTask<float> &task) {
  product(task);
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit
