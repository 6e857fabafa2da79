#include "electrostatics.h"

#include "neighbor_graph.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

// Sums over waves are worth the vectors of the processor that runs them.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define NNPKIT_VECTORS __attribute__((target_clones("default", "avx2,fma", "avx512f")))
#else
#define NNPKIT_VECTORS
#endif

namespace nnpkit {

namespace {

constexpr double COULOMB = 14.399645478;  // eV angstrom / e^2, as in nnpkit/models/short_range.py
constexpr double PI = 3.14159265358979323846;
constexpr int MOST_ITERATIONS = 1000;
constexpr double CONVERGED = 1.0e-12;  // of the residual, relative to the right side

// Eight waves of a row, in the compiler's own terms.
typedef double Eight __attribute__((vector_size(8 * sizeof(double)), aligned(sizeof(double)), may_alias));
constexpr size_t EIGHT = 8;

double total(const Eight &values) {
  double sum = 0.0;
  for (size_t k = 0; k < EIGHT; k++) sum += values[k];
  return sum;
}

const Eight *eights(const double *from) {
  return reinterpret_cast<const Eight *>(from);
}

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

}  // namespace

ChargeCloud::ChargeCloud(double width) {
  constexpr double NODES = 200.0, LAST = 8.5;  // of one width; where erf is 1
  if (width == 0.0) return;
  step = width / NODES;
  end = LAST * width;
  const double middle = std::sqrt(2.0 / PI) / width;
  nodes.push_back({middle, 0.0, -middle / (3.0 * width * width)});
  for (int k = 1; (k - 1) * step < end; k++) {
    const double r = k * step, x = r / (std::sqrt(2.0) * width), bell = middle * std::exp(-x * x);
    const double value = std::erf(x) / r, slope = (bell - value) / r;
    nodes.push_back({value, slope, -bell / (width * width) - 2.0 * slope / r});
  }
}

void ChargeCloud::at(double r, double &value, double &slope) const {
  if (r >= end) {
    value = 1.0 / r;
    slope = -value / (r * r);
    return;
  }
  // cubic Hermite interpolation of the value, and of the slope by itself
  const double place = r / step;
  const auto k = static_cast<size_t>(place);
  const double t = place - static_cast<double>(k), s = 1.0 - t;
  const double h00 = (1.0 + 2.0 * t) * s * s, h10 = t * s * s * step, h01 = t * t * (3.0 - 2.0 * t),
               h11 = -t * t * s * step;
  const auto &a = nodes[k], &b = nodes[k + 1];
  value = h00 * a[0] + h10 * a[1] + h01 * b[0] + h11 * b[1];
  slope = (h00 * a[1] + h10 * a[2] + h01 * b[1] + h11 * b[2]) / r;
}

Electrostatics::Electrostatics(const ChargeInfo &info, double accuracy, double splitting, MPI_Comm world)
    : info(info), eta(splitting), longest(splitting > 0.0 ? steps(accuracy) / splitting : 0.0), world(world) {
  for (const double a : info.widths)
    for (const double b : info.widths) clouds.emplace_back(std::sqrt(a * a + b * b));
  clouds.emplace_back(eta);
}

double Electrostatics::steps(double accuracy) {
  return std::sqrt(-2.0 * std::log(accuracy));
}

double Electrostatics::sum(const std::vector<double> &values) const {
  double total = 0.0;
  for (const int i : *atoms.centers) total += values[i];
  MPI_Allreduce(MPI_IN_PLACE, &total, 1, MPI_DOUBLE, MPI_SUM, world);
  return total;
}

void Electrostatics::remove_mean(std::vector<double> &values, double total) const {
  const double change = n_atoms > 0.0 ? (total - sum(values)) / n_atoms : 0.0;
  for (const int i : *atoms.centers) values[i] += change;
}

/* ---- pairs ------------------------------------------------------------------------------------------ */

void Electrostatics::add_pair(int first, int second, int species_first, int species_second, double x,
                              double y, double z) {
  const double r = std::sqrt(x * x + y * y + z * z);
  double value, slope;
  clouds[species_first * info.widths.size() + species_second].at(r, value, slope);
  if (r < info.screening_outer) {  // what screening takes away: (1 - f) value
    const double width = info.screening_outer - info.screening_inner;
    const double at = std::max(0.0, (r - info.screening_inner) / width);
    const double kept = 0.5 * (1.0 + std::cos(PI * at)), falls = -0.5 * PI / width * std::sin(PI * at);
    screened_pairs.push_back(
        {pairs.size(), COULOMB * kept * value, COULOMB * (kept * slope + falls * value / r)});
  }
  if (eta > 0.0) {
    double smooth, smooth_slope;
    clouds.back().at(r, smooth, smooth_slope);
    value -= smooth;
    slope -= smooth_slope;
  }
  pairs.push_back({first, second, x, y, z, COULOMB * value, COULOMB * slope});
}

void Electrostatics::set(const ChargedAtoms &given, const NeighborGraph &near) {
  atoms = given;
  const auto &centers = *atoms.centers, &species = *atoms.species;
  n_atoms = static_cast<double>(centers.size());
  MPI_Allreduce(MPI_IN_PLACE, &n_atoms, 1, MPI_DOUBLE, MPI_SUM, world);
  pairs.clear();
  screened_pairs.clear();
  if (eta > 0.0) {
    pairs.reserve(near.n_edges());
    for (int64_t a = 0; a < near.n_atoms(); a++)
      for (int64_t e = near.offsets[a]; e < near.offsets[a + 1]; e++)
        add_pair(near.center[a], near.neighbor[e], static_cast<int>(near.types[a]),
                 static_cast<int>(near.neighbor_type[e]), near.edge_vec[3 * e], near.edge_vec[3 * e + 1],
                 near.edge_vec[3 * e + 2]);
    set_waves();
    set_phases();
    return;
  }
  // a cluster: all ranks hear of all atoms
  int ranks, me;
  MPI_Comm_size(world, &ranks);
  MPI_Comm_rank(world, &me);
  counts.assign(ranks, 0);
  starts.assign(ranks, 0);
  const int own = static_cast<int>(centers.size());
  MPI_Allgather(&own, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  for (int k = 1; k < ranks; k++) starts[k] = starts[k - 1] + counts[k - 1];
  own_start = starts[me];
  std::vector<double> axis[3], kinds(atoms.n_all, 0.0);
  for (int k = 0; k < 3; k++) {
    std::vector<double> mine(atoms.n_all, 0.0);
    for (const int i : centers) mine[i] = atoms.positions[3 * static_cast<size_t>(i) + k];
    axis[k] = gather(mine);
  }
  for (const int i : centers) kinds[i] = species[i];
  kinds = gather(kinds);
  for (int a = 0; a < own; a++)
    for (int b = 0; b < static_cast<int>(kinds.size()); b++) {
      const int at = own_start + a;
      if (b == at) continue;
      add_pair(centers[a], b, species[centers[a]], static_cast<int>(kinds[b]), axis[0][b] - axis[0][at],
               axis[1][b] - axis[1][at], axis[2][b] - axis[2][at]);
    }
}

std::vector<double> Electrostatics::gather(const std::vector<double> &values) const {
  std::vector<double> mine;
  for (const int i : *atoms.centers) mine.push_back(values[i]);
  std::vector<double> all(static_cast<size_t>(starts.back()) + counts.back());
  MPI_Allgatherv(mine.data(), static_cast<int>(mine.size()), MPI_DOUBLE, all.data(), counts.data(),
                 starts.data(), MPI_DOUBLE, world);
  return all;
}

/* ---- waves ------------------------------------------------------------------------------------------ */

void Electrostatics::set_waves() {
  const auto &h = atoms.cell;
  const auto cross = [&](int i, int j, int k) {
    return h[3 * i + (k + 1) % 3] * h[3 * j + (k + 2) % 3] - h[3 * i + (k + 2) % 3] * h[3 * j + (k + 1) % 3];
  };
  const double det = h[0] * cross(1, 2, 0) + h[1] * cross(1, 2, 1) + h[2] * cross(1, 2, 2);
  volume = std::abs(det);
  for (int n = 0; n < 3; n++) {
    double length = 0.0;
    for (int k = 0; k < 3; k++) {
      reciprocal[3 * n + k] = 2.0 * PI * cross((n + 1) % 3, (n + 2) % 3, k) / det;
      length += h[3 * n + k] * h[3 * n + k];
    }
    most[n] = static_cast<int>(std::ceil(longest * std::sqrt(length) / (2.0 * PI)));
  }
  rows.clear();
  for (auto *table : {&weight, &stretch, &kx, &ky, &kz}) table->clear();
  waves = 0;
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
        waves++;
      }
      if (weight.size() == row.begin) continue;
      while ((weight.size() - row.begin) % EIGHT != 0)
        for (auto *table : {&weight, &stretch, &kx, &ky, &kz}) table->push_back(0.0);
      row.eights = (weight.size() - row.begin) / EIGHT;
      rows.push_back(row);
    }
}

size_t Electrostatics::table_size() const {
  const auto a = static_cast<size_t>(most[0]) + 1, b = static_cast<size_t>(most[1]) + 1;
  return 2 * a + 2 * b + 2 * (2 * static_cast<size_t>(most[2]) + 1 + EIGHT);
}

Electrostatics::Table Electrostatics::table_of(size_t atom) const {
  const double *const a = phases.data() + atom * table_size(), *const b = a + 2 * (most[0] + 1),
                      *const c = b + 2 * (most[1] + 1);
  return {a, b, c, c + 2 * most[2] + 1 + EIGHT};
}

void Electrostatics::set_phases() {
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

std::vector<double> Electrostatics::structure_factor(const std::vector<double> &values) const {
  const size_t size = weight.size();
  std::vector<double> found(2 * size, 0.0);
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
  return found;
}

Electrostatics::WaveSums Electrostatics::sums_of(size_t atom, const std::vector<double> &factor, bool slopes,
                                                 bool stretches) const {
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

double Electrostatics::self() const {
  return COULOMB * 2.0 / (std::sqrt(2.0 * PI) * eta);
}

std::array<double, 2> Electrostatics::moments(const std::vector<double> &values) const {
  std::array<double, 2> sums{};
  for (const int i : *atoms.centers) {
    const double s = info.widths[(*atoms.species)[i]];
    sums[0] += values[i];
    sums[1] += values[i] * s * s;
  }
  MPI_Allreduce(MPI_IN_PLACE, sums.data(), 2, MPI_DOUBLE, MPI_SUM, world);
  return sums;
}

/* ---- what charges do -------------------------------------------------------------------------------- */

void Electrostatics::potential(const std::vector<double> &charges, bool screened,
                               std::vector<double> &result) {
  result.assign(atoms.n_all, 0.0);
  const std::vector<double> everywhere = eta > 0.0 ? std::vector<double>() : gather(charges);
  const std::vector<double> &others = eta > 0.0 ? charges : everywhere;
  for (const Pair &pair : pairs) result[pair.first] += pair.bare * others[pair.second];
  if (screened)
    for (const Screened &one : screened_pairs) {
      const Pair &pair = pairs[one.pair];
      result[pair.first] -= one.away * others[pair.second];
    }
  if (eta == 0.0) return;
  const std::vector<double> factor = structure_factor(charges);
  const std::array<double, 2> total = moments(charges);
  const double background = COULOMB * 2.0 * PI / volume;
  for (size_t a = 0; a < atoms.centers->size(); a++) {
    const int i = (*atoms.centers)[a];
    const double sum = sums_of(a, factor, false, false).value;
    const double width = info.widths[(*atoms.species)[i]];
    result[i] += sum - self() * charges[i] - background * ((eta * eta - width * width) * total[0] - total[1]);
  }
}

void Electrostatics::add_forces(const std::vector<double> &u, const std::vector<double> &v, double factor,
                                bool screened, const ChargeSums &sums) {
  constexpr int FIRST[6] = {0, 1, 2, 0, 0, 1}, SECOND[6] = {0, 1, 2, 1, 2, 2};
  const bool cluster = eta == 0.0;
  const std::vector<double> all_u = cluster ? gather(u) : std::vector<double>();
  const std::vector<double> all_v = cluster ? gather(v) : std::vector<double>();
  const auto add = [&](const Pair &pair, double slope) {
    // every pair comes from both sides: each takes its own half, so that no force of a ghost is needed
    const double other_u = cluster ? all_u[pair.second] : u[pair.second];
    const double other_v = cluster ? all_v[pair.second] : v[pair.second];
    const double both = factor * slope * (u[pair.first] * other_v + v[pair.first] * other_u);
    const double r[3] = {pair.x, pair.y, pair.z};
    double *const force = sums.forces + 3 * static_cast<size_t>(pair.first);
    for (int k = 0; k < 3; k++) force[k] += both * r[k];
    if (!sums.virial && !sums.atom_virials) return;
    for (int k = 0; k < 6; k++) {
      const double w = -0.5 * both * r[FIRST[k]] * r[SECOND[k]];
      if (sums.virial) sums.virial[k] += w;
      if (sums.atom_virials) sums.atom_virials[6 * static_cast<size_t>(pair.first) + k] += w;
    }
  };
  for (const Pair &pair : pairs) add(pair, pair.bare_slope);
  if (screened)
    for (const Screened &one : screened_pairs) add(pairs[one.pair], -one.away_slope);
  if (cluster) return;
  const bool same = &u == &v, stretches = sums.virial || sums.atom_virials;
  const std::vector<double> of_v = structure_factor(v);
  const std::vector<double> of_u = same ? std::vector<double>() : structure_factor(u);
  const std::array<double, 2> total_v = moments(v), total_u = same ? total_v : moments(u);
  const double background = COULOMB * 2.0 * PI / volume;
  for (size_t a = 0; a < atoms.centers->size(); a++) {
    const int i = (*atoms.centers)[a];
    const WaveSums by_v = sums_of(a, of_v, true, stretches);
    const WaveSums by_u = same ? by_v : sums_of(a, of_u, true, stretches);
    double f[3], w6[6];
    for (int k = 0; k < 3; k++) f[k] = u[i] * by_v.slope[k] + v[i] * by_u.slope[k];
    for (int n = 0; n < 6; n++) w6[n] = 0.5 * (u[i] * by_v.stretch[n] + v[i] * by_u.stretch[n]);
    for (int k = 0; k < 3; k++) sums.forces[3 * static_cast<size_t>(i) + k] -= factor * f[k];
    const double width = info.widths[(*atoms.species)[i]], rest = eta * eta - width * width;
    const double flat = 0.5 * (u[i] * (by_v.value - background * (rest * total_v[0] - total_v[1])) +
                               v[i] * (by_u.value - background * (rest * total_u[0] - total_u[1])));
    for (int n = 0; n < 6; n++) {
      const double w = -factor * (w6[n] - (n < 3 ? flat : 0.0));
      if (sums.virial) sums.virial[n] += w;
      if (sums.atom_virials) sums.atom_virials[6 * static_cast<size_t>(i) + n] += w;
    }
  }
}

// Conjugate gradients among the vectors of sum zero, with the diagonal as what prepares them.
std::vector<double> Electrostatics::solve(const std::vector<double> &right, double total,
                                          const ToGhosts &to_ghosts) {
  const auto &centers = *atoms.centers;
  std::vector<double> diagonal(atoms.n_all, 1.0), x(atoms.n_all, 0.0), residual(atoms.n_all, 0.0);
  for (const int i : centers) {
    const int t = (*atoms.species)[i];
    diagonal[i] = COULOMB / (info.widths[t] * std::sqrt(PI)) + info.hardness[t];
    x[i] = total / n_atoms;
  }
  std::vector<double> made;
  const auto apply = [&](std::vector<double> &values) {
    to_ghosts(values);
    potential(values, false, made);
    for (const int i : centers) made[i] += diagonal[i] * values[i];
    remove_mean(made, 0.0);
  };
  const auto product = [&](const std::vector<double> &a, const std::vector<double> &b) {
    std::vector<double> both(atoms.n_all, 0.0);
    for (const int i : centers) both[i] = a[i] * b[i];
    return sum(both);
  };
  std::vector<double> wanted = right;
  remove_mean(wanted, 0.0);
  apply(x);
  for (const int i : centers) residual[i] = wanted[i] - made[i];
  std::vector<double> direction(atoms.n_all, 0.0), prepared(atoms.n_all, 0.0);
  double before = 0.0;
  const double small = CONVERGED * CONVERGED * std::max(product(wanted, wanted), product(residual, residual));
  for (int n = 0; n < MOST_ITERATIONS; n++) {
    if (!(product(residual, residual) > small)) {
      to_ghosts(x);
      return x;
    }
    for (const int i : centers) prepared[i] = residual[i] / diagonal[i];
    remove_mean(prepared, 0.0);
    const double now = product(residual, prepared);
    for (const int i : centers) direction[i] = prepared[i] + (n > 0 ? now / before : 0.0) * direction[i];
    apply(direction);
    const double bend = product(direction, made);
    if (!(bend > 0.0)) throw std::runtime_error("the charges have no equilibrium: atoms are too close");
    for (const int i : centers) {
      x[i] += now / bend * direction[i];
      residual[i] -= now / bend * made[i];
    }
    before = now;
  }
  throw std::runtime_error("the charges did not come to an equilibrium in " +
                           std::to_string(MOST_ITERATIONS) + " iterations");
}

}  // namespace nnpkit
