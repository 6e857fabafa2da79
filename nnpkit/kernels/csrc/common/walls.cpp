#include "walls.h"

#include <algorithm>
#include <utility>

namespace nnpkit {

namespace {

EvaluateCurves *curves_of(Isa isa) {
#ifndef NNPKIT_ONLY_PORTABLE
  if (isa == Isa::AVX512) return avx512::evaluate_curves;
  if (isa == Isa::AVX2) return avx2::evaluate_curves;
#endif
  (void)isa;
  return portable::evaluate_curves;
}

// The pairs of one atom that are so close that they repel each other.
class ClosePairs {
 public:
  // How many there are; found without branches, as nobody can foretell which pairs are close.
  int64_t find(const Wall &wall, const Edges &edges, int64_t i) {
    const int64_t a = edges.types[i], first = edges.offsets[i], last = edges.offsets[i + 1];
    reserve(last - first + WALL_BATCH);
    const double *const outer = wall.outer_squares(a);
    int64_t *const edge = edge_of.data();
    double *const square = square_of.data();
    int64_t n = 0;
    for (int64_t e = first; e < last; e++) {
      const double *const v = edges.edge_vec + 3 * e;
      const double squared = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
      edge[n] = e;
      square[n] = squared;
      n += squared < outer[edges.neighbor_type[e]];
    }
    return n;
  }

  // Energies and slopes of the n pairs that were found.
  void evaluate(const Wall &wall, const Edges &edges, int64_t a, int64_t n, EvaluateCurves *evaluate_curves) {
    others.clear();
    int *const first = first_of.data();
    double *const begin = begin_of.data(), *const inverse_step = inverse_step_of.data();
    const double *const square = square_of.data();
    for (int64_t k = 0; k < n; k++) {
      const WallCurve *const curve = wall.curve(a, edges.neighbor_type[edge_of[k]]);
      const bool held = curve && square[k] >= curve->begin && square[k] < curve->end;
      const WallCurve::Part part =
          held ? square[k] < curve->middle ? curve->inside : curve->switched : WallCurve::Part{};
      if (!held) others.push_back(k);
      first[k] = part.first;
      begin[k] = part.begin;
      inverse_step[k] = part.inverse_step;
    }
    if (static_cast<int64_t>(others.size()) < n) {
      const int64_t padded = (n + WALL_BATCH - 1) / WALL_BATCH * WALL_BATCH;
      for (int64_t k = n; k < padded; k++) square_of[k] = begin[k] = inverse_step[k] = first[k] = 0;
      evaluate_curves(wall.curve_coefficients(), {square, begin, inverse_step, first}, padded,
                      energies.data(), slopes.data());
    }
    for (const int64_t k : others)
      energies[k] = wall.energy(a, edges.neighbor_type[edge_of[k]], square_of[k], slopes[k]);
  }

  std::vector<int64_t> edge_of;
  std::vector<double> energies, slopes;  // eV, eV/angstrom^2

 private:
  void reserve(size_t n) {
    if (edge_of.size() >= n) return;
    edge_of.resize(n);
    first_of.resize(n);
    for (auto *const each : {&square_of, &begin_of, &inverse_step_of, &energies, &slopes}) each->resize(n);
  }

  std::vector<int> first_of;                                 // of the coefficients of a curve
  std::vector<double> square_of, begin_of, inverse_step_of;  // angstrom^2, angstrom^2, angstrom^-2
  std::vector<int64_t> others;                               // that no curve holds
};

}  // namespace

Walls::Walls(Isa isa) : evaluate_curves(curves_of(isa)) {}

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

void Walls::add(const Edges &edges, bool mean_only, const Results &results) const {
  for (int64_t i = 0; i < edges.n_atoms; i++) add_atom(i, edges, mean_only, results);
}

void Walls::add_atom(int64_t i, const Edges &edges, bool mean_only, const Results &results) const {
  for (const Group &group : groups) add_group(group, i, edges, mean_only, results);
}

void Walls::add_group(const Group &group, int64_t i, const Edges &edges, bool mean_only,
                      const Results &results) const {
  static const std::vector<int> FIRST(1, 0);
  static thread_local ClosePairs thread_close;
  const int64_t a = edges.types[i];
  if (a < 0) return;
  ClosePairs &close = thread_close;
  const int64_t n = close.find(group.wall, edges, i);
  close.evaluate(group.wall, edges, a, n, evaluate_curves);
  const int n_rows = mean_only ? 1 : n_members;
  const double share = mean_only ? static_cast<double>(group.members.size()) / n_members : 1.0;
  const std::vector<int> &rows = mean_only ? FIRST : group.members;
  double sum = 0.0;
  const double *const slopes = close.slopes.data(), *const energies = close.energies.data();
  for (int64_t k = 0; k < n; k++) {
    const int64_t e = close.edge_of[k];
    const double *const v = edges.edge_vec + 3 * e;
    const double along = 2.0 * share * slopes[k];
    sum += energies[k];
    double *const to = results.gradient + 3 * (e - edges.offsets[0]) * n_rows;
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
