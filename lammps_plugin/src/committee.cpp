#include "committee.h"

#include <algorithm>
#include <cmath>

// The loops over members are worth the vectors of the processor that runs them.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define NNPKIT_VECTORS __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define NNPKIT_VECTORS
#endif

namespace nnpkit {

namespace {

// Components (a, b) of the nine products.
constexpr int FIRST[9] = {0, 1, 2, 0, 0, 1, 1, 2, 2};
constexpr int SECOND[9] = {0, 1, 2, 1, 2, 2, 0, 0, 1};
constexpr int EIGHT = 8;  // members: the usual number, and one vector

NNPKIT_VECTORS
void add_rows(int64_t n_edges, const int *neighbor, const double *g, int width, double *center,
              double *forces) {
  for (int64_t e = 0; e < n_edges; e++, g += width) {
    double *const other = forces + static_cast<size_t>(neighbor[e]) * width;
    for (int k = 0; k < width; k++) {
      center[k] += g[k];
      other[k] -= g[k];
    }
  }
}

// One number of each of eight members, in the compiler's own terms: what it makes of loops over eight numbers
// is several times slower.
typedef double Eight __attribute__((vector_size(EIGHT * sizeof(double)), aligned(sizeof(double)), may_alias));

NNPKIT_VECTORS
void add_rows_of_eight(int64_t n_edges, const int *neighbor, const double *g, double *center,
                       double *forces) {
  const Eight *from = reinterpret_cast<const Eight *>(g);
  Eight x = {}, y = {}, z = {};
  for (int64_t e = 0; e < n_edges; e++, from += 3) {
    Eight *const other = reinterpret_cast<Eight *>(forces) + 3 * static_cast<size_t>(neighbor[e]);
    x += from[0];
    y += from[1];
    z += from[2];
    other[0] -= from[0];
    other[1] -= from[1];
    other[2] -= from[2];
  }
  Eight *const own = reinterpret_cast<Eight *>(center);
  own[0] += x;
  own[1] += y;
  own[2] += z;
}

NNPKIT_VECTORS
void outer_products_of_eight(int64_t n_edges, const double *r, const double *g, double *w) {
  const Eight *from = reinterpret_cast<const Eight *>(g);
  Eight xx = {}, yy = {}, zz = {}, xy = {}, xz = {}, yz = {}, yx = {}, zx = {}, zy = {};
  for (int64_t e = 0; e < n_edges; e++, r += 3, from += 3) {
    const Eight gx = from[0], gy = from[1], gz = from[2];
    xx += r[0] * gx;
    yy += r[1] * gy;
    zz += r[2] * gz;
    xy += r[0] * gy;
    xz += r[0] * gz;
    yz += r[1] * gz;
    yx += r[1] * gx;
    zx += r[2] * gx;
    zy += r[2] * gy;
  }
  const Eight sums[9] = {xx, yy, zz, xy, xz, yz, yx, zx, zy};
  for (int k = 0; k < 9; k++) {
    w[k] = 0.0;
    for (int m = 0; m < EIGHT; m++) w[k] += sums[k][m] / EIGHT;
  }
}

}  // namespace

void sum_outer_products(int64_t n_edges, const double *r, const double *gradient, int n_rows, double *w) {
  if (n_rows == EIGHT) return outer_products_of_eight(n_edges, r, gradient, w);
  std::fill(w, w + 9, 0.0);
  for (int64_t e = 0; e < n_edges; e++, r += 3) {
    double g[3];
    for (double &component : g) {
      double sum = 0.0;
      for (int row = 0; row < n_rows; row++) sum += *gradient++;
      component = sum / n_rows;
    }
    for (int k = 0; k < 9; k++) w[k] += r[FIRST[k]] * g[SECOND[k]];
  }
}

void Committee::add(int center, int64_t n_edges, const int *neighbor, const double *gradient) {
  if (members == EIGHT) return add_rows_of_eight(n_edges, neighbor, gradient, force(center), forces.data());
  add_rows(n_edges, neighbor, gradient, 3 * members, force(center), forces.data());
}

void Committee::begin(int n_members, int n_all) {
  members = n_members;
  forces.assign(static_cast<size_t>(n_all) * 3 * members, 0.0);
}

void Committee::take(const double *of_all) {
  std::copy_n(of_all, forces.size(), forces.data());
}

void Committee::take(int member, const Committee &one) {
  for (size_t k = 0; k < one.forces.size(); k++) forces[k * members + member] = one.forces[k];
}

void Committee::mean_force(int atom, double *f) const {
  const double *row = &forces[static_cast<size_t>(atom) * 3 * members];
  for (int k = 0; k < 3; k++) {
    double sum = 0.0;
    for (int m = 0; m < members; m++) sum += row[k * members + m];
    f[k] = sum / members;
  }
}

int Committee::pack(int n, int first, double *buffer) const {
  const size_t width = 3 * static_cast<size_t>(members);
  const double *const begin = forces.data() + first * width;
  std::copy(begin, begin + n * width, buffer);
  return static_cast<int>(n * width);
}

void Committee::unpack(int n, const int *list, const double *buffer) {
  const int width = 3 * members;
  for (int i = 0; i < n; i++) {
    double *const row = force(list[i]);
    for (int k = 0; k < width; k++) row[k] += *buffer++;
  }
}

void Committee::measure(const std::vector<int> &centers, int n_local, Totals &totals) {
  spreads.assign(n_local, 0.0);
  double largest = 0.0;
  for (const int i : centers) {
    double mean[3], variance = 0.0;
    mean_force(i, mean);
    const double *row = force(i);
    for (int k = 0; k < 3; k++)
      for (int m = 0; m < members; m++) {
        const double deviation = *row++ - mean[k];
        variance += deviation * deviation;
      }
    spreads[i] = std::sqrt(variance / members);
    totals.force_std += spreads[i];
    totals.force_std_max = std::max(totals.force_std_max, spreads[i]);
    largest = std::max(largest, mean[0] * mean[0] + mean[1] * mean[1] + mean[2] * mean[2]);
  }
  totals.largest_force = std::sqrt(largest);
}

double Committee::percentile(double percent, const std::vector<int> &centers, const Totals &totals,
                             MPI_Comm world) const {
  const auto n_atoms = std::llround(totals.atoms);
  if (members < 2 || n_atoms == 0) return 0.0;
  std::vector<double> values;
  values.reserve(centers.size());
  for (const int i : centers) values.push_back(spreads[i]);
  const auto rank = static_cast<int64_t>(std::ceil(percent / 100.0 * n_atoms));
  return nth_smallest(std::move(values), std::max<int64_t>(rank, 1), n_atoms, world);
}

double deviation(const double *values, int n) {
  double mean = 0.0, variance = 0.0;
  for (int m = 0; m < n; m++) mean += values[m] / n;
  for (int m = 0; m < n; m++) variance += (values[m] - mean) * (values[m] - mean) / n;
  return std::sqrt(variance);
}

double Committee::energy_std(const Totals &totals) {
  const int n = static_cast<int>(totals.energies.size());
  return totals.atoms > 0.0 ? deviation(totals.energies.data(), n) / totals.atoms : 0.0;
}

double Committee::memory_usage() const {
  return static_cast<double>(forces.capacity() + spreads.capacity()) * sizeof(double);
}

}  // namespace nnpkit
