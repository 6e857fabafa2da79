#include "long_waves.h"

#include "eights.h"

#include <algorithm>
#include <cmath>

namespace nnpkit {

namespace {

constexpr double STIFF = 2.0;  // relative to the diagonal: waves below it slow nothing down
constexpr size_t MOST = 32;    // waves
constexpr int FARTHEST = 4;    // along an axis

NNPKIT_VECTORS
void add_outer_product(size_t width, const double *row, double factor, double *sums) {
  for (size_t m = 0; m < width; m++) {
    const double scaled = factor * row[m];
    for (size_t n = 0; n < width; n += EIGHT) *eights(sums + m * width + n) += scaled * *eights(row + n);
  }
}

NNPKIT_VECTORS
void add_row(size_t width, const double *row, double factor, double *sums) {
  for (size_t n = 0; n < width; n += EIGHT) *eights(sums + n) += factor * *eights(row + n);
}

NNPKIT_VECTORS
double row_product(size_t width, const double *row, const double *values) {
  Eight sum = {};
  for (size_t n = 0; n < width; n += EIGHT) sum += *eights(row + n) * *eights(values + n);
  return total(sum);
}

// Lower triangle, in place.
void factorise(size_t n, std::vector<double> &a) {
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j <= i; j++) {
      double sum = a[i * n + j];
      for (size_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
}

void solve_factorised(size_t n, const std::vector<double> &a, std::vector<double> &x) {
  for (size_t i = 0; i < n; i++) {
    for (size_t k = 0; k < i; k++) x[i] -= a[i * n + k] * x[k];
    x[i] /= a[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; k++) x[i] -= a[k * n + i] * x[k];
    x[i] /= a[i * n + i];
  }
}

}  // namespace

void LongWaves::set(const ChargedAtoms &given, const std::vector<double> &diagonal) {
  atoms = given;
  softness.clear();
  double total_softness = 0.0;
  for (const int i : *atoms.centers) {
    softness.push_back(1.0 / diagonal[i]);
    total_softness += softness.back();
  }
  MPI_Allreduce(MPI_IN_PLACE, &total_softness, 1, MPI_DOUBLE, MPI_SUM, world);
  choose(total_softness);
  set_rows();
  set_factor();
}

// The stiffest waves, of which a cosine and a sine add their stiffness times their square to the energy.
void LongWaves::choose(double total_softness) {
  const Lattice lattice(atoms.cell);
  const auto &b = lattice.reciprocal;
  struct Found {
    double stiffness;
    std::array<int, 3> wave;
  };
  std::vector<Found> found;
  for (int x = 0; x <= FARTHEST; x++)
    for (int y = -FARTHEST; y <= FARTHEST; y++)
      for (int z = -FARTHEST; z <= FARTHEST; z++) {
        if (x == 0 && (y < 0 || (y == 0 && z <= 0))) continue;
        double square = 0.0;
        for (int c = 0; c < 3; c++) {
          const double component = x * b[c] + y * b[3 + c] + z * b[6 + c];
          square += component * component;
        }
        const double stiffness =
            COULOMB * 8.0 * PI / lattice.volume * std::exp(-0.5 * eta * eta * square) / square;
        if (0.5 * total_softness * stiffness > STIFF) found.push_back({stiffness, {x, y, z}});
      }
  std::stable_sort(found.begin(), found.end(),
                   [](const Found &p, const Found &q) { return p.stiffness > q.stiffness; });
  if (found.size() > MOST) found.resize(MOST);
  waves.clear();
  stiffness.clear();
  for (const Found &one : found) {
    waves.push_back(one.wave);
    stiffness.push_back(one.stiffness);
  }
  width = (2 * waves.size() + EIGHT - 1) / EIGHT * EIGHT;
}

void LongWaves::set_rows() {
  const auto &centers = *atoms.centers;
  const Lattice lattice(atoms.cell);
  const auto &b = lattice.reciprocal;
  rows.assign(width * centers.size(), 0.0);
  if (waves.empty()) return;
  for (size_t a = 0; a < centers.size(); a++) {
    const double *const x = atoms.positions + 3 * static_cast<size_t>(centers[a]);
    double cosine[3][FARTHEST + 1], sine[3][FARTHEST + 1];  // of multiples of the phase along each axis
    for (int k = 0; k < 3; k++) {
      const double phase = b[3 * k] * x[0] + b[3 * k + 1] * x[1] + b[3 * k + 2] * x[2];
      cosine[k][0] = 1.0;
      sine[k][0] = 0.0;
      const double c = std::cos(phase), s = std::sin(phase);
      for (int n = 1; n <= FARTHEST; n++) {
        cosine[k][n] = cosine[k][n - 1] * c - sine[k][n - 1] * s;
        sine[k][n] = cosine[k][n - 1] * s + sine[k][n - 1] * c;
      }
    }
    double *const row = rows.data() + width * a;
    for (size_t w = 0; w < waves.size(); w++) {
      double real = 1.0, imaginary = 0.0;
      for (int k = 0; k < 3; k++) {
        const int n = waves[w][k];
        const double c = cosine[k][std::abs(n)], s = n < 0 ? -sine[k][-n] : sine[k][n];
        const double before = real;
        real = before * c - imaginary * s;
        imaginary = before * s + imaginary * c;
      }
      row[2 * w] = real;
      row[2 * w + 1] = imaginary;
    }
  }
}

// Woodbury: (D + Z K Z^T)^-1 = D^-1 - D^-1 Z (K^-1 + Z^T D^-1 Z)^-1 Z^T D^-1
void LongWaves::set_factor() {
  factor.assign(width * width, 0.0);
  for (size_t a = 0; a < softness.size(); a++)
    add_outer_product(width, rows.data() + width * a, softness[a], factor.data());
  MPI_Allreduce(MPI_IN_PLACE, factor.data(), static_cast<int>(factor.size()), MPI_DOUBLE, MPI_SUM, world);
  for (size_t n = 0; n < width; n++)
    factor[n * width + n] += n < 2 * waves.size() ? 1.0 / stiffness[n / 2] : 1.0;
  factorise(width, factor);
}

void LongWaves::solve(const std::vector<double> &right, std::vector<double> &result) {
  const auto &centers = *atoms.centers;
  sums.assign(width, 0.0);
  for (size_t a = 0; a < centers.size(); a++)
    add_row(width, rows.data() + width * a, softness[a] * right[centers[a]], sums.data());
  MPI_Allreduce(MPI_IN_PLACE, sums.data(), static_cast<int>(width), MPI_DOUBLE, MPI_SUM, world);
  solve_factorised(width, factor, sums);
  for (size_t a = 0; a < centers.size(); a++) {
    const int i = centers[a];
    result[i] = softness[a] * (right[i] - row_product(width, rows.data() + width * a, sums.data()));
  }
}

}  // namespace nnpkit
