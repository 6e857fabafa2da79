#include "lattice_waves.h"

#include "eights.h"

#include <algorithm>
#include <cmath>

namespace nnpkit {

namespace {

// q e^(i k r) of a row: (re + i im) is that of its first two axes, with q
NNPKIT_VECTORS
void add_row(size_t n, double re, double im, const double *real, const double *imaginary, double *cosines,
             double *sines) {
  const Eight *const c = eights(real), *const s = eights(imaginary);
  Eight *const to_c = reinterpret_cast<Eight *>(cosines), *const to_s = reinterpret_cast<Eight *>(sines);
  for (size_t k = 0; k < n; k++) {
    to_c[k] += re * c[k] - im * s[k];
    to_s[k] += re * s[k] + im * c[k];
  }
}

NNPKIT_VECTORS
double row_value(size_t n, double re, double im, const double *real, const double *imaginary,
                 const double *cosines, const double *sines) {
  const Eight *const c = eights(real), *const s = eights(imaginary);
  const Eight *const fc = eights(cosines), *const fs = eights(sines);
  Eight sum = {};
  for (size_t k = 0; k < n; k++) sum += (re * c[k] - im * s[k]) * fc[k] + (re * s[k] + im * c[k]) * fs[k];
  return total(sum);
}

// value, three slopes and, where wanted, six stretches; waves[0 ... 3] are kx ky kz and what a strain
// stretches
NNPKIT_VECTORS
void row_sums(size_t n, double re, double im, const double *real, const double *imaginary,
              const double *cosines, const double *sines, const double *const *waves, bool stretches,
              double *result) {
  const Eight *const c = eights(real), *const s = eights(imaginary);
  const Eight *const fc = eights(cosines), *const fs = eights(sines);
  const Eight *const kx = eights(waves[0]), *const ky = eights(waves[1]), *const kz = eights(waves[2]);
  const Eight *const st = eights(waves[3]);
  Eight value = {}, x = {}, y = {}, z = {}, xx = {}, yy = {}, zz = {}, xy = {}, xz = {}, yz = {};
  for (size_t k = 0; k < n; k++) {
    const Eight cosine = re * c[k] - im * s[k], sine = re * s[k] + im * c[k];
    const Eight even = cosine * fc[k] + sine * fs[k], odd = cosine * fs[k] - sine * fc[k];
    value += even;
    x += odd * kx[k];
    y += odd * ky[k];
    z += odd * kz[k];
    if (!stretches) continue;
    const Eight t = even * st[k], tx = t * kx[k], ty = t * ky[k];
    xx += tx * kx[k];
    yy += ty * ky[k];
    zz += t * kz[k] * kz[k];
    xy += tx * ky[k];
    xz += tx * kz[k];
    yz += ty * kz[k];
  }
  const Eight all[10] = {value, x, y, z, xx, yy, zz, xy, xz, yz};
  for (int k = 0; k < (stretches ? 10 : 4); k++) result[k] += total(all[k]);
}

class ExactWaves : public LatticeWaves {
 public:
  ExactWaves(double splitting, double longest, MPI_Comm world)
      : eta(splitting), longest(longest), world(world) {}
  void set(const ChargedAtoms &given) override {
    atoms = given;
    set_waves();
    set_phases();
  }
  void field(const std::vector<double> &charges, bool stretches, std::vector<double> &made) override;
  WaveSums at(size_t atom, const std::vector<double> &field, bool slopes, bool stretches) const override;

 private:
  struct Row {  // waves (a, b, first ...) in reciprocal lattice vectors, in eights, the last filled up with
                // weight 0
    int a, b, first;
    size_t begin, eights;
  };
  struct Table {  // e^(i n phi) of an atom: axes a and b from n = 0 on, c from the smallest n on
    const double *a, *b, *real, *imaginary;
  };

  double eta, longest;
  MPI_Comm world;
  ChargedAtoms atoms;
  std::array<double, 9> reciprocal{};
  std::vector<Row> rows;
  std::vector<double> weight, stretch, kx, ky, kz;
  std::array<int, 3> most{};
  std::vector<double> phases;  // of the atoms in centers: cosines and sines of each axis

  void set_waves();
  void set_phases();
  Table table_of(size_t atom) const;
  size_t table_size() const;
};

void ExactWaves::set_waves() {
  const Lattice lattice(atoms.cell);
  const double volume = lattice.volume;
  reciprocal = lattice.reciprocal;
  for (int n = 0; n < 3; n++)
    most[n] = static_cast<int>(std::ceil(longest * lattice.lengths[n] / (2.0 * PI)));
  rows.clear();
  for (auto *table : {&weight, &stretch, &kx, &ky, &kz}) table->clear();
  const auto &b = reciprocal;
  for (int i = 0; i <= most[0]; i++)
    for (int j = i == 0 ? 0 : -most[1]; j <= most[1]; j++) {
      Row row{i, j, 1, weight.size(), 0};
      for (int k = i == 0 && j == 0 ? 1 : -most[2]; k <= most[2]; k++) {
        const double x = i * b[0] + j * b[3] + k * b[6], y = i * b[1] + j * b[4] + k * b[7],
                     z = i * b[2] + j * b[5] + k * b[8], square = x * x + y * y + z * z;
        if (square > longest * longest) continue;  // what is within is one piece of a line through a ball
        if (weight.size() == row.begin) row.first = k;
        weight.push_back(COULOMB * 8.0 * PI / volume * std::exp(-0.5 * eta * eta * square) / square);
        stretch.push_back(2.0 / square + eta * eta);
        kx.push_back(x);
        ky.push_back(y);
        kz.push_back(z);
      }
      if (weight.size() == row.begin) continue;
      while ((weight.size() - row.begin) % EIGHT != 0)
        for (auto *table : {&weight, &stretch, &kx, &ky, &kz}) table->push_back(0.0);
      row.eights = (weight.size() - row.begin) / EIGHT;
      rows.push_back(row);
    }
}

size_t ExactWaves::table_size() const {
  const auto a = static_cast<size_t>(most[0]) + 1, b = static_cast<size_t>(most[1]) + 1;
  return 2 * a + 2 * b + 2 * (2 * static_cast<size_t>(most[2]) + 1 + EIGHT);
}

ExactWaves::Table ExactWaves::table_of(size_t atom) const {
  const double *const a = phases.data() + atom * table_size(), *const b = a + 2 * (most[0] + 1),
                      *const c = b + 2 * (most[1] + 1);
  return {a, b, c, c + 2 * most[2] + 1 + EIGHT};
}

void ExactWaves::set_phases() {
  phases.assign(atoms.centers->size() * table_size(), 0.0);
  double *at = phases.data();
  for (const int i : *atoms.centers) {
    const double *const x = atoms.positions + 3 * static_cast<size_t>(i);
    for (int n = 0; n < 3; n++) {
      const double angle =
          reciprocal[3 * n] * x[0] + reciprocal[3 * n + 1] * x[1] + reciprocal[3 * n + 2] * x[2];
      const double c = std::cos(angle), s = std::sin(angle);
      const size_t middle = most[2], imaginary = 2 * middle + 1 + EIGHT;
      double re = 1.0, im = 0.0;
      for (int m = 0; m <= most[n]; m++) {
        if (n < 2) {
          *at++ = re;
          *at++ = im;
        } else {
          at[middle + m] = at[middle - m] = re;
          at[imaginary + middle + m] = im;
          at[imaginary + middle - m] = -im;
        }
        const double next = re * c - im * s;
        im = re * s + im * c;
        re = next;
      }
      if (n == 2) at += 2 * imaginary;
    }
  }
}

void ExactWaves::field(const std::vector<double> &values, bool /*stretches*/, std::vector<double> &found) {
  const size_t size = weight.size();
  found.assign(2 * size, 0.0);
  for (size_t a = 0; a < atoms.centers->size(); a++) {
    const double q = values[(*atoms.centers)[a]];
    const Table table = table_of(a);
    for (const Row &row : rows) {
      const int j = std::abs(row.b);
      const double are = q * table.a[2 * row.a], aim = q * table.a[2 * row.a + 1], bre = table.b[2 * j],
                   bim = row.b < 0 ? -table.b[2 * j + 1] : table.b[2 * j + 1];
      const size_t from = row.first + most[2];
      add_row(row.eights, are * bre - aim * bim, are * bim + aim * bre, table.real + from,
              table.imaginary + from, found.data() + row.begin, found.data() + size + row.begin);
    }
  }
  MPI_Allreduce(MPI_IN_PLACE, found.data(), static_cast<int>(found.size()), MPI_DOUBLE, MPI_SUM, world);
  for (size_t w = 0; w < size; w++) {
    found[w] *= weight[w];
    found[size + w] *= weight[w];
  }
}

WaveSums ExactWaves::at(size_t atom, const std::vector<double> &factor, bool slopes, bool stretches) const {
  const size_t size = weight.size();
  const Table table = table_of(atom);
  double found[10] = {};
  for (const Row &row : rows) {
    const int j = std::abs(row.b);
    const double are = table.a[2 * row.a], aim = table.a[2 * row.a + 1], bre = table.b[2 * j],
                 bim = row.b < 0 ? -table.b[2 * j + 1] : table.b[2 * j + 1];
    const double re = are * bre - aim * bim, im = are * bim + aim * bre;
    const size_t from = row.first + most[2];
    const double *const c = factor.data() + row.begin, *const s = c + size;
    const double *const of_row[4] = {kx.data() + row.begin, ky.data() + row.begin, kz.data() + row.begin,
                                     stretch.data() + row.begin};
    if (slopes)
      row_sums(row.eights, re, im, table.real + from, table.imaginary + from, c, s, of_row, stretches, found);
    else
      found[0] += row_value(row.eights, re, im, table.real + from, table.imaginary + from, c, s);
  }
  WaveSums sums{found[0], {found[1], found[2], found[3]}, {}};
  std::copy_n(found + 4, 6, sums.stretch);
  return sums;
}

}  // namespace

Lattice::Lattice(const std::array<double, 9> &h) {
  const auto cross = [&](int i, int j, int k) {
    return h[3 * i + (k + 1) % 3] * h[3 * j + (k + 2) % 3] - h[3 * i + (k + 2) % 3] * h[3 * j + (k + 1) % 3];
  };
  const double det = h[0] * cross(1, 2, 0) + h[1] * cross(1, 2, 1) + h[2] * cross(1, 2, 2);
  volume = std::abs(det);
  for (int n = 0; n < 3; n++) {
    double square = 0.0;
    for (int k = 0; k < 3; k++) {
      reciprocal[3 * n + k] = 2.0 * PI * cross((n + 1) % 3, (n + 2) % 3, k) / det;
      square += h[3 * n + k] * h[3 * n + k];
    }
    lengths[n] = std::sqrt(square);
  }
}

std::unique_ptr<LatticeWaves> exact_waves(double splitting, double longest, MPI_Comm world) {
  return std::make_unique<ExactWaves>(splitting, longest, world);
}

}  // namespace nnpkit
