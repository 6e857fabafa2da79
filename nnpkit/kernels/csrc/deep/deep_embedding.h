// Rows of the environment matrix, tables, and the sums over neighbours; included by deep_isa.cpp.

// Outputs of the embedding network that one pass over the neighbours accumulates, in vectors.
constexpr int CHUNK = VECTOR_BYTES == 64 ? 4 : 2;

template <typename Real>
void environment(const Environment &e, const Rows<Real> &rows) {
  constexpr int BATCH = 64;
  double r[BATCH], fc[BATCH], dfc[BATCH];
  const double *const x = rows.vec[0], *const y = rows.vec[1], *const z = rows.vec[2];
  const double inverse_width = 1.0 / (e.cutoff - e.inner);
  for (int64_t start = 0; start < rows.n; start += BATCH) {
    const int64_t padded = (rows.n - start + ROW_PADDING - 1) / ROW_PADDING * ROW_PADDING;
    const int n = static_cast<int>(padded < BATCH ? padded : BATCH);
    for (int i = 0; i < n; i++) {
      const int64_t k = start + i;
      r[i] = __builtin_sqrt(x[k] * x[k] + y[k] * y[k] + z[k] * z[k]);
    }
    if (e.kind == CutoffKind::POLY2) {
      for (int i = 0; i < n; i++) {
        double u = (r[i] - e.inner) * inverse_width;
        u = u < 0.0 ? 0.0 : u;
        u = u > 1.0 ? 1.0 : u;
        const double v = 1.0 - u;
        fc[i] = ((15.0 - 6.0 * u) * u - 10.0) * u * u * u + 1.0;
        dfc[i] = -30.0 * u * u * v * v * inverse_width;
      }
    } else {
      cutoff_values(e, n, r, fc, dfc);
    }
    for (int i = 0; i < n; i++) {
      const int64_t k = start + i;
      const double inverse = 1.0 / r[i];
      const double s = fc[i] * inverse;
      const double ds = (dfc[i] - s) * inverse;              // ds/dr
      const double w = s * inverse * e.inverse_std_angular;  // R_k = w vec_k
      const double dw = (ds * e.inverse_std_angular - w) * inverse;
      const double argument = (s - e.mean) * e.inverse_std;
      rows.argument[k] = argument;
      rows.row[0][k] = static_cast<Real>(argument);
      rows.row[1][k] = static_cast<Real>(w * x[k]);
      rows.row[2][k] = static_cast<Real>(w * y[k]);
      rows.row[3][k] = static_cast<Real>(w * z[k]);
      rows.p[k] = static_cast<Real>(ds * e.inverse_std * inverse);
      rows.q[k] = static_cast<Real>(dw * inverse);
      rows.w[k] = static_cast<Real>(w);
    }
  }
}

template <typename Real>
int64_t locate(const Table<Real> &table, const Rows<Real> &rows) {
  const double end = static_cast<double>(table.n_intervals);
  int64_t outside = 0;
  for (int64_t k = 0; k < rows.n; k++) {
    const double place = (rows.argument[k] - table.start) * table.inverse_spacing;
    const bool inside = place >= 0.0 && place < end;  // false for NaN
    const int32_t interval = static_cast<int32_t>(inside ? place : 0.0);
    rows.interval[k] = inside ? interval : -1;
    rows.t[k] = static_cast<Real>(inside ? place - interval : 0.0);
    outside += inside ? 0 : 1;
  }
  return outside;
}

template <typename Real>
struct FourLanes;
template <>
struct FourLanes<double> {
  typedef double Vector __attribute__((vector_size(32)));
  typedef int64_t Indices __attribute__((vector_size(32)));
};
template <>
struct FourLanes<float> {
  typedef float Vector __attribute__((vector_size(16)));
  typedef int32_t Indices __attribute__((vector_size(16)));
};

// Sums over the lanes of four vectors.
template <typename Real>
NNPKIT_INLINE void sum_each(const Vector<Real> (&v)[4], Real *sums) {
  constexpr int N = WIDTH<Real>;
  if constexpr (N < 4) {
    for (int k = 0; k < 4; k++) sums[k] = v[k][0] + v[k][1];
  } else {
    typedef typename FourLanes<Real>::Vector Four;
    typedef typename FourLanes<Real>::Indices Indices;
    Four part[4];
    for (int k = 0; k < 4; k++) {
      Four pieces[N / 4];
      std::memcpy(pieces, &v[k], sizeof(pieces));
      part[k] = pieces[0];
      if constexpr (N == 8) part[k] = pieces[0] + pieces[1];
      if constexpr (N == 16) part[k] = (pieces[0] + pieces[1]) + (pieces[2] + pieces[3]);
    }
    // (a0+a1, b0+b1, a2+a3, b2+b3) and the same of c, d
    const Indices even = {0, 4, 2, 6}, odd = {1, 5, 3, 7};
    const Four ab = __builtin_shuffle(part[0], part[1], even) + __builtin_shuffle(part[0], part[1], odd);
    const Four cd = __builtin_shuffle(part[2], part[3], even) + __builtin_shuffle(part[2], part[3], odd);
    const Indices low = {0, 1, 4, 5}, high = {2, 3, 6, 7};
    const Four total = __builtin_shuffle(ab, cd, low) + __builtin_shuffle(ab, cd, high);
    std::memcpy(sums, &total, sizeof(total));
  }
}

// sums[k][0 .. N vectors) += sum over rows of R_k G
template <typename Real, int N>
NNPKIT_INLINE void embed_chunk(const Real *node, int width, const Rows<Real> &rows, int64_t first,
                               int64_t last, Real *sums) {
  typedef Vector<Real> V;
  constexpr int L = WIDTH<Real>;
  V sum[4][N];
  for (int k = 0; k < 4; k++)
    for (int v = 0; v < N; v++) sum[k][v] = load(sums + k * width + v * L);
  for (int64_t e = first; e < last; e++) {
    if (rows.interval[e] < 0) continue;
    const Real *const c = node + static_cast<int64_t>(rows.interval[e]) * (6 * width);
    const Real t = rows.t[e], r0 = rows.row[0][e], r1 = rows.row[1][e], r2 = rows.row[2][e],
               r3 = rows.row[3][e];
    for (int v = 0; v < N; v++) {
      V g = load(c + 5 * width + v * L);
      g = g * t + load(c + 4 * width + v * L);
      g = g * t + load(c + 3 * width + v * L);
      g = g * t + load(c + 2 * width + v * L);
      g = g * t + load(c + width + v * L);
      g = g * t + load(c + v * L);
      sum[0][v] += g * r0;
      sum[1][v] += g * r1;
      sum[2][v] += g * r2;
      sum[3][v] += g * r3;
    }
  }
  for (int k = 0; k < 4; k++)
    for (int v = 0; v < N; v++) store(sums + k * width + v * L, sum[k][v]);
}

template <typename Real, int N>
void embed_atoms(const Table<Real> &table, const Rows<Real> &rows, const int64_t *first, int n_atoms, int at,
                 Real *sums) {
  for (int a = 0; a < n_atoms; a++)
    embed_chunk<Real, N>(table.node + at, table.width, rows, first[a], first[a + 1],
                         sums + static_cast<int64_t>(a) * 4 * table.width + at);
}

template <typename Real>
void embed(const Table<Real> &table, const Rows<Real> &rows, const int64_t *first, int n_atoms, Real *sums) {
  constexpr int L = WIDTH<Real>;
  const int vectors = table.width / L;
  int done = 0;
  // a part of the outputs for all atoms before the next one: its part of the table stays in the cache
  for (; done + CHUNK <= vectors; done += CHUNK)
    embed_atoms<Real, CHUNK>(table, rows, first, n_atoms, done * L, sums);
  if constexpr (CHUNK == 4)
    if (vectors - done == 3) return embed_atoms<Real, 3>(table, rows, first, n_atoms, done * L, sums);
  if constexpr (CHUNK == 4)
    if (vectors - done == 2) return embed_atoms<Real, 2>(table, rows, first, n_atoms, done * L, sums);
  if (vectors - done == 1) embed_atoms<Real, 1>(table, rows, first, n_atoms, done * L, sums);
}

template <typename Real>
void embed_gradient(const Table<Real> &table, const Rows<Real> &rows, const int64_t *first, int n_atoms,
                    const Real *sums_gradient, Real *gradient, bool add) {
  typedef Vector<Real> V;
  constexpr int L = WIDTH<Real>;
  const int width = table.width;
  const Real inverse_spacing = static_cast<Real>(table.inverse_spacing);
  for (int a = 0; a < n_atoms; a++) {
    const Real *const dt = sums_gradient + static_cast<int64_t>(a) * 4 * width;
    for (int64_t e = first[a]; e < first[a + 1]; e++) {
      Real *const to = gradient + 4 * e;
      if (rows.interval[e] < 0) {
        if (!add) to[0] = to[1] = to[2] = to[3] = Real(0);
        continue;
      }
      const Real *const c = table.node + static_cast<int64_t>(rows.interval[e]) * (6 * width);
      const Real t = rows.t[e], r0 = rows.row[0][e], r1 = rows.row[1][e], r2 = rows.row[2][e],
                 r3 = rows.row[3][e];
      V sum[4] = {}, slope = {};
      for (int m = 0; m < width; m += L) {
        const V t0 = load(dt + m), t1 = load(dt + width + m), t2 = load(dt + 2 * width + m),
                t3 = load(dt + 3 * width + m);
        V d = load(c + 5 * width + m);
        V g = d * t + load(c + 4 * width + m);
        d = d * t + g;
        g = g * t + load(c + 3 * width + m);
        d = d * t + g;
        g = g * t + load(c + 2 * width + m);
        d = d * t + g;
        g = g * t + load(c + width + m);
        d = d * t + g;
        g = g * t + load(c + m);
        sum[0] += g * t0;
        sum[1] += g * t1;
        sum[2] += g * t2;
        sum[3] += g * t3;
        slope += d * (t0 * r0 + t1 * r1 + t2 * r2 + t3 * r3);
      }
      sum[0] += slope * inverse_spacing;
      Real total[4];
      sum_each<Real>(sum, total);
      for (int k = 0; k < 4; k++) to[k] = add ? to[k] + total[k] : total[k];
    }
  }
}

template <typename Real>
void edge_gradient(const Rows<Real> &rows, const Real *gradient, double *result) {
  for (int64_t e = 0; e < rows.n; e++) {
    const double x = rows.vec[0][e], y = rows.vec[1][e], z = rows.vec[2][e];
    const double g0 = gradient[4 * e], gx = gradient[4 * e + 1], gy = gradient[4 * e + 2],
                 gz = gradient[4 * e + 3];
    const double w = rows.w[e];
    const double along = rows.p[e] * g0 + rows.q[e] * (x * gx + y * gy + z * gz);
    result[3 * e] = x * along + w * gx;
    result[3 * e + 1] = y * along + w * gy;
    result[3 * e + 2] = z * along + w * gz;
  }
}
