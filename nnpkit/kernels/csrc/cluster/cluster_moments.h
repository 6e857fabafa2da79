// Sums over neighbours: moments, and the way back from the gradient of moments to every neighbour. Included
// by cluster_isa.cpp only.

#ifndef NNPKIT_CLUSTER_MOMENTS_H
#define NNPKIT_CLUSTER_MOMENTS_H

#include "cluster_basis.h"

namespace nnpkit {
namespace NNPKIT_ISA {

using cluster::Center;
using cluster::EIGHT;
using cluster::Expansion;
using cluster::padded;
using cluster::RADIAL;
using cluster::Workspace;

// Functions that are worked on together, so that their sums stay in registers: of 32, or of 16.
constexpr int FUNCTIONS = VECTOR_BYTES == 64 ? 8 : 4;
constexpr int ROWS = 3;

#if defined(__GNUC__) && !defined(__clang__)
// Halves of the blocks of 2 H lanes of two vectors added: those of a in the first half of each block, those
// of b in the second. One of the two shuffles is a blend, which is cheap.
template <typename T, int H>
NNPKIT_INLINE Vector<T> fold_two(const Vector<T> &a, const Vector<T> &b) {
  constexpr int W = WIDTH<T>;
  Integers<T> stay, cross;
  for (int k = 0; k < W; k++) {
    const int second = k / H % 2;
    stay[k] = k + second * W;
    cross[k] = second ? k - H + W : k + H;
  }
  return __builtin_shuffle(a, b, stay) + __builtin_shuffle(a, b, cross);
}

// In the lanes from p * (W / N): parts of the sum of v[step * p].
template <typename T, int N>
NNPKIT_INLINE Vector<T> fold(const Vector<T> *v, int step) {
  if constexpr (N == 1)
    return v[0];
  else
    return fold_two<T, WIDTH<T> / N>(fold<T, N / 2>(v, 2 * step), fold<T, N / 2>(v + step, 2 * step));
}

// What is left in each of N blocks of SIZE lanes added, and side by side.
template <typename T, int N, int SIZE>
NNPKIT_INLINE Vector<T> fold_blocks(const Vector<T> &v) {
  constexpr int W = WIDTH<T>;
  Integers<T> other;
  if constexpr (SIZE == 1) {
    for (int k = 0; k < W; k++) other[k] = k * (W / N) % W;
    return W == N ? v : __builtin_shuffle(v, other);
  } else {
    for (int k = 0; k < W; k++) other[k] = k ^ (SIZE / 2);
    return fold_blocks<T, N, SIZE / 2>(v + __builtin_shuffle(v, other));
  }
}
#endif

// The sums over lanes of N vectors, always in the same order.
template <typename T, int N>
NNPKIT_INLINE void sum_rows(const Vector<T> (&v)[N], T *sums) {
#if defined(__GNUC__) && !defined(__clang__)
  if constexpr (N <= WIDTH<T>) {
    const Vector<T> folded = fold_blocks<T, N, WIDTH<T> / N>(fold<T, N>(v, 1));
    std::memcpy(sums, &folded, N * sizeof(T));
    return;
  }
#endif
  for (int n = 0; n < N; n++) {
    T sum = T(0);
    for (int k = 0; k < WIDTH<T>; k++) sum += v[n][k];
    sums[n] = sum;
  }
}

// K functions times N rows, summed over `n` vectors of slots, to moments[row * stride + k]
template <typename T, int K, int N>
NNPKIT_INLINE void moment_tile(const T *functions, int by_functions, const T *rows, int by_rows, int n,
                               T *moments, int stride) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  V sum[N][K] = {};
  for (; n > 0; n--, functions += by_functions, rows += by_rows) {
    V y[N];
#pragma GCC unroll 4
    for (int row = 0; row < N; row++) y[row] = load(rows + row * W);
#pragma GCC unroll 8
    for (int k = 0; k < K; k++) {
      const V f = load(functions + k * W);
#pragma GCC unroll 4
      for (int row = 0; row < N; row++) sum[row][k] += f * y[row];
    }
  }
#pragma GCC unroll 4
  for (int row = 0; row < N; row++) sum_rows<T, K>(sum[row], moments + row * stride);
}

template <typename T, int K>
static void moment_rows(const T *functions, int by_functions, const T *rows, int n_rows, int by_rows, int n,
                        T *moments, int stride) {
  constexpr int W = WIDTH<T>;
  int row = 0;
  for (; row + ROWS <= n_rows; row += ROWS)
    moment_tile<T, K, ROWS>(functions, by_functions, rows + row * W, by_rows, n, moments + row * stride,
                            stride);
  for (; row < n_rows; row++)
    moment_tile<T, K, 1>(functions, by_functions, rows + row * W, by_rows, n, moments + row * stride, stride);
}

template <typename T, int K>
static void moments_of(const T *functions, int n_functions, int by_functions, const T *rows, int n_rows,
                       int by_rows, int n, T *moments, int stride) {
  for (; n_functions >= K; n_functions -= K, functions += K * WIDTH<T>, moments += K)
    moment_rows<T, K>(functions, by_functions, rows, n_rows, by_rows, n, moments, stride);
  if constexpr (K > 1)
    if (n_functions > 0)
      moments_of<T, K / 2>(functions, n_functions, by_functions, rows, n_rows, by_rows, n, moments, stride);
}

// Of one vector of slots and K functions: what the gradient of the moments makes of the harmonics (added to
// row_gradient, or, if these functions are the first, written), and of the distance (returned).
template <typename T, int K, bool FIRST>
NNPKIT_INLINE Vector<T> moment_gradient_tile(const T *functions, const T *slopes, const T *rows, int n_rows,
                                             const T *gradient, int stride, T *row_gradient) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  V f[K], sum[K] = {};
#pragma GCC unroll 8
  for (int k = 0; k < K; k++) f[k] = load(functions + k * W);
  for (int row = 0; row < n_rows; row++, gradient += stride) {
    const V y = load(rows + row * W);
    V even = FIRST ? V{} : load(row_gradient + row * W), odd = {};
#pragma GCC unroll 8
    for (int k = 0; k < K; k++) {
      sum[k] += gradient[k] * y;
      if (k % 2)
        odd += gradient[k] * f[k];
      else
        even += gradient[k] * f[k];
    }
    store(row_gradient + row * W, even + odd);
  }
  V radial = {};
#pragma GCC unroll 8
  for (int k = 0; k < K; k++) radial += sum[k] * load(slopes + k * W);
  return radial;
}

template <typename T, int K, bool FIRST>
static Vector<T> moment_gradient_of(const T *functions, const T *slopes, int n_functions, const T *rows,
                                    int n_rows, const T *gradient, int stride, T *row_gradient) {
  constexpr int W = WIDTH<T>;
  Vector<T> radial = {};
  if (n_functions >= K) {
    radial =
        moment_gradient_tile<T, K, FIRST>(functions, slopes, rows, n_rows, gradient, stride, row_gradient);
    if (n_functions > K)
      radial += moment_gradient_of<T, K, false>(functions + K * W, slopes + K * W, n_functions - K, rows,
                                                n_rows, gradient + K, stride, row_gradient);
  } else if constexpr (K > 1) {
    radial = moment_gradient_of<T, K / 2, FIRST>(functions, slopes, n_functions, rows, n_rows, gradient,
                                                 stride, row_gradient);
  }
  return radial;
}

template <typename T>
static void clear(T *values, int64_t n) {
  for (int64_t at = 0; at < n; at++) values[at] = T(0);
}

// N of the radial functions summed over the slots of one type, from the ones where the recurrences stand,
// which go on.
template <typename T, int N>
static void radial_sums(T *recurrences, int n_vectors, T *moments) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  V sum[N] = {};
  for (; n_vectors > 0; n_vectors--, recurrences += RADIAL * W) {
    const V x2 = load(recurrences + 2 * W);
    V last = load(recurrences + 4 * W), value = load(recurrences + 5 * W);
#pragma GCC unroll 8
    for (int k = 0; k < N; k++) {
      sum[k] += last;
      const V next = x2 * value - last;
      last = value;
      value = next;
    }
    store(recurrences + 4 * W, last);
    store(recurrences + 5 * W, value);
  }
  sum_rows<T, N>(sum, moments);
}

template <typename T, int N>
static void radial_sums_of(T *recurrences, int n_vectors, int n, T *moments) {
  for (; n >= N; n -= N, moments += N) radial_sums<T, N>(recurrences, n_vectors, moments);
  if constexpr (N > 1)
    if (n > 0) radial_sums_of<T, N / 2>(recurrences, n_vectors, n, moments);
}

// Sums of the radial functions of the slots of one type.
template <typename T>
static void radial_moments(const Basis<T> &basis, Workspace<T> &ws, int type) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  T *const moments = ws.radial_moments + type * padded(basis.n);
  const int begin = ws.begin[type], end = begin + ws.n_radial[type];
  T *const recurrences = ws.radial + static_cast<int64_t>(begin) * RADIAL;
  T *to = recurrences;
  V half = {};
  for (int at = begin; at < end; at += W, to += RADIAL * W) {
    const Recurrence<T> t = start(basis, load(ws.r + at));
    half += t.half;
    store(to, t.half);
    store(to + W, t.half_slope);
    store(to + 2 * W, t.x2);
    store(to + 3 * W, t.x2_slope);
    store(to + 4 * W, t.last);
    store(to + 5 * W, t.value);
  }
  radial_sums_of<T, EIGHT>(recurrences, static_cast<int>((to - recurrences) / (RADIAL * W)), basis.n,
                           moments);
  const T share = static_cast<T>(sum_lanes<T>(half));
  for (int k = 0; k < basis.n; k++) moments[k] += share;
}

// N channels of a vector of slots, values and derivatives, from the functions; coefficients are (functions,
// stride).
template <typename T, int N>
static void mix_functions(const T *functions, const T *slopes, int n_functions, const T *coefficients,
                          int stride, int n_channels, T *channels, T *channel_slopes) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  for (; n_channels >= N; n_channels -= N, coefficients += N, channels += N * W, channel_slopes += N * W) {
    V g[N] = {}, slope[N] = {};
    for (int k = 0; k < n_functions; k++) {
      const V f = load(functions + k * W), d = load(slopes + k * W);
#pragma GCC unroll 8
      for (int n = 0; n < N; n++) {
        g[n] += coefficients[k * stride + n] * f;
        slope[n] += coefficients[k * stride + n] * d;
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) {
      store(channels + n * W, g[n]);
      store(channel_slopes + n * W, slope[n]);
    }
  }
  if constexpr (N > 1)
    if (n_channels > 0)
      mix_functions<T, N / 2>(functions, slopes, n_functions, coefficients, stride, n_channels, channels,
                              channel_slopes);
}

template <typename T, int L>
static void angular_moments(const Expansion<T> &expansion, const Center<T> *direct, Workspace<T> &ws) {
  constexpr int W = WIDTH<T>, N_ROWS = cluster::n_harmonics(L);
  const Basis<T> &basis = expansion.angular;
  const int n = direct ? direct->angular.n_channels : basis.n, stride = padded(n),
            first = expansion.first_row;
  T *functions = ws.basis, *slopes = ws.slope, *rows = ws.harmonics;
  const auto sum_up = [&](const T *from, const T *from_rows, T *moments) {
    moments_of<T, FUNCTIONS>(from, n, n * W, from_rows + first * W, N_ROWS - first, N_ROWS * W,
                             static_cast<int>((rows - from_rows) / (N_ROWS * W)), moments + first * stride,
                             stride);
  };
  for (int type = 0; type < expansion.n_types; type++) {
    const T *const from = functions, *const from_rows = rows;
    const int end = ws.begin[type] + ws.n_angular[type];
    for (int at = ws.begin[type]; at < end;
         at += W, functions += n * W, slopes += n * W, rows += N_ROWS * W) {
      if (direct) {
        T *const values = ws.scratch, *const derivatives = values + basis.n * W;
        radial_functions(basis, load(ws.r + at), values, derivatives);
        mix_functions<T, FUNCTIONS>(values, derivatives, basis.n,
                                    direct->angular.forward + type * basis.n * stride, stride, n, functions,
                                    slopes);
      } else {
        radial_functions(basis, load(ws.r + at), functions, slopes);
      }
      harmonics<T, L>(load(ws.x + at), load(ws.y + at), load(ws.z + at), rows);
    }
    if (!direct) sum_up(from, from_rows, ws.moments + type * N_ROWS * stride);
  }
  if (direct) sum_up(ws.basis, ws.harmonics, ws.channels);
}

template <typename T, int L>
static void angular_gradient(const Expansion<T> &expansion, const Center<T> *direct, Workspace<T> &ws) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>, N_ROWS = cluster::n_harmonics(L);
  const int n = direct ? direct->angular.n_channels : expansion.angular.n, stride = padded(n);
  const int first = expansion.first_row;
  const T *functions = ws.basis, *slopes = ws.slope, *rows = ws.harmonics + first * W;
  for (int type = 0; type < expansion.n_types; type++) {
    const T *const gradient =
        (direct ? ws.channel_gradient : ws.moment_gradient + type * N_ROWS * stride) + first * stride;
    const int end = ws.begin[type] + ws.n_angular[type];
    for (int at = ws.begin[type]; at < end;
         at += W, functions += n * W, slopes += n * W, rows += N_ROWS * W) {
      V radial = moment_gradient_of<T, FUNCTIONS, true>(functions, slopes, n, rows, N_ROWS - first, gradient,
                                                        stride, ws.scratch + first * W);
      const V x = load(ws.x + at), y = load(ws.y + at), z = load(ws.z + at), inverse = load(ws.inverse + at);
      V dx, dy, dz;
      harmonics_gradient<T, L>(x, y, z, ws.scratch, dx, dy, dz);
      radial += load(ws.gradient_x + at) - (dx * x + dy * y + dz * z) * inverse;  // what is across stays
      store(ws.gradient_x + at, radial * x + dx * inverse);
      store(ws.gradient_y + at, radial * y + dy * inverse);
      store(ws.gradient_z + at, radial * z + dz * inverse);
    }
  }
}

template <int OF>
struct Degree {
  static constexpr int L = OF;
};

// Calls what(Degree<l_max>).
template <typename What>
NNPKIT_INLINE void for_degree(int l_max, const What &what) {
  switch (l_max) {
    case 1:
      return what(Degree<1>());
    case 2:
      return what(Degree<2>());
    case 3:
      return what(Degree<3>());
    case 4:
      return what(Degree<4>());
    case 5:
      return what(Degree<5>());
    case 6:
      return what(Degree<6>());
    case 7:
      return what(Degree<7>());
    case 8:
      return what(Degree<8>());
  }
}

template <typename T>
static void describe(const Expansion<T> &expansion, const Center<T> *direct, Workspace<T> &ws) {
  for (int type = 0; type < expansion.n_types; type++) radial_moments(expansion.radial, ws, type);
  for_degree(expansion.l_max,
             [&](auto degree) { angular_moments<T, decltype(degree)::L>(expansion, direct, ws); });
}

// Along the vector of every slot within the radial cutoff; zero for the others. The sum of gradient times
// polynomial by Clenshaw's recurrence, and its derivative.
template <typename T>
static void radial_gradient(const Expansion<T> &expansion, Workspace<T> &ws) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  const int n = expansion.radial.n;
  for (int type = 0; type < expansion.n_types; type++) {
    const T *const gradient = ws.radial_moment_gradient + type * padded(n);
    T sum = T(0);
    for (int k = 0; k < n; k++) sum += gradient[k];
    const int begin = ws.begin[type], end = begin + ws.n_radial[type];
    const int last =
        begin + (ws.n_angular[type] > ws.n_radial[type] ? ws.n_angular[type] : ws.n_radial[type]);
    for (int at = begin; at < last; at += W) {
      V along = {};
      if (at < end) {
        const T *const from = ws.radial + static_cast<int64_t>(at) * RADIAL;
        const V half = load(from), half_slope = load(from + W), x2 = load(from + 2 * W);
        V b = {}, above = {}, slope = {}, slope_above = {};
        for (int k = n - 1; k > 0; k--) {
          const V next_slope = x2 * slope + (b - slope_above), next = x2 * b + (gradient[k] - above);
          slope_above = slope;
          slope = next_slope;
          above = b;
          b = next;
        }
        const V value = T(0.5) * x2 * b + (gradient[0] - above);
        const V change = T(0.5) * (x2 * slope + b) - slope_above;  // by 2 x
        along = half_slope * (value + sum) + half * change * load(from + 3 * W);
      }
      store(ws.gradient_x + at, along);
    }
  }
}

template <typename T>
static void differentiate(const Expansion<T> &expansion, const Center<T> *direct, Workspace<T> &ws) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>;
  radial_gradient(expansion, ws);
  for_degree(expansion.l_max,
             [&](auto degree) { angular_gradient<T, decltype(degree)::L>(expansion, direct, ws); });
  for (int type = 0; type < expansion.n_types; type++) {  // what the angular part has not seen
    const int end = ws.begin[type] + ws.n_radial[type];
    for (int at = ws.begin[type] + (ws.n_angular[type] + W - 1) / W * W; at < end; at += W) {
      const V radial = load(ws.gradient_x + at);
      store(ws.gradient_x + at, radial * load(ws.x + at));
      store(ws.gradient_y + at, radial * load(ws.y + at));
      store(ws.gradient_z + at, radial * load(ws.z + at));
    }
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
