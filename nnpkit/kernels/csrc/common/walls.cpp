#include "walls.h"

#include <algorithm>
#include <utility>

namespace nnpkit {

namespace {

struct Functions {
  FindClose *find_close;
  EvaluateCurves *evaluate_curves;
};

Functions functions_of(Isa isa) {
#ifndef NNPKIT_ONLY_PORTABLE
  if (isa == Isa::AVX512) return {avx512::find_close, avx512::evaluate_curves};
  if (isa == Isa::AVX2) return {avx2::find_close, avx2::evaluate_curves};
#endif
  (void)isa;
  return {portable::find_close, portable::evaluate_curves};
}

}  // namespace

// The pairs of one atom that are so close that they repel each other.
class Walls::ClosePairs {
 public:
  explicit ClosePairs(Isa isa) : functions(functions_of(isa)) {}

  // How many there are.
  int64_t find(const Wall &wall, const Edges &edges, int64_t i) {
    const int64_t first = edges.offsets[i], n = edges.offsets[i + 1] - first;
    reserve(n + WALL_BATCH);
    return functions.find_close(edges.edge_vec + 3 * first, edges.neighbor_type + first, n,
                                wall.outer_squares(edges.types[i]), wall.n_elements(), edge_of.data(),
                                square_of.data());
  }

  // Energies and slopes of the n pairs that were found.
  void evaluate(const Wall &wall, const Edges &edges, int64_t i, int64_t n) {
    const int64_t a = edges.types[i];
    const int64_t *const types = edges.neighbor_type + edges.offsets[i];
    const int *const curve_of = wall.curves_of(a);
    bool held = curve_of != nullptr;
    if (curve_of) {
      int *const first = first_of.data();
      double *const begin = begin_of.data(), *const inverse_step = inverse_step_of.data();
      double *const square = square_of.data();
      for (int64_t k = 0; k < n; k++) {
        const WallCurve &curve = wall.all_curves()[curve_of[types[edge_of[k]]]];
        first[k] = curve.first;
        begin[k] = curve.begin;
        inverse_step[k] = curve.inverse_step;
        held &= square[k] >= curve.begin;
      }
      if (held) {
        const int64_t padded = (n + WALL_BATCH - 1) / WALL_BATCH * WALL_BATCH;
        for (int64_t k = n; k < padded; k++) square[k] = begin[k] = inverse_step[k] = first[k] = 0;
        functions.evaluate_curves(wall.curve_coefficients(), {square, begin, inverse_step, first}, padded,
                                  energies.data(), slopes.data());
      }
    }
    // a pair before its curve is rare
    for (int64_t k = 0; k < n && !held; k++)
      energies[k] = wall.energy(a, types[edge_of[k]], square_of[k], slopes[k]);
  }

  std::vector<int> edge_of;              // of those of the atom
  std::vector<double> energies, slopes;  // eV, eV/angstrom^2

 private:
  void reserve(size_t n) {
    if (edge_of.size() >= n) return;
    edge_of.resize(n);
    first_of.resize(n);
    for (auto *const each : {&square_of, &begin_of, &inverse_step_of, &energies, &slopes}) each->resize(n);
  }

  const Functions functions;
  std::vector<int> first_of;                                 // of the coefficients of a curve
  std::vector<double> square_of, begin_of, inverse_step_of;  // angstrom^2, angstrom^2, angstrom^-2
};

Walls::Walls(Isa isa) : close(std::make_unique<ClosePairs>(isa)) {}

Walls::~Walls() = default;

void Walls::push_back(const std::string &metadata) {
  Wall wall(metadata);
  const int member = n_members++;
  for (Group &group : groups)
    if (group.wall == wall) {
      group.members.push_back(member);
      return;
    }
  if (!wall.empty()) groups.push_back({std::move(wall), {member}});
}

void Walls::add(const Edges &edges, bool mean_only, const Results &results) {
  for (int64_t i = 0; i < edges.n_atoms; i++) add_atom(i, edges, mean_only, results);
}

void Walls::add_atom(int64_t i, const Edges &edges, bool mean_only, const Results &results) {
  if (edges.types[i] < 0) return;
  for (const Group &group : groups) add_group(group, i, edges, mean_only, results);
}

void Walls::add_group(const Group &group, int64_t i, const Edges &edges, bool mean_only,
                      const Results &results) {
  static const std::vector<int> FIRST(1, 0);
  const int64_t n = close->find(group.wall, edges, i);
  close->evaluate(group.wall, edges, i, n);
  const int n_rows = mean_only ? 1 : n_members;
  const double share = mean_only ? static_cast<double>(group.members.size()) / n_members : 1.0;
  const std::vector<int> &rows = mean_only ? FIRST : group.members;
  double sum = 0.0;
  const double *const slopes = close->slopes.data(), *const energies = close->energies.data();
  const int *const edge_of = close->edge_of.data();
  const double *const vec = edges.edge_vec + 3 * edges.offsets[i];
  double *const gradient = results.gradient + 3 * (edges.offsets[i] - edges.offsets[0]) * n_rows;
  for (int64_t k = 0; k < n; k++) {
    const double *const v = vec + 3 * static_cast<int64_t>(edge_of[k]);
    const double along = 2.0 * share * slopes[k];
    sum += energies[k];
    double *const to = gradient + 3 * static_cast<int64_t>(edge_of[k]) * n_rows;
    if (n_rows == 1) {
      for (int c = 0; c < 3; c++) to[c] += along * v[c];
    } else {
      for (const int row : rows)
        for (int c = 0; c < 3; c++) to[c * n_rows + row] += along * v[c];
    }
  }
  for (const int row : rows) results.atomic_energy[i * n_rows + row] += share * sum;
}

}  // namespace nnpkit
