#include "cluster_rows.h"

#include <algorithm>
#include <climits>
#include <stdexcept>

namespace nnpkit {
namespace cluster {

namespace {

constexpr double FAR = 1.0e3;  // angstrom, behind every cutoff

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("expansion: " + what);
}

}  // namespace

RowsStages rows_stages_of(Isa isa) {
  RowsStages stages{};
#ifndef NNPKIT_ONLY_PORTABLE
  if (isa == Isa::AVX512) return avx512::cluster_rows_stages(stages), stages;
  if (isa == Isa::AVX2) return avx2::cluster_rows_stages(stages), stages;
#endif
  portable::cluster_rows_stages(stages);
  return stages;
}

ExpansionTraining::ExpansionTraining(const Json &spec, Isa isa)
    : name(isa_name(isa)), stages(rows_stages_of(isa)), description(spec), plan(description.plan) {
  const int64_t t = plan.n_types, rows = plan.n_rows, wide = plan.angular.by_channel(),
                radial_wide = plan.radial.by_channel(), k = plan.angular.by_function(),
                radial_k = plan.radial.by_function(), derivatives = plan.invariants.n_derivatives;
  site.width = padded(plan.n_features) + EIGHT;  // invariants are written eight channels at a time
  site.widest = description.widest + EIGHT;
  site.all_nodes = description.most_nodes;
  struct Part {
    double **array;
    int64_t size;
  };
  const int64_t nodes = site.all_nodes;
  const Part parts[] = {
      {&site.radial_moments, t * radial_k},
      {&site.moments, t * rows * k},
      {&site.sums, radial_wide},
      {&site.coefficients, (plan.n_harmonics + 1) * wide},
      {&site.invariants, plan.invariants.n * wide},
      {&site.derivatives, derivatives * wide},
      {&site.curvatures, plan.n_curvatures * wide},
      {&site.slope, rows * wide},
      {&site.inputs, site.width},
      {&site.features, site.width},
      {&site.feature_slope, site.width + wide},
      {&site.node, nodes},
      {&site.first, nodes},
      {&site.second, nodes},
      {&site.adjoint, nodes},
      {&site.change, BATCH * rows * wide},
      {&site.change_radial, BATCH * radial_wide},
      {&site.tangents, BATCH * site.width + wide},
      {&site.back, BATCH * site.width + wide},
      {&site.node_change, 2 * BATCH * nodes},
      {&site.node_back, BATCH * site.widest},
      {&site.through, BATCH * rows * wide},
      {&site.by_radial, BATCH * t * radial_wide * radial_k},
      {&site.by_angular, BATCH * t * wide * k},
      {&site.strained, rows * k},
      {&site.strained_radial, radial_k},
      {&site.values, BATCH},
  };
  int64_t total = 0;
  for (const Part &part : parts) total += (part.size + EIGHT - 1) / EIGHT * EIGHT;
  double *at = center_memory.room(total);  // zeroed
  for (const Part &part : parts) {
    *part.array = at;
    at += (part.size + EIGHT - 1) / EIGHT * EIGHT;
  }
  std::fill_n(site.coefficients + plan.n_harmonics * wide, wide, 1.0);
  counts.resize(3 * static_cast<size_t>(plan.n_types));
  site.begin = counts.data();
  site.n_all = site.begin + plan.n_types;
  site.n_near = site.n_all + plan.n_types;
}

void ExpansionTraining::set(const nnpkit_expansion_weights &given) {
  const int n_types = plan.n_types;
  struct Where {
    size_t radial, angular;
    std::vector<size_t> layers;
  };
  std::vector<Where> where(n_types);
  const int64_t n_scaling = static_cast<int64_t>(n_types) * plan.n_features;
  scaling.assign(given.shift, given.shift + n_scaling);
  scaling.insert(scaling.end(), given.factor, given.factor + n_scaling);
  weights.clear();
  layers.clear();
  centers.assign(n_types, {});
  const double *at = given.parameters;
  const auto mixing =
      [&](const Radial &radial) {  // (types, channels, functions) -> (types, functions, padded)
        const size_t first = weights.size(), n = radial.basis.n, wide = radial.by_channel();
        weights.resize(first + n_types * n * wide, 0.0);
        for (int t = 0; t < n_types; t++)
          for (int c = 0; c < radial.n_channels; c++)
            for (size_t q = 0; q < n; q++) weights[first + (t * n + q) * wide + c] = *at++;
        return first;
      };
  for (Where &own : where) own.radial = mixing(plan.radial);
  for (Where &own : where) own.angular = mixing(plan.angular);
  int64_t row = at - given.parameters;
  for (size_t t = 0; t < description.networks.size(); t++)
    for (const RowsDescription::Layer &layer : description.networks[t]) {
      const size_t first = weights.size(), n_in = layer.n_in, n_out = layer.n_out,
                   wide_in = padded(layer.n_in), wide_out = padded(layer.n_out);
      weights.resize(first + n_out * wide_in + (n_in + 1) * wide_out, 0.0);
      double *const weight = weights.data() + first, *const transposed = weight + n_out * wide_in,
                    *const bias = transposed + n_in * wide_out;
      for (size_t o = 0; o < n_out; o++)
        for (size_t i = 0; i < n_in; i++) weight[o * wide_in + i] = transposed[i * wide_out + o] = *at++;
      for (size_t o = 0; o < n_out; o++) bias[o] = *at++;
      where[t].layers.push_back(first);
      layers.push_back({layer.n_in, layer.n_out, layer.activation, nullptr, nullptr, nullptr, row,
                        row + static_cast<int64_t>(n_out * n_in)});
      row += static_cast<int64_t>(n_out * (n_in + 1));
    }
  weights.resize(weights.size() + acsf::PADDING, 0.0);
  const int64_t by_radial = static_cast<int64_t>(n_types) * plan.radial.n_channels * plan.radial.basis.n,
                by_angular = static_cast<int64_t>(n_types) * plan.angular.n_channels * plan.angular.basis.n;
  size_t next = 0;
  for (int t = 0; t < n_types; t++) {
    RowsCenter &center = centers[t];
    const double *const shift = scaling.data() + static_cast<int64_t>(t) * plan.n_features;
    center = {weights.data() + where[t].radial,
              weights.data() + where[t].angular,
              shift,
              shift + static_cast<int64_t>(n_types) * plan.n_features,
              given.lower,
              given.energy_scale,
              static_cast<int>(where[t].layers.size()),
              layers.data() + next,
              t * by_radial,
              n_types * by_radial + t * by_angular};
    for (const size_t first : where[t].layers) {
      RowsLayer &layer = layers[next++];
      layer.weight = weights.data() + first;
      layer.transposed = layer.weight + static_cast<int64_t>(layer.n_out) * padded(layer.n_in);
      layer.bias = layer.transposed + static_cast<int64_t>(layer.n_in) * padded(layer.n_out);
    }
  }
}

void ExpansionTraining::check(const nnpkit_edges &edges, int64_t least) const {
  const int64_t n = edges.n_atoms, *const offsets = edges.offsets;
  if (centers.empty()) fail("no weights");
  if (n < 0 || offsets[0] != 0 || offsets[n] != edges.n_edges || !std::is_sorted(offsets, offsets + n + 1))
    fail("offsets do not divide the edges");
  for (int64_t i = 0; i < n; i++) {
    if (edges.types[i] < least || edges.types[i] >= plan.n_types) fail("an atom of unknown type");
    if (offsets[i + 1] - offsets[i] > INT_MAX / 64) fail("an atom with too many neighbours");
  }
  for (int64_t e = 0; e < edges.n_edges; e++)
    if (edges.neighbor_type[e] < 0 || edges.neighbor_type[e] >= plan.n_types)
      fail("a neighbour of unknown type");
}

void ExpansionTraining::make_room(int n_edges) {
  if (site.capacity >= n_edges + EIGHT) return;
  const int64_t n = site.capacity = (n_edges + n_edges / 4 + 2 * EIGHT) / EIGHT * EIGHT;
  const int64_t rows = plan.n_rows, k = plan.angular.by_function(), radial_k = plan.radial.by_function();
  struct Part {
    double **array;
    int64_t each;
  };
  const Part parts[] = {
      {&site.x, 1},
      {&site.y, 1},
      {&site.z, 1},
      {&site.unit, 3},
      {&site.inverse, 1},
      {&site.radial, radial_k},
      {&site.radial_slope, radial_k},
      {&site.angular, k},
      {&site.angular_slope, k},
      {&site.radial_mixed, plan.radial.by_channel()},
      {&site.mixed, plan.angular.by_channel()},
      {&site.mixed_slope, plan.angular.by_channel()},
      {&site.harmonics, rows},
      {&site.turns, 3 * rows},
      {&site.stretched, rows},
      {&site.turned, rows},
      {&site.gradient, 3},
  };
  // of a vector of edges the functions, their slopes and combinations, or harmonics and derivatives; or one
  // of each
  const int64_t lanes = std::max<int64_t>(n, EIGHT * std::max({4 * rows, 4 * k, 4 * radial_k}));
  int64_t total = lanes;
  for (const Part &part : parts) total += part.each * n;
  double *at = edge_memory.room(total);
  for (const Part &part : parts) {
    *part.array = at;
    at += part.each * n;
  }
  site.lanes = at;
  order.resize(n);
  changes.resize(3 * n);
}

void ExpansionTraining::gather(const nnpkit_edges &edges, int64_t atom) {
  const int64_t begin = edges.offsets[atom], n = edges.offsets[atom + 1] - begin;
  make_room(static_cast<int>(n));
  const double *const vec = edges.edge_vec + 3 * begin;
  const int64_t *const type = edges.neighbor_type + begin;
  const double inner = plan.angular.basis.cutoff * plan.angular.basis.cutoff;
  const double cutoff = std::max(plan.angular.basis.cutoff, plan.radial.basis.cutoff),
               outer = cutoff * cutoff;
  std::fill(counts.begin(), counts.end(), 0);
  int *const first = counts.data(), *const all = first + plan.n_types, *const near = all + plan.n_types;
  const auto square = [&](int64_t e) {
    return vec[3 * e] * vec[3 * e] + vec[3 * e + 1] * vec[3 * e + 1] + vec[3 * e + 2] * vec[3 * e + 2];
  };
  site.n_edges = 0;
  for (int t = 0; t < plan.n_types; t++) {
    first[t] = site.n_edges;
    for (const bool close : {true, false}) {
      for (int64_t e = 0; e < n; e++) {
        const double r2 = square(e);
        if (type[e] != t || (r2 < inner) != close || !(r2 < outer)) continue;
        const int at = site.n_edges++;
        site.x[at] = vec[3 * e];
        site.y[at] = vec[3 * e + 1];
        site.z[at] = vec[3 * e + 2];
        order[at] = static_cast<int>(e);
      }
      if (close) near[t] = site.n_edges - first[t];
    }
    all[t] = site.n_edges - first[t];
  }
  for (int at = site.n_edges; at < site.n_edges + EIGHT; at++) {
    site.x[at] = FAR;
    site.y[at] = site.z[at] = 0.0;
  }
}

void ExpansionTraining::features(const nnpkit_edges &edges, double *features) {
  check(edges, 0);
  for (int64_t i = 0; i < edges.n_atoms; i++) {
    gather(edges, i);
    stages.functions(plan, site);
    stages.describe(plan, centers[edges.types[i]], site);
    std::copy_n(site.features, plan.n_features, features + i * plan.n_features);
  }
}

void ExpansionTraining::flush(const RowsCenter &center) {
  if (n_waiting == 0) return;
  stages.finish(plan, center, site, n_waiting, waiting[0] ? waiting : nullptr);
  for (int slot = 0; slot < n_waiting; slot++) *waiting_value[slot] += site.values[slot];
  n_waiting = 0;
}

void ExpansionTraining::push(const RowsCenter &center, double *row, double *value) {
  waiting[n_waiting] = row;
  waiting_value[n_waiting] = value;
  if (++n_waiting == BATCH) flush(center);
}

void ExpansionTraining::move(const RowsCenter &center, const nnpkit_edges &edges, const int64_t *neighbor,
                             int64_t atom, const nnpkit_expansion_rows &wanted) {
  const int64_t first_edge = edges.offsets[atom], n_parameters = description.n_parameters;
  const auto row = [&](int64_t value) {
    return wanted.rows ? wanted.rows + ((wanted.with_energy ? 1 : 0) + value) * n_parameters : nullptr;
  };
  const auto all_edges = [&](int64_t value, const auto &change) {
    for (int e = 0; e < site.n_edges; e++) change(e, changes.data() + 3 * e);
    stages.move_all(plan, center, site, n_waiting, changes.data());
    push(center, row(value), wanted.values + value);
  };
  for (const int64_t move : moves_of[atom])  // away from its neighbours, but not from its own images
    all_edges(move, [&](int e, double *change) {
      change[0] = change[1] = change[2] = 0.0;
      if (neighbor[first_edge + order[e]] != atom) change[wanted.axes[move]] = 1.0;
    });
  for (int t = 0; t < plan.n_types; t++) {
    const int end = site.begin[t] + site.n_all[t];
    for (int e = site.begin[t]; e < end; e++) {
      const int64_t other = neighbor[first_edge + order[e]];
      if (other == atom || moves_of[other].empty()) continue;
      near_edges.clear();  // all those to this neighbour, when the first one of them is there
      for (int k = site.begin[t]; k < end; k++)
        if (neighbor[first_edge + order[k]] == other) near_edges.push_back(k);
      if (near_edges[0] != e) continue;
      for (const int64_t move : moves_of[other]) {
        std::fill_n(changes.begin(), 3 * near_edges.size(), 0.0);
        for (size_t k = 0; k < near_edges.size(); k++) changes[3 * k + wanted.axes[move]] = -1.0;
        stages.move_some(plan, center, site, n_waiting, t, near_edges.data(),
                         static_cast<int>(near_edges.size()), changes.data());
        push(center, row(move), wanted.values + move);
      }
    }
  }
  for (int64_t n = 0; n < wanted.n_fields; n++) {
    const double *const field = wanted.fields + 3 * n * edges.n_atoms;
    all_edges(wanted.n_moves + n, [&](int e, double *change) {
      const int64_t other = neighbor[first_edge + order[e]];
      for (int axis = 0; axis < 3; axis++) change[axis] = field[3 * atom + axis] - field[3 * other + axis];
    });
  }
  if (wanted.with_virial)
    for (int n = 0; n < 6; n++) {
      const int a = wanted.strains[2 * n], b = wanted.strains[2 * n + 1];
      all_edges(wanted.n_moves + wanted.n_fields + n, [&](int e, double *change) {
        const double vec[3] = {site.x[e], site.y[e], site.z[e]};
        change[0] = change[1] = change[2] = 0.0;
        change[b] -= 0.5 * vec[a];
        change[a] -= 0.5 * vec[b];
      });
    }
  flush(center);
}

void ExpansionTraining::add_gradient(const int64_t *neighbor, int64_t atom,
                                     const nnpkit_expansion_rows &wanted) {
  for (int e = 0; e < site.n_edges; e++) {
    const double *const gradient = site.gradient + 3 * e, vec[3] = {site.x[e], site.y[e], site.z[e]};
    double *const own = wanted.forces + 3 * atom, *const other = wanted.forces + 3 * neighbor[order[e]];
    for (int b = 0; b < 3; b++) {
      own[b] += gradient[b];
      other[b] -= gradient[b];
      for (int a = 0; a < 3; a++) wanted.virial[3 * a + b] -= vec[a] * gradient[b];
    }
  }
}

void ExpansionTraining::measure(const nnpkit_edges &edges, const int64_t *neighbor,
                                const nnpkit_expansion_rows &wanted) {
  check(edges, -1);
  if (description.networks.empty()) fail("no networks");
  for (int64_t e = 0; e < edges.n_edges; e++)
    if (neighbor[e] < 0 || neighbor[e] >= edges.n_atoms) fail("a neighbour that is not there");
  moves_of.assign(edges.n_atoms, {});
  for (int64_t n = 0; n < wanted.n_moves; n++) {
    if (wanted.atoms[n] < 0 || wanted.atoms[n] >= edges.n_atoms || wanted.axes[n] < 0 || wanted.axes[n] > 2)
      fail("a force that is not there");
    moves_of[wanted.atoms[n]].push_back(n);
  }
  const int64_t n_values = wanted.n_moves + wanted.n_fields + (wanted.with_virial ? 6 : 0);
  if (wanted.values) std::fill_n(wanted.values, n_values, 0.0);
  if (wanted.forces) {
    std::fill_n(wanted.forces, 3 * edges.n_atoms, 0.0);
    std::fill_n(wanted.virial, 9, 0.0);
  }
  *wanted.energy = 0.0;
  for (int64_t i = 0; i < edges.n_atoms; i++) {
    if (edges.types[i] < 0) continue;
    const RowsCenter &center = centers[edges.types[i]];
    gather(edges, i);
    stages.functions(plan, site);
    stages.describe(plan, center, site);
    stages.energy(plan, center, site);
    *wanted.energy += site.energy;
    if (wanted.rows && wanted.with_energy) stages.energy_row(plan, center, site, wanted.rows);
    const bool some = wanted.values && n_values > 0;
    if (some || wanted.forces) stages.mix_edges(plan, center, site);
    if (wanted.forces) {
      stages.gradient(plan, center, site);
      add_gradient(neighbor + edges.offsets[i], i, wanted);
    }
    if (!some) continue;
    if (wanted.rows) stages.curvature(plan, center, site);
    move(center, edges, neighbor, i, wanted);
  }
}

}  // namespace cluster
}  // namespace nnpkit
