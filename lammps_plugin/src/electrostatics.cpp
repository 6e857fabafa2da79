#include "electrostatics.h"

#include "neighbor_graph.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace nnpkit {

namespace {

constexpr int MOST_ITERATIONS = 1000;
constexpr int MOST_ROUGHLY = 40;    // likewise, of those that prepare one
constexpr double ROUGHLY = 1.0e-2;  // how far these reduce the residual
constexpr double STRONG = 0.05;     // eV/e^2, of pairs that prepare; diagonals are a few hundred times that
constexpr double CONVERGED = 1.0e-12;  // of the residual, relative to the right side
constexpr double ENOUGH = 1.0e-2;      // of the accuracy of the sums

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

Electrostatics::Electrostatics(const ChargeInfo &info, double accuracy, double splitting, bool on_mesh,
                               int open, MPI_Comm world)
    : info(info), eta(splitting), accuracy(accuracy), world(world) {
  if (eta > 0.0)
    waves = on_mesh ? mesh_waves(eta, accuracy, world) : exact_waves(eta, steps(accuracy) / eta, world);
  if (open >= 0) {
    const double widest = *std::max_element(info.widths.begin(), info.widths.end());
    vacuum = std::make_unique<Vacuum>(open, widest, steps(accuracy) * eta, accuracy, world);
    waves = slab_waves(std::move(waves), open, info.widths, world);
  }
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
  pairs.push_back({first, second, x, y, z, COULOMB * slope});
  bare.push_back(COULOMB * value);
  partners.push_back(second);
  if (diagonal.empty() || std::abs(bare.back()) < STRONG) return;
  strong.push_back(bare.back());
  strong_partners.push_back(second);
}

void Electrostatics::set(const ChargedAtoms &given, const NeighborGraph &near) {
  atoms = given;
  if (vacuum) atoms.cell = vacuum->cell_of(atoms);
  const auto &centers = *atoms.centers, &species = *atoms.species;
  n_atoms = static_cast<double>(centers.size());
  MPI_Allreduce(MPI_IN_PLACE, &n_atoms, 1, MPI_DOUBLE, MPI_SUM, world);
  pairs.clear();
  screened_pairs.clear();
  rows.clear();
  bare.clear();
  partners.clear();
  strong_rows.clear();
  strong.clear();
  strong_partners.clear();
  if (!info.hardness.empty()) set_diagonal();
  if (eta > 0.0) {
    pairs.reserve(near.n_edges());
    for (int64_t a = 0; a < near.n_atoms(); a++) {
      for (int64_t e = near.offsets[a]; e < near.offsets[a + 1]; e++)
        add_pair(near.center[a], near.neighbor[e], static_cast<int>(near.types[a]),
                 static_cast<int>(near.neighbor_type[e]), near.edge_vec[3 * e], near.edge_vec[3 * e + 1],
                 near.edge_vec[3 * e + 2]);
      rows.push_back({near.center[a], pairs.size()});
      strong_rows.push_back({near.center[a], strong.size()});
    }
    volume = Lattice(atoms.cell).volume;
    waves->set(atoms);
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
  for (int a = 0; a < own; a++) {
    for (int b = 0; b < static_cast<int>(kinds.size()); b++) {
      const int at = own_start + a;
      if (b == at) continue;
      add_pair(centers[a], b, species[centers[a]], static_cast<int>(kinds[b]), axis[0][b] - axis[0][at],
               axis[1][b] - axis[1][at], axis[2][b] - axis[2][at]);
    }
    rows.push_back({centers[a], pairs.size()});
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

// What makes the average of the potential zero.
double Electrostatics::around(int atom, const std::array<double, 2> &total) const {
  const double width = info.widths[(*atoms.species)[atom]];
  return COULOMB * 2.0 * PI / volume * ((eta * eta - width * width) * total[0] - total[1]);
}

void Electrostatics::add_pairs(const std::vector<double> &charges, bool screened,
                               std::vector<double> &result) const {
  const std::vector<double> everywhere = eta > 0.0 ? std::vector<double>() : gather(charges);
  const std::vector<double> &others = eta > 0.0 ? charges : everywhere;
  size_t p = 0;
  for (const Row &row : rows) {
    double sum = 0.0;
    for (; p < row.end; p++) sum += bare[p] * others[partners[p]];
    result[row.atom] += sum;
  }
  if (!screened) return;
  for (const Screened &one : screened_pairs) {
    const Pair &pair = pairs[one.pair];
    result[pair.first] -= one.away * others[pair.second];
  }
}

void Electrostatics::add_strong_pairs(const std::vector<double> &charges, std::vector<double> &result) const {
  size_t p = 0;
  for (const Row &row : strong_rows) {
    double sum = 0.0;
    for (; p < row.end; p++) sum += strong[p] * charges[strong_partners[p]];
    result[row.atom] += sum;
  }
}

void Electrostatics::potential(const std::vector<double> &charges, bool screened,
                               std::vector<double> &result) {
  result.assign(atoms.n_all, 0.0);
  add_pairs(charges, screened, result);
  if (!waves) return;
  waves->field(charges, false, of_others);
  const std::array<double, 2> total = moments(charges);
  for (size_t a = 0; a < atoms.centers->size(); a++) {
    const int i = (*atoms.centers)[a];
    result[i] += waves->at(a, of_others, false, false).value - self() * charges[i] - around(i, total);
  }
}

void Electrostatics::add_forces(const std::vector<double> &charges, const ChargeSums &sums,
                                std::vector<double> &result) {
  result.assign(atoms.n_all, 0.0);
  add_pairs(charges, true, result);
  add_forces_of_pairs(charges, charges, 0.5, true, sums);
  if (!waves) return;
  waves->field(charges, sums.virial || sums.atom_virials, of_charges);
  add_forces_of_waves(charges, charges, 0.5, of_charges, of_charges, sums, &result);
}

void Electrostatics::add_response(const std::vector<double> &u, const std::vector<double> &charges,
                                  const ChargeSums &sums) {
  add_forces_of_pairs(u, charges, -1.0, false, sums);
  if (!waves) return;
  waves->field(u, sums.virial || sums.atom_virials, of_others);
  add_forces_of_waves(u, charges, -1.0, of_others, of_charges, sums, nullptr);
}

void Electrostatics::add_forces_of_pairs(const std::vector<double> &u, const std::vector<double> &v,
                                         double factor, bool screened, const ChargeSums &sums) const {
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
  for (const Pair &pair : pairs) add(pair, pair.slope);
  if (screened)
    for (const Screened &one : screened_pairs) add(pairs[one.pair], -one.away_slope);
}

// Adds what waves have of u^T A v; with `result`, where v is u, A v too.
void Electrostatics::add_forces_of_waves(const std::vector<double> &u, const std::vector<double> &v,
                                         double factor, const std::vector<double> &of_u,
                                         const std::vector<double> &of_v, const ChargeSums &sums,
                                         std::vector<double> *result) {
  const bool same = &u == &v, stretches = sums.virial || sums.atom_virials;
  const std::array<double, 2> total_v = moments(v), total_u = same ? total_v : moments(u);
  for (size_t a = 0; a < atoms.centers->size(); a++) {
    const int i = (*atoms.centers)[a];
    const WaveSums by_v = waves->at(a, of_v, true, stretches);
    const WaveSums by_u = same ? by_v : waves->at(a, of_u, true, stretches);
    const double value_v = by_v.value - around(i, total_v);
    if (result) (*result)[i] += value_v - self() * v[i];
    double *const force = sums.forces + 3 * static_cast<size_t>(i);
    for (int k = 0; k < 3; k++) force[k] -= factor * (u[i] * by_v.slope[k] + v[i] * by_u.slope[k]);
    const double flat = 0.5 * (u[i] * value_v + v[i] * (by_u.value - around(i, total_u)));
    for (int n = 0; n < 6 && stretches; n++) {
      const double stretch = 0.5 * (u[i] * by_v.stretch[n] + v[i] * by_u.stretch[n]);
      const double w = -factor * (stretch - (n < 3 ? flat : 0.0));
      if (sums.virial) sums.virial[n] += w;
      if (sums.atom_virials) sums.atom_virials[6 * static_cast<size_t>(i) + n] += w;
    }
  }
}

/* ---- charges in equilibrium --------------------------------------------------------------------------- */

void Electrostatics::set_diagonal() {
  diagonal.assign(atoms.n_all, 1.0);
  for (const int i : *atoms.centers) {
    const int t = (*atoms.species)[i];
    diagonal[i] = COULOMB / (info.widths[t] * std::sqrt(PI)) + info.hardness[t];
  }
  if (eta == 0.0) return;
  if (!coarse) {
    coarse = std::make_unique<CoarseWaves>(eta, world);
    longest = std::make_unique<LongWaves>(eta, world);
  }
  coarse->set(atoms);
  longest->set(atoms, diagonal);
}

double Electrostatics::product(const std::vector<double> &a, const std::vector<double> &b) const {
  double total = 0.0;
  for (const int i : *atoms.centers) total += a[i] * b[i];
  MPI_Allreduce(MPI_IN_PLACE, &total, 1, MPI_DOUBLE, MPI_SUM, world);
  return total;
}

// About what has to be added for the residual to go: with strong pairs and waves from a coarse mesh,
// conjugate gradients that the diagonal and the longest waves prepare. Where waves cost nothing, as there are
// none, one step of them.
void Electrostatics::prepare(const std::vector<double> &residual, double enough, const ToGhosts &to_ghosts,
                             std::vector<double> &result) {
  const auto &centers = *atoms.centers;
  std::vector<double> left = residual, direction(atoms.n_all, 0.0), prepared(atoms.n_all, 0.0), made;
  result.assign(atoms.n_all, 0.0);
  const double small = enough * enough * product(residual, residual);
  double before = 0.0;
  for (int n = 0; n < MOST_ROUGHLY; n++) {
    if (longest)
      longest->solve(left, prepared);
    else
      for (const int i : centers) prepared[i] = left[i] / diagonal[i];
    remove_mean(prepared, 0.0);
    if (!coarse) return result.swap(prepared);
    const double now = product(left, prepared);
    for (const int i : centers) direction[i] = prepared[i] + (n > 0 ? now / before : 0.0) * direction[i];
    to_ghosts(direction);
    made.assign(atoms.n_all, 0.0);
    add_strong_pairs(direction, made);
    coarse->add(direction, made);
    roughly++;
    for (const int i : centers) made[i] += (diagonal[i] - self()) * direction[i];
    remove_mean(made, 0.0);
    const double bend = product(direction, made);
    if (!(bend > 0.0)) return n > 0 ? void() : result.swap(prepared);
    for (const int i : centers) {
      result[i] += now / bend * direction[i];
      left[i] -= now / bend * made[i];
    }
    before = now;
    if (!(product(left, left) > small)) return;
  }
}

// Conjugate gradients among the vectors of sum zero. What prepares them is never the same, so that a
// direction is made conjugate by how the residual has changed.
std::vector<double> Electrostatics::solve(const std::vector<double> &right, double total,
                                          const std::vector<double> &start, const ToGhosts &to_ghosts,
                                          int64_t &products) {
  const auto &centers = *atoms.centers;
  std::vector<double> x(atoms.n_all, 0.0), residual(atoms.n_all, 0.0), made;
  for (const int i : centers) x[i] = start.empty() ? 0.0 : start[i];
  remove_mean(x, total);
  const auto apply = [&](std::vector<double> &values) {
    to_ghosts(values);
    potential(values, false, made);
    for (const int i : centers) made[i] += diagonal[i] * values[i];
    remove_mean(made, 0.0);
    products++;
  };
  std::vector<double> wanted = right;
  remove_mean(wanted, 0.0);
  apply(x);
  for (const int i : centers) residual[i] = wanted[i] - made[i];
  std::vector<double> direction(atoms.n_all, 0.0), prepared, change(atoms.n_all, 0.0);
  double before = 0.0;
  // charges that only the total charge decides are as accurate
  for (const int i : centers) direction[i] = diagonal[i] * total / n_atoms;
  const double enough = std::max(CONVERGED, ENOUGH * accuracy);
  const double small = enough * enough * std::max(product(wanted, wanted), product(direction, direction));
  for (int n = 0; n < MOST_ITERATIONS; n++) {
    const double size = product(residual, residual);
    if (!(size > small)) {
      to_ghosts(x);
      return x;
    }
    prepare(residual, std::max(ROUGHLY, 0.5 * std::sqrt(small / size)), to_ghosts, prepared);
    const double now = product(residual, prepared), anew = n > 0 ? product(change, prepared) : 0.0;
    for (const int i : centers) direction[i] = prepared[i] + (n > 0 ? anew / before : 0.0) * direction[i];
    apply(direction);
    const double bend = product(direction, made), along = product(direction, residual);
    if (!(bend > 0.0)) throw std::runtime_error("the charges have no equilibrium: atoms are too close");
    for (const int i : centers) {
      x[i] += along / bend * direction[i];
      change[i] = -along / bend * made[i];
      residual[i] += change[i];
    }
    before = now;
  }
  throw std::runtime_error("the charges did not come to an equilibrium in " +
                           std::to_string(MOST_ITERATIONS) + " iterations");
}

}  // namespace nnpkit
