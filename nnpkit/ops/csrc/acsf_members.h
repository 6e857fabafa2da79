// Networks and gradients of up to MEMBERS members of a committee at once: what depends on the neighbourhood
// alone is shared, the members lie side by side in a vector. Included by acsf_isa.cpp only.

#ifndef NNPKIT_ACSF_MEMBERS_H
#define NNPKIT_ACSF_MEMBERS_H

#include "acsf_gradient.h"
#include "acsf_network.h"

namespace nnpkit {
namespace NNPKIT_ISA {

constexpr int AT_ONCE = 8;  // functions whose coefficients stay in registers

template <typename T>
NNPKIT_INLINE Eight<T> zero_eight() {
  return Eight<T>{};
}

// out[o] = start[o] + sum_i in[i] W[i][o], all of MEMBERS
template <typename T, int N>
NNPKIT_INLINE void member_columns(const T *in, int n_in, const T *weight, int n_out, const T *start, T *out) {
  Eight<T> sum[N];
  for (int o = 0; o < N; o++) sum[o] = load_eight(start + o * MEMBERS);
  for (int i = 0; i < n_in; i++) {
    const Eight<T> x = load_eight(in + i * MEMBERS);
    const T *const row = weight + static_cast<int64_t>(i) * n_out * MEMBERS;
    for (int o = 0; o < N; o++) sum[o] += x * load_eight(row + o * MEMBERS);
  }
  for (int o = 0; o < N; o++) store(out + o * MEMBERS, sum[o]);
}

// in[i] = sum_o W[i][o] out[o]
template <typename T>
static void member_rows(const T *out, int n_out, const T *weight, int n_in, T *in) {
  for (int i = 0; i < n_in; i++) {
    const T *const row = weight + static_cast<int64_t>(i) * n_out * MEMBERS;
    Eight<T> a = zero_eight<T>(), b = a, c = a, d = a;
    int o = 0;
    for (; o + 4 <= n_out; o += 4) {
      a += load_eight(row + o * MEMBERS) * load_eight(out + o * MEMBERS);
      b += load_eight(row + (o + 1) * MEMBERS) * load_eight(out + (o + 1) * MEMBERS);
      c += load_eight(row + (o + 2) * MEMBERS) * load_eight(out + (o + 2) * MEMBERS);
      d += load_eight(row + (o + 3) * MEMBERS) * load_eight(out + (o + 3) * MEMBERS);
    }
    for (; o < n_out; o++) a += load_eight(row + o * MEMBERS) * load_eight(out + o * MEMBERS);
    store(in + i * MEMBERS, (a + b) + (c + d));
  }
}

// nodes: for each layer its values and slopes, then two rows of net.width for the way back, all times MEMBERS
template <typename T>
static void member_networks(const Network<T> &net, const T *inputs, double *outputs, T *input_gradient,
                            T *nodes) {
  T *at = nodes;
  const T *in = inputs;
  for (int l = 0; l < net.n_layers; l++) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out) * MEMBERS, n = layer.n_out;
    int o = 0;
    for (; o + 8 <= n; o += 8)
      member_columns<T, 8>(in, layer.n_in, layer.weight + o * MEMBERS, n, layer.bias + o * MEMBERS,
                           at + o * MEMBERS);
    for (; o < n; o++)
      member_columns<T, 1>(in, layer.n_in, layer.weight + o * MEMBERS, n, layer.bias + o * MEMBERS,
                           at + o * MEMBERS);
    activate(layer.activation, at, at + size, n * MEMBERS);
    in = at;
    at += 2 * size;
  }
  for (int m = 0; m < MEMBERS; m++) outputs[m] = static_cast<double>(in[m]);
  T *delta = at, *next = at + net.width * MEMBERS;
  for (int m = 0; m < MEMBERS; m++) delta[m] = T(1);
  for (int l = net.n_layers - 1; l >= 0; l--) {
    const Layer<T> &layer = net.layers[l];
    const int size = padded_nodes(layer.n_out) * MEMBERS;
    at -= 2 * size;
    for (int k = 0; k < layer.n_out * MEMBERS; k++) delta[k] *= at[size + k];
    member_rows(delta, layer.n_out, layer.weight, layer.n_in, l > 0 ? next : input_gradient);
    T *const free = delta;
    delta = next;
    next = free;
  }
}

// Of each function of a group and each triplet of a block: coefficients of x_j in edge j, of x_k in edge k,
// and of x_j in edge k, which is that of x_k in edge j with the other sign.
template <typename T>
struct FunctionBlock {
  T own_j[AT_ONCE * BLOCK * WIDTH<T>], own_k[AT_ONCE * BLOCK * WIDTH<T>], cross[AT_ONCE * BLOCK * WIDTH<T>];
};

template <typename T>
static void function_forces(const AngularGroup<T> &group, const Kept<T> &kept, const AngularBlock<T> &angular,
                            const int *part_of, int block, int first, int n, FunctionBlock<T> &forces) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>, LENGTH = BLOCK * W;
  for (int v = 0; v < LENGTH; v += W) {
    const int at = block + v;
    const V cosine = load(kept.cosine + at), inverse = load(kept.inverse + at);
    V third = {};
    if (group.narrow) third = load(kept.slope + at);
    const V slope_j = third + load(kept.ends + at), slope_k = third + load(kept.ends + kept.padded + at);
    const V angle_j = cosine * load(kept.ends + 2 * kept.padded + at);
    const V angle_k = cosine * load(kept.ends + 3 * kept.padded + at);
    for (int f = first; f < first + n; f++) {
      const int p = part_of[f];
      const V product = load(kept.products + p * kept.padded + at);
      const V value = product * load(angular.value + group.angular[f] * LENGTH + v);
      const V derivative = product * load(angular.derivative + group.angular[f] * LENGTH + v);
      const T eta2 = T(-2) * group.eta[p];
      const T both = group.narrow ? T(2) * eta2 : eta2;
      V cross = -derivative * inverse;
      V own_j = value * (slope_j + both), own_k = value * (slope_k + both);
      if (group.narrow) cross += value * (third + eta2);
      if (group.shifted) {
        const V shift = value * (T(2) * group.eta[p] * group.shift[p]);
        V side = {};
        if (group.narrow) side = shift * load(kept.shift + at);
        cross += side;
        own_j += side + shift * square_root(load(kept.ends + 2 * kept.padded + at));
        own_k += side + shift * square_root(load(kept.ends + 3 * kept.padded + at));
      }
      const int to = (f - first) * LENGTH + v;
      store(forces.cross + to, cross);
      store(forces.own_j + to, own_j - derivative * angle_j);
      store(forces.own_k + to, own_k - derivative * angle_k);
    }
  }
}

// Adds a block of triplets to the sums of their neighbours, for N functions.
template <typename T, int N>
static void add_member_triplets(const FunctionBlock<T> &forces, const T *coefficients, const T *partner,
                                const int32_t *row_slot, const int32_t *row_begin, int rows, int &row,
                                int begin, int end, Workspace<T> &ws) {
  constexpr int LENGTH = BLOCK * WIDTH<T>;
  Eight<T> c[N];
  for (int f = 0; f < N; f++) c[f] = load_eight(coefficients + f * MEMBERS);
  for (int at = begin; at < end;) {
    while (row + 1 < rows && row_begin[row + 1] <= at) row++;
    const int stop = row + 1 < rows && row_begin[row + 1] < end ? row_begin[row + 1] : end;
    const int j = row_slot[row];
    T *const sums_j = ws.member_sums + 4 * MEMBERS * j;
    const T xj = ws.x[j], yj = ws.y[j], zj = ws.z[j];
    Eight<T> own = load_eight(sums_j), x = load_eight(sums_j + MEMBERS), y = load_eight(sums_j + 2 * MEMBERS),
             z = load_eight(sums_j + 3 * MEMBERS);
    for (; at < stop; at++) {
      const int k = slot_of(partner + at), t = at - begin;
      Eight<T> own_j = c[0] * forces.own_j[t], own_k = c[0] * forces.own_k[t], cross = c[0] * forces.cross[t];
      for (int f = 1; f < N; f++) {
        own_j += c[f] * forces.own_j[f * LENGTH + t];
        own_k += c[f] * forces.own_k[f * LENGTH + t];
        cross += c[f] * forces.cross[f * LENGTH + t];
      }
      T *const sums_k = ws.member_sums + 4 * MEMBERS * k;
      store(sums_k, load_eight(sums_k) + own_k);
      store(sums_k + MEMBERS, load_eight(sums_k + MEMBERS) + cross * xj);
      store(sums_k + 2 * MEMBERS, load_eight(sums_k + 2 * MEMBERS) + cross * yj);
      store(sums_k + 3 * MEMBERS, load_eight(sums_k + 3 * MEMBERS) + cross * zj);
      own += own_j;
      x += cross * ws.x[k];
      y += cross * ws.y[k];
      z += cross * ws.z[k];
    }
    store(sums_j, own);
    store(sums_j + MEMBERS, x);
    store(sums_j + 2 * MEMBERS, y);
    store(sums_j + 3 * MEMBERS, z);
  }
}

template <typename T>
static void add_member_group(const AngularGroup<T> &group, Workspace<T> &ws, const Kept<T> &kept,
                             const T *partner, const int32_t *row_slot, const int32_t *row_begin, int rows,
                             int n) {
  constexpr int LENGTH = BLOCK * WIDTH<T>;
  AngularBlock<T> angular;
  FunctionBlock<T> forces;
  T coefficients[MAX_ANGULAR * MEMBERS];
  int part_of[MAX_ANGULAR];
  for (int p = 0; p < group.n_radial; p++)
    for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++) part_of[f] = p;
  for (int f = 0; f < group.n_functions; f++)
    store(coefficients + f * MEMBERS, load_eight(ws.coefficients + group.column[f] * MEMBERS));
  int row = 0;
  for (int block = 0; block < n; block += LENGTH) {
    angular.fill(group, kept.cosine + block);
    const int end = block + LENGTH < n ? block + LENGTH : n, row_before = row;
    for (int first = 0; first < group.n_functions; first += AT_ONCE) {
      const int some = group.n_functions - first < AT_ONCE ? group.n_functions - first : AT_ONCE;
      function_forces(group, kept, angular, part_of, block, first, some, forces);
      row = row_before;
      const T *const c = coefficients + first * MEMBERS;
      switch (some) {
#define NNPKIT_CASE(N)                                                                             \
  case N:                                                                                          \
    add_member_triplets<T, N>(forces, c, partner, row_slot, row_begin, rows, row, block, end, ws); \
    break;
        NNPKIT_CASE(1)
        NNPKIT_CASE(2)
        NNPKIT_CASE(3)
        NNPKIT_CASE(4)
        NNPKIT_CASE(5)
        NNPKIT_CASE(6)
        NNPKIT_CASE(7)
        NNPKIT_CASE(8)
#undef NNPKIT_CASE
      }
    }
  }
}

// Adds (dE/dr) / r of the radial functions to the sums of one vector of slots.
template <typename T>
static void add_member_radial(const acsf::RadialFunctions<T> &functions, Workspace<T> &ws, int begin) {
  typedef Vector<T> V;
  constexpr int W = WIDTH<T>, SOME = 16;
  T slopes[SOME * W];
  const V inverse = load(ws.inverse + begin);
  for (int first = 0; first < functions.n; first += SOME) {
    const int n = functions.n - first < SOME ? functions.n - first : SOME;
    for (int f = 0; f < n; f++) {
      const T eta2 = T(-2) * functions.eta[first + f], shift = functions.shift[first + f];
      const V slope = load(ws.slope + functions.cutoff[first + f] * ws.n_slots + begin) + eta2;
      store(slopes + f * W,
            (slope - eta2 * shift * inverse) * load(ws.radial + (first + f) * ws.n_slots + begin));
    }
    for (int lane = 0; lane < W; lane++) {
      T *const sums = ws.member_sums + 4 * MEMBERS * (begin + lane);
      Eight<T> along = load_eight(sums);
      for (int f = 0; f < n; f++)
        along += load_eight(ws.coefficients + functions.column[first + f] * MEMBERS) * slopes[f * W + lane];
      store(sums, along);
    }
  }
}

template <typename T>
static void differentiate_members(const Center<T> &center, Workspace<T> &ws, double *gradient, int n_rows,
                                  int first_row, int n_members) {
  clear(ws.member_sums, 4 * MEMBERS * static_cast<int64_t>(ws.n_slots));
  T *begin = ws.kept;
  const T *partner = ws.partner;
  const int32_t *row_slot = ws.row_slot, *row_begin = ws.row_begin;
  for (int g = 0; g < center.n_groups; g++) {
    const AngularGroup<T> &group = center.groups[g];
    const int n = ws.group_triplets[g], rows = ws.group_rows[g];
    if (n == 0) continue;
    const Kept<T> kept = kept_of(group, begin, n, true);
    add_member_group(group, ws, kept, partner, row_slot, row_begin, rows, n);
    begin = kept.end;
    partner += n;
    row_slot += rows;
    row_begin += rows;
  }
  for (int type = 0; type < center.n_types; type++) {
    const int end = ws.begin[type] + ws.count[type];
    for (int begin = ws.begin[type]; begin < end; begin += WIDTH<T>) {
      add_member_radial(center.radial[type], ws, begin);
      for (int at = begin; at < begin + WIDTH<T> && at < end; at++) {
        const T *const sums = ws.member_sums + 4 * MEMBERS * at;
        const Eight<T> along = load_eight(sums);
        const T x[3] = {ws.x[at], ws.y[at], ws.z[at]};
        double *const out = gradient + 3 * ws.edges[at] * n_rows + first_row;
        for (int k = 0; k < 3; k++) {
          T g[MEMBERS];
          store(g, along * x[k] - load_eight(sums + (k + 1) * MEMBERS));
          if (n_members == MEMBERS)
            for (int m = 0; m < MEMBERS; m++) out[k * n_rows + m] = static_cast<double>(g[m]);
          else
            for (int m = 0; m < n_members; m++) out[k * n_rows + m] = static_cast<double>(g[m]);
        }
      }
    }
  }
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit

#endif
