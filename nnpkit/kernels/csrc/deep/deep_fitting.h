// Fitting networks: atoms are the lanes, so that weights are broadcast and nothing is transposed but the
// sums. Included by deep_isa.cpp.

constexpr int GROUP = VECTOR_BYTES == 64 ? 8 : 4;         // outputs
constexpr int TILE_VECTORS = VECTOR_BYTES == 16 ? 2 : 3;  // vectors of atoms: GROUP * 3 sums in registers

// y (n_groups * GROUP, N vectors) = or += packed weights (n_groups, n_in, GROUP) times x (n_in, N vectors)
template <typename Real, int N>
void multiply(const Real *weight, int n_groups, int n_in, const Real *x, Real *y, bool add) {
  typedef Vector<Real> V;
  constexpr int L = WIDTH<Real>;
  for (int group = 0; group < n_groups; group++, y += GROUP * N * L) {
    V sum[GROUP][N];
#pragma GCC unroll 8
    for (int h = 0; h < GROUP; h++)
#pragma GCC unroll 3
      for (int v = 0; v < N; v++) sum[h][v] = add ? load(y + (h * N + v) * L) : V{};
    const Real *xk = x;
    for (int k = 0; k < n_in; k++, xk += N * L, weight += GROUP) {
      V value[N];
#pragma GCC unroll 3
      for (int v = 0; v < N; v++) value[v] = load(xk + v * L);
#pragma GCC unroll 8
      for (int h = 0; h < GROUP; h++)
#pragma GCC unroll 3
        for (int v = 0; v < N; v++) sum[h][v] += value[v] * weight[h];
    }
#pragma GCC unroll 8
    for (int h = 0; h < GROUP; h++)
#pragma GCC unroll 3
      for (int v = 0; v < N; v++) store(y + (h * N + v) * L, sum[h][v]);
  }
}

NNPKIT_INLINE int padded_to(int n, int multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Memory of a tile, handed out piece by piece.
template <typename Real>
struct Workspace {
  Real *next;
  Real *take(int64_t n) {
    Real *const piece = next;
    next += n;
    return piece;
  }
};

// What a tile of N vectors of atoms needs between forward and backward.
template <typename Real>
struct Tile {
  int n_atoms, vectors;
  Real *sums, *sums_gradient;  // (width * 4, atoms): T and dE/dT
  Real *features;              // (n_features, atoms), only where the first layer has a shortcut
  Real **value, **slope;       // of each layer (n_out, atoms): y, then dE/dy; timestep * f'
};

template <typename Real>
bool keeps_features(const Fitting<Real> &net) {
  return net.n_layers > 0 && net.layers[0].copies > 0;
}

// Rows first .. last - 1 of T make a panel of features (rows * axis, atoms).
template <typename Real, int N>
void expand(const Fitting<Real> &net, const Real *sums, int first, int last, Real *panel) {
  typedef Vector<Real> V;
  constexpr int L = WIDTH<Real>, A = N * L;
  for (int m = first; m < last; m++)
    for (int v = 0; v < N; v++) {
      const Real *const t = sums + m * 4 * A + v * L;
      const V t0 = load(t), t1 = load(t + A), t2 = load(t + 2 * A), t3 = load(t + 3 * A);
      for (int a = 0; a < net.axis; a++) {
        const Real *const u = sums + a * 4 * A + v * L;
        V d = t0 * load(u) + t1 * load(u + A) + t2 * load(u + 2 * A) + t3 * load(u + 3 * A);
        const int feature = m * net.axis + a;
        if (net.factor) d = d * net.factor[feature] + net.offset[feature];
        store(panel + ((m - first) * net.axis + a) * A + v * L, d);
      }
    }
}

// dE/dT from dE/d(panel of features)
template <typename Real, int N>
void contract(const Fitting<Real> &net, const Real *panel, const Real *sums, int first, int last,
              Real *gradient) {
  typedef Vector<Real> V;
  constexpr int L = WIDTH<Real>, A = N * L;
  for (int m = first; m < last; m++)
    for (int v = 0; v < N; v++) {
      const Real *const t = sums + m * 4 * A + v * L;
      const V t0 = load(t), t1 = load(t + A), t2 = load(t + 2 * A), t3 = load(t + 3 * A);
      V g0 = {}, g1 = {}, g2 = {}, g3 = {};
      for (int a = 0; a < net.axis; a++) {
        V d = load(panel + ((m - first) * net.axis + a) * A + v * L);
        if (net.factor) d = d * net.factor[m * net.axis + a];
        const Real *const u = sums + a * 4 * A + v * L;
        Real *const to = gradient + a * 4 * A + v * L;
        g0 += d * load(u);
        g1 += d * load(u + A);
        g2 += d * load(u + 2 * A);
        g3 += d * load(u + 3 * A);
        store(to, load(to) + d * t0);
        store(to + A, load(to + A) + d * t1);
        store(to + 2 * A, load(to + 2 * A) + d * t2);
        store(to + 3 * A, load(to + 3 * A) + d * t3);
      }
      Real *const to = gradient + m * 4 * A + v * L;
      store(to, load(to) + g0);
      store(to + A, load(to + A) + g1);
      store(to + 2 * A, load(to + 2 * A) + g2);
      store(to + 3 * A, load(to + 3 * A) + g3);
    }
}

template <typename Real>
void count(const Fitting<Real> &net, const FeatureRange<Real> &range, int n_atoms, const Real *sums,
           int64_t *per_atom, int64_t *per_feature) {
  typedef Vector<Real> V;
  constexpr int L = WIDTH<Real>;
  const int width = net.padded_width;
  const Real scale = net.normalisation * net.normalisation;
  for (int i = 0; i < n_atoms; i++) {
    const Real *const t = sums + static_cast<int64_t>(i) * 4 * width;
    for (int a = 0; a < net.axis; a++) {
      const Real u0 = scale * t[a], u1 = scale * t[width + a], u2 = scale * t[2 * width + a],
                 u3 = scale * t[3 * width + a];
      for (int m = 0; m < width; m += L) {
        const V d = load(t + m) * u0 + load(t + width + m) * u1 + load(t + 2 * width + m) * u2 +
                    load(t + 3 * width + m) * u3;
        const unsigned outside = less_bits(d, load(range.minimum + a * width + m)) |
                                 less_bits(load(range.maximum + a * width + m), d);
        if (!outside) continue;
        for (int k = 0; k < L; k++)
          if (outside >> k & 1u) per_atom[i]++, per_feature[(m + k) * net.axis + a]++;
      }
    }
  }
}

// T of the atoms of a tile as (width * 4, atoms) and back
template <typename Real>
void atoms_to_lanes(const Fitting<Real> &net, const Real *sums, int n_atoms, int atoms, Real *tile) {
  for (int m = 0; m < net.width; m++)
    for (int k = 0; k < 4; k++) {
      Real *const row = tile + (m * 4 + k) * atoms;
      const Real *const from = sums + k * net.padded_width + m;
      for (int a = 0; a < n_atoms; a++)
        row[a] = from[static_cast<int64_t>(a) * 4 * net.padded_width] * net.normalisation;
      for (int a = n_atoms; a < atoms; a++) row[a] = Real(0);
    }
}

template <typename Real>
void lanes_to_atoms(const Fitting<Real> &net, const Real *tile, int n_atoms, int atoms, Real *sums) {
  for (int a = 0; a < n_atoms; a++)
    for (int k = 0; k < 4; k++) {
      Real *const to = sums + (static_cast<int64_t>(a) * 4 + k) * net.padded_width;
      for (int m = 0; m < net.width; m++) to[m] = tile[(m * 4 + k) * atoms + a] * net.normalisation;
      for (int m = net.width; m < net.padded_width; m++) to[m] = Real(0);
    }
}

// z = W x (in `value`) to y = timestep f(z + bias) + shortcut, and timestep f'
template <typename Real>
void finish_layer(const Layer<Real> &layer, const Real *x, int atoms, Real *value, Real *slope) {
  typedef Vector<Real> V;
  constexpr int L = WIDTH<Real>;
  for (int h = 0; h < layer.n_out; h++) {
    Real *const y = value + h * atoms, *const s = slope + h * atoms;
    const Real bias = layer.bias[h];
    if (layer.activation == Activation::TANH) {
      for (int a = 0; a < atoms; a += L) {
        const V f = hyperbolic_tangent<Real>(load(y + a) + bias);
        store(y + a, f);
        store(s + a, Real(1) - f * f);
      }
    } else {
      for (int a = 0; a < atoms; a++) y[a] += bias;
      activate(layer.activation, atoms, y, y, s);
    }
    if (layer.timestep) {
      const Real dt = layer.timestep[h];
      for (int a = 0; a < atoms; a++) y[a] *= dt, s[a] *= dt;
    }
    if (layer.copies) {
      const Real *const shortcut = x + (h % layer.n_in) * atoms;
      for (int a = 0; a < atoms; a++) y[a] += shortcut[a];
    }
  }
}

template <typename Real>
void multiply_tile(const Real *weight, int n_out, int n_in, const Real *x, Real *y, bool add, int vectors) {
  const int groups = padded_to(n_out, GROUP) / GROUP;
  if (vectors == 1) return multiply<Real, 1>(weight, groups, n_in, x, y, add);
  if (vectors == 2) return multiply<Real, 2>(weight, groups, n_in, x, y, add);
  if constexpr (TILE_VECTORS > 2) multiply<Real, 3>(weight, groups, n_in, x, y, add);
}

template <typename Real>
void expand_tile(const Fitting<Real> &net, const Tile<Real> &tile, int first, int last, Real *panel) {
  if (tile.vectors == 1) return expand<Real, 1>(net, tile.sums, first, last, panel);
  if (tile.vectors == 2) return expand<Real, 2>(net, tile.sums, first, last, panel);
  if constexpr (TILE_VECTORS > 2) expand<Real, 3>(net, tile.sums, first, last, panel);
}

template <typename Real>
void contract_tile(const Fitting<Real> &net, const Tile<Real> &tile, int first, int last, const Real *panel) {
  if (tile.vectors == 1) return contract<Real, 1>(net, panel, tile.sums, first, last, tile.sums_gradient);
  if (tile.vectors == 2) return contract<Real, 2>(net, panel, tile.sums, first, last, tile.sums_gradient);
  if constexpr (TILE_VECTORS > 2) contract<Real, 3>(net, panel, tile.sums, first, last, tile.sums_gradient);
}

// One panel of weights serves all tiles before the next one is touched. A network without hidden layers has
// its linear node as "layer": see deep_network.cpp.
template <typename Real>
void first_layer(const Fitting<Real> &net, const Tile<Real> *tiles, int n_tiles, Real *panel) {
  const Layer<Real> &layer = net.layers[0];
  const Real *weight = layer.forward;
  for (int first = 0; first < net.width; first += net.panel_rows) {
    const int last = first + net.panel_rows < net.width ? first + net.panel_rows : net.width;
    const int n_in = (last - first) * net.axis;
    for (int i = 0; i < n_tiles; i++) {
      const int atoms = tiles[i].vectors * WIDTH<Real>;
      Real *const to = keeps_features(net) ? tiles[i].features + first * net.axis * atoms : panel;
      expand_tile(net, tiles[i], first, last, to);
      multiply_tile(weight, layer.n_out, n_in, to, tiles[i].value[0], first > 0, tiles[i].vectors);
    }
    weight += static_cast<int64_t>(padded_to(layer.n_out, GROUP)) * n_in;
  }
}

template <typename Real>
void first_layer_backward(const Fitting<Real> &net, const Tile<Real> *tiles, int n_tiles, Real *panel) {
  const Layer<Real> &layer = net.layers[0];
  const Real *weight = layer.backward;
  for (int first = 0; first < net.width; first += net.panel_rows) {
    const int last = first + net.panel_rows < net.width ? first + net.panel_rows : net.width;
    const int n_in = (last - first) * net.axis;
    for (int i = 0; i < n_tiles; i++) {
      const int atoms = tiles[i].vectors * WIDTH<Real>;
      multiply_tile(weight, n_in, layer.n_out, tiles[i].slope[0], panel, false, tiles[i].vectors);
      for (int c = 0; c < layer.copies; c++) {
        const Real *const direct = tiles[i].value[0] + (c * layer.n_in + first * net.axis) * atoms;
        for (int k = 0; k < n_in * atoms; k++) panel[k] += direct[k];
      }
      contract_tile(net, tiles[i], first, last, panel);
    }
    weight += static_cast<int64_t>(padded_to(n_in, GROUP)) * layer.n_out;
  }
}

// All layers but the first: outputs, then dE/dy of the first layer in value[0] and dE/dz in slope[0].
template <typename Real>
void other_layers(const Fitting<Real> &net, const Tile<Real> &tile, double *output) {
  const int atoms = tile.vectors * WIDTH<Real>, end = net.n_layers - 1;
  finish_layer(net.layers[0], tile.features, atoms, tile.value[0], tile.slope[0]);
  for (int l = 1; l <= end; l++) {
    const Layer<Real> &layer = net.layers[l];
    multiply_tile(layer.forward, layer.n_out, layer.n_in, tile.value[l - 1], tile.value[l], false,
                  tile.vectors);
    finish_layer(layer, tile.value[l - 1], atoms, tile.value[l], tile.slope[l]);
  }
  double energy[TILE_VECTORS * WIDTH<Real>];
  for (int a = 0; a < atoms; a++) energy[a] = net.output_bias;
  for (int h = 0; h < net.layers[end].n_out; h++) {
    Real *const y = tile.value[end] + h * atoms;
    const double weight = net.output[h];
    for (int a = 0; a < atoms; a++) energy[a] += weight * y[a];
    for (int a = 0; a < atoms; a++) y[a] = net.output[h];
  }
  for (int a = 0; a < tile.n_atoms; a++) output[a] = energy[a];
  for (int l = end; l >= 0; l--) {
    const Layer<Real> &layer = net.layers[l];
    Real *const dy = tile.value[l], *const dz = tile.slope[l];
    for (int k = 0; k < layer.n_out * atoms; k++) dz[k] *= dy[k];
    if (l == 0) break;
    Real *const dx = tile.value[l - 1];
    multiply_tile(layer.backward, layer.n_in, layer.n_out, dz, dx, false, tile.vectors);
    for (int c = 0; c < layer.copies; c++)
      for (int k = 0; k < layer.n_in * atoms; k++) dx[k] += dy[c * layer.n_in * atoms + k];
  }
}

constexpr int MAX_LAYERS = 32;

// Numbers that a tile of full width needs.
template <typename Real>
int64_t tile_size(const Fitting<Real> &net) {
  int64_t rows = 2 * 4 * net.width + (keeps_features(net) ? net.layers[0].n_in : 0);
  for (int l = 0; l < net.n_layers; l++) rows += 2 * padded_to(net.layers[l].n_out, GROUP);
  return rows * TILE_VECTORS * WIDTH<Real>;
}

template <typename Real>
int64_t fit_workspace(const Fitting<Real> &net) {
  const int tile = TILE_VECTORS * WIDTH<Real>;
  const int64_t panel = static_cast<int64_t>(padded_to(net.panel_rows * net.axis, GROUP)) * tile;
  return panel + tile_size(net) * (MAX_ATOMS / tile);
}

template <typename Real>
void fit(const Fitting<Real> &net, int n_atoms, Real *sums, double *output, Real *workspace) {
  constexpr int L = WIDTH<Real>, FULL = TILE_VECTORS * L, N_TILES = MAX_ATOMS / FULL;
  static_assert(MAX_ATOMS % FULL == 0, "tiles fill a block");
  Tile<Real> tiles[N_TILES];
  Real *value[N_TILES][MAX_LAYERS], *slope[N_TILES][MAX_LAYERS];
  Workspace<Real> memory{workspace};
  Real *const panel = memory.take(static_cast<int64_t>(padded_to(net.panel_rows * net.axis, GROUP)) * FULL);
  int n_tiles = 0;
  for (int first = 0; first < n_atoms; first += FULL, n_tiles++) {
    Tile<Real> &tile = tiles[n_tiles];
    tile.n_atoms = n_atoms - first < FULL ? n_atoms - first : FULL;
    tile.vectors = (tile.n_atoms + L - 1) / L;
    const int atoms = tile.vectors * L;
    tile.sums = memory.take(4 * net.width * atoms);
    tile.sums_gradient = memory.take(4 * net.width * atoms);
    tile.features = keeps_features(net) ? memory.take(net.layers[0].n_in * atoms) : nullptr;
    tile.value = value[n_tiles];
    tile.slope = slope[n_tiles];
    for (int l = 0; l < net.n_layers; l++) {
      tile.value[l] = memory.take(padded_to(net.layers[l].n_out, GROUP) * atoms);
      tile.slope[l] = memory.take(padded_to(net.layers[l].n_out, GROUP) * atoms);
    }
    atoms_to_lanes(net, sums + static_cast<int64_t>(first) * 4 * net.padded_width, tile.n_atoms, atoms,
                   tile.sums);
    std::memset(tile.sums_gradient, 0, sizeof(Real) * 4 * net.width * atoms);
  }
  first_layer(net, tiles, n_tiles, panel);
  for (int i = 0; i < n_tiles; i++) other_layers(net, tiles[i], output + i * FULL);
  first_layer_backward(net, tiles, n_tiles, panel);
  for (int i = 0; i < n_tiles; i++)
    lanes_to_atoms(net, tiles[i].sums_gradient, tiles[i].n_atoms, tiles[i].vectors * L,
                   sums + static_cast<int64_t>(i) * FULL * 4 * net.padded_width);
}
