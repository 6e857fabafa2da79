#include "cell_list.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

namespace nnpkit {

namespace {

using Vector = std::array<double, 3>;

Vector cross(const Vector &a, const Vector &b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}
double dot(const Vector &a, const Vector &b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
double length(const Vector &a) {
  return std::sqrt(dot(a, a));
}

// A unit vector at right angles to both; b may be zero.
Vector normal_to(const Vector &a, const Vector &b) {
  Vector found = cross(a, b);
  if (length(found) == 0.0) {
    const int smallest = static_cast<int>(
        std::min_element(a.begin(), a.end(), [](double x, double y) { return std::abs(x) < std::abs(y); }) -
        a.begin());
    Vector axis{};
    axis[smallest] = 1.0;
    found = cross(a, axis);
  }
  const double norm = length(found);
  for (double &x : found) x /= norm;
  return found;
}

// The cell divided into bins that are about as wide as the cutoff.
class Bins {
 public:
  Bins(int64_t n_atoms, const double *positions, const double *cell, const int *periodic, double cutoff)
      : n(n_atoms), x(positions), limit(cutoff * cutoff) {
    complete(cell, periodic);
    invert();
    bound();
    for (int k = 0; k < 3; k++) divide(k, cutoff);
    sort();
  }

  CellList pairs() const {
    CellList list;
    list.offsets.push_back(0);
    for (int64_t i = 0; i < n; i++) {
      add_neighbors(i, list);
      list.offsets.push_back(static_cast<int64_t>(list.neighbors.size()));
    }
    return list;
  }

 private:
  const int64_t n;
  const double *const x;
  const double limit;
  std::array<Vector, 3> vectors, inverse;  // fraction k of a position is its product with inverse[k]
  std::array<bool, 3> repeats;
  Vector low, extent;  // of the fractions
  std::array<int64_t, 3> n_bins, reach;
  std::vector<std::array<int64_t, 3>> cells,
      bins;                             // of each atom: the image that it is in, and its bin there
  std::vector<int64_t> first, members;  // atoms of each bin

  // Vectors that do not repeat are replaced by any that make a basis.
  void complete(const double *cell, const int *periodic) {
    int n_periodic = 0, one = 0, other = 0;
    for (int k = 0; k < 3; k++) {
      repeats[k] = periodic[k] != 0;
      if (!repeats[k]) continue;
      vectors[k] = {cell[3 * k], cell[3 * k + 1], cell[3 * k + 2]};
      const double norm = length(vectors[k]);
      if (!std::isfinite(norm) || norm == 0.0)
        throw std::invalid_argument("a vector of the cell along which it is periodic has no length");
      (n_periodic++ == 0 ? one : other) = k;
    }
    if (n_periodic == 0) vectors = {Vector{1.0, 0.0, 0.0}, {0.0, 1.0, 0.0}, {0.0, 0.0, 1.0}};
    if (n_periodic == 1) {
      const int a = (one + 1) % 3, b = (one + 2) % 3;
      vectors[a] = normal_to(vectors[one], {});
      vectors[b] = normal_to(vectors[one], vectors[a]);
    }
    if (n_periodic == 2) vectors[3 - one - other] = normal_to(vectors[one], vectors[other]);
  }

  void invert() {
    const double volume = dot(vectors[0], cross(vectors[1], vectors[2]));
    const double scale = length(vectors[0]) * length(vectors[1]) * length(vectors[2]);
    if (!(std::abs(volume) > 1.0e-6 * scale)) throw std::invalid_argument("the cell has no volume");
    for (int k = 0; k < 3; k++) {
      inverse[k] = cross(vectors[(k + 1) % 3], vectors[(k + 2) % 3]);
      for (double &component : inverse[k]) component /= volume;
    }
  }

  double fraction(int64_t i, int k) const { return dot(inverse[k], {x[3 * i], x[3 * i + 1], x[3 * i + 2]}); }

  void bound() {
    for (int k = 0; k < 3; k++) {
      low[k] = 0.0;
      extent[k] = 1.0;
      if (repeats[k]) continue;
      double high = n > 0 ? fraction(0, k) : 0.0;
      low[k] = high;
      for (int64_t i = 1; i < n; i++) {
        low[k] = std::min(low[k], fraction(i, k));
        high = std::max(high, fraction(i, k));
      }
      extent[k] = high - low[k];
    }
  }

  void divide(int k, double cutoff) {
    const double height = extent[k] / length(inverse[k]);  // between the planes that bound it
    const int64_t most = static_cast<int64_t>(std::cbrt(static_cast<double>(n))) + 1;
    const double wanted = std::floor(height / cutoff);
    n_bins[k] =
        std::max<int64_t>(1, wanted < static_cast<double>(most) ? static_cast<int64_t>(wanted) : most);
    const double bins_in_reach = height > 0.0 ? cutoff / (height / static_cast<double>(n_bins[k])) : 1.0;
    constexpr double most_images = 1000.0;
    if (repeats[k] && !(bins_in_reach < most_images))
      throw std::invalid_argument("the cell is thinner than a thousandth of the cutoff");
    reach[k] = repeats[k]
                   ? static_cast<int64_t>(std::ceil(bins_in_reach))
                   : static_cast<int64_t>(std::ceil(std::min(bins_in_reach, static_cast<double>(n_bins[k]))));
  }

  int64_t index_of(const std::array<int64_t, 3> &bin) const {
    return (bin[0] * n_bins[1] + bin[1]) * n_bins[2] + bin[2];
  }

  void sort() {
    cells.resize(n);
    bins.resize(n);
    first.assign(n_bins[0] * n_bins[1] * n_bins[2] + 1, 0);
    for (int64_t i = 0; i < n; i++) {
      for (int k = 0; k < 3; k++) {
        double f = fraction(i, k);
        constexpr double farthest = 1.0e9;  // cells from the origin
        if (!(std::abs(f) < farthest) && repeats[k])
          throw std::invalid_argument("an atom is too far from the cell, or nowhere");
        cells[i][k] = repeats[k] ? static_cast<int64_t>(std::floor(f)) : 0;
        f = repeats[k]        ? f - static_cast<double>(cells[i][k])
            : extent[k] > 0.0 ? (f - low[k]) / extent[k]
                              : 0.0;
        const auto bin = static_cast<int64_t>(f * static_cast<double>(n_bins[k]));
        bins[i][k] = std::min(std::max<int64_t>(bin, 0), n_bins[k] - 1);
      }
      first[index_of(bins[i]) + 1]++;
    }
    for (size_t b = 1; b < first.size(); b++) first[b] += first[b - 1];
    members.resize(n);
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    for (int64_t i = 0; i < n; i++) members[next[index_of(bins[i])]++] = i;
  }

  void add_neighbors(int64_t i, CellList &list) const {
    std::array<int64_t, 3> step, bin, image;
    for (step[0] = -reach[0]; step[0] <= reach[0]; step[0]++)
      for (step[1] = -reach[1]; step[1] <= reach[1]; step[1]++)
        for (step[2] = -reach[2]; step[2] <= reach[2]; step[2]++) {
          bool inside = true;
          for (int k = 0; k < 3; k++) {
            const int64_t to = bins[i][k] + step[k];
            image[k] = to >= 0 ? to / n_bins[k] : -((n_bins[k] - 1 - to) / n_bins[k]);
            bin[k] = to - image[k] * n_bins[k];
            inside = inside && (repeats[k] || image[k] == 0);
          }
          if (inside) add_bin(i, bin, image, list);
        }
  }

  void add_bin(int64_t i, const std::array<int64_t, 3> &bin, const std::array<int64_t, 3> &image,
               CellList &list) const {
    const int64_t b = index_of(bin);
    for (int64_t m = first[b]; m < first[b + 1]; m++) {
      const int64_t j = members[m];
      Vector shift{};
      bool moved = false;
      for (int k = 0; k < 3; k++) {
        const int64_t times = image[k] - cells[j][k] + cells[i][k];
        moved = moved || times != 0;
        for (int c = 0; c < 3; c++) shift[c] += static_cast<double>(times) * vectors[k][c];
      }
      if (i == j && !moved) continue;
      double square = 0.0;
      for (int c = 0; c < 3; c++) {
        const double d = (x[3 * j + c] - x[3 * i + c]) + shift[c];
        square += d * d;
      }
      if (!(square < limit)) continue;
      list.neighbors.push_back(j);
      list.shifts.insert(list.shifts.end(), shift.begin(), shift.end());
    }
  }
};

}  // namespace

CellList find_neighbors(int64_t n_atoms, const double *positions, const double *cell, const int *periodic,
                        double cutoff) {
  return Bins(n_atoms, positions, cell, periodic, cutoff).pairs();
}

}  // namespace nnpkit
