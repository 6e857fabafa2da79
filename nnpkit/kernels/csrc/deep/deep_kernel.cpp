// Deep Potentials: screening -> environment rows -> tables -> fitting networks -> gradient, block by block.

#include "deep_member.h"

#include "json.h"
#include "walls.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

namespace nnpkit {
namespace deep {

namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <typename Real>
const Stages<Real> &stages_of(Isa isa);
template <>
const Stages<double> &stages_of(Isa isa) {
#if !defined(NNPKIT_ONLY_PORTABLE)
  if (isa == Isa::AVX512) return avx512::stages_double();
  if (isa == Isa::AVX2) return avx2::stages_double();
#endif
  return (void)isa, portable::stages_double();
}
template <>
const Stages<float> &stages_of(Isa isa) {
#if !defined(NNPKIT_ONLY_PORTABLE)
  if (isa == Isa::AVX512) return avx512::stages_float();
  if (isa == Isa::AVX2) return avx2::stages_float();
#endif
  return (void)isa, portable::stages_float();
}

// Neighbours of one element around the atoms of a block, with memory for all that `Rows` points to.
template <typename Real>
struct Neighbors {
  int64_t n = 0;
  int64_t first[MAX_ATOMS + 1];
  Buffer<int64_t> edge;  // index into the caller's edges
  Buffer<double> vec[3], argument;
  Buffer<Real> row[4], p, q, w, t;
  Buffer<int32_t> interval;
  Rows<Real> rows{};

  void reserve(size_t wanted) {
    room_for(edge, wanted);
    for (auto &part : vec) room_for(part, wanted);
  }

  // Fills the padding with harmless neighbours and points `rows` to everything.
  void finish(double harmless) {
    const size_t padded = (n + ROW_PADDING - 1) / ROW_PADDING * ROW_PADDING;
    rows.n = n;
    for (int k = 0; k < 3; k++) {
      std::fill(vec[k].begin() + n, vec[k].begin() + padded, harmless);
      rows.vec[k] = vec[k].data();
    }
    for (int k = 0; k < 4; k++) rows.row[k] = room_for(row[k], padded);
    rows.argument = room_for(argument, padded);
    rows.p = room_for(p, padded);
    rows.q = room_for(q, padded);
    rows.w = room_for(w, padded);
    rows.t = room_for(t, padded);
    rows.interval = room_for(interval, padded);
  }
};

template <typename Real>
class DeepKernel : public Kernel {
 public:
  DeepKernel(const std::vector<KernelInput> &inputs, Isa isa) : stages(stages_of<Real>(isa)), walls(isa) {
    members.reserve(inputs.size());
    for (const KernelInput &input : inputs) {
      members.emplace_back(read_model(input), stages);
      walls.push_back(input.metadata);
      const Member<Real> &member = members.back();
      if (member.model.n_types != members[0].model.n_types)
        throw std::runtime_error("members of a committee with different elements");
      bool found = false;
      for (auto &group : groups)
        if (!found && members[group[0]].model.shares_environment_with(member.model)) {
          group.push_back(members.size() - 1);
          found = true;
        }
      if (!found) groups.push_back({members.size() - 1});
      room_for(workspace, member.workspace);
      widest = std::max(widest, member.model.width);
      first_function.push_back(n_columns);
      first_feature.push_back(n_columns);
      n_columns += member.model.width * member.model.axis;
    }
    n_shown = n_columns;
    for (const Member<Real> &member : members)
      if (member.ranges.empty()) n_columns = 0;
    neighbors.resize(members[0].model.n_types);
    outputs.resize(MAX_ATOMS);
    exact_value.resize(widest);
    exact_slope.resize(widest);
  }

  int n_members() const override { return static_cast<int>(members.size()); }
  // Features are trained: those of the members stand side by side.
  int n_functions() const override { return n_columns; }
  int n_features() const override { return n_shown; }

  double table_tolerance() const override {
    double largest = 0.0;
    for (const Member<Real> &member : members) largest = std::max(largest, member.model.tolerance);
    return largest;
  }

  void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) override {
    task = {&edges, &results, timing, mean_only ? 1 : n_members(), mean_only ? 1.0 / n_members() : 1.0};
    check(edges);
    std::fill_n(results.atomic_energy, edges.n_atoms * task.n_rows, 0.0);
    std::fill_n(results.gradient, 3 * edges.n_edges() * task.n_rows, 0.0);
    if (results.atom_extrapolations) std::fill_n(results.atom_extrapolations, edges.n_atoms, 0);
    for (int type = 0; type < members[0].model.n_types; type++) {
      block.clear();
      for (int64_t i = 0; i < edges.n_atoms; i++) {
        if (edges.types[i] != type) continue;
        block.push_back(i);
        if (block.size() == MAX_ATOMS) evaluate_block(type);
      }
      if (!block.empty()) evaluate_block(type);
    }
    walls.add(edges, mean_only, results);
  }

 private:
  struct Task {
    const Edges *edges;
    const Results *results;
    Timing *timing;
    int n_rows;
    double share;  // of a member in its row
  };
  struct ExactRow {
    int type, atom;
    int64_t row;
  };

  const Stages<Real> &stages;
  std::vector<Member<Real>> members;
  Walls walls;
  std::vector<std::vector<size_t>> groups;  // of members with the same environment rows
  int widest = 0, n_columns = 0, n_shown = 0;
  std::vector<int> first_function, first_feature;  // columns of each member
  Task task{};
  std::vector<int64_t> block;  // atoms
  std::vector<Neighbors<Real>> neighbors;
  std::vector<ExactRow> exact_rows;
  Buffer<Real> sums, workspace;
  std::vector<Buffer<Real>> row_gradients = std::vector<Buffer<Real>>(1);
  Buffer<double> edge_gradients;
  std::vector<double> outputs, exact_value, exact_slope;

  void check(const Edges &edges) const {
    const int64_t n = members[0].model.n_types;
    for (int64_t i = 0; i < edges.n_atoms; i++)
      if (edges.types[i] < 0 || edges.types[i] >= n) throw std::runtime_error("an atom of unknown type");
    for (int64_t e = edges.offsets[0]; e < edges.offsets[edges.n_atoms]; e++)
      if (edges.neighbor_type[e] < 0 || edges.neighbor_type[e] >= n)
        throw std::runtime_error("a neighbour of unknown type");
  }

  // Adds the seconds since `start` to a field of the timing, and starts again.
  void clock(double Timing::*field, double &start) const {
    if (!task.timing) return;
    const double now = seconds();
    task.timing->*field += now - start;
    start = now;
  }

  void evaluate_block(int center) {
    for (const auto &group : groups) {
      double start = task.timing ? seconds() : 0.0;
      collect(center, members[group[0]].model);
      row_gradients.resize(neighbors.size());
      clock(&Timing::descriptor, start);
      for (const size_t m : group) {
        const Member<Real> &member = members[m];
        sum_up(center, member);
        if (n_columns > 0 && task.results->atom_extrapolations) count(center, m);
        if (task.results->features) show(center, m);
        clock(&Timing::descriptor, start);
        stages.fit(member.fitting[center], static_cast<int>(block.size()), sums.data(), outputs.data(),
                   workspace.data());
        const int row = task.n_rows == 1 ? 0 : static_cast<int>(m);
        for (size_t a = 0; a < block.size(); a++)
          task.results->atomic_energy[block[a] * task.n_rows + row] += task.share * outputs[a];
        clock(&Timing::network, start);
        const bool mean = task.n_rows == 1;
        row_gradient(center, member, mean && m != group.front());
        if (!mean || m == group.back()) scatter(row);
        clock(&Timing::gradient, start);
      }
    }
    block.clear();
  }

  // Neighbours of the block's atoms within the cutoff, by element, as rows of the environment matrix.
  void collect(int center, const Model &model) {
    const Edges &edges = *task.edges;
    const double limit = model.cutoff * model.cutoff;
    size_t upper = ROW_PADDING;
    for (const int64_t i : block) upper += edges.offsets[i + 1] - edges.offsets[i];
    for (auto &part : neighbors) {
      part.reserve(upper);
      part.n = 0;
    }
    for (size_t a = 0; a < block.size(); a++) {
      for (auto &part : neighbors) part.first[a] = part.n;
      for (int64_t e = edges.offsets[block[a]]; e < edges.offsets[block[a] + 1]; e++) {
        const double *const v = edges.edge_vec + 3 * e;
        if (!(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] < limit)) continue;
        auto &part = neighbors[edges.neighbor_type[e]];
        const int64_t k = part.n++;
        part.edge[k] = e;
        part.vec[0][k] = v[0];
        part.vec[1][k] = v[1];
        part.vec[2][k] = v[2];
      }
    }
    const Environment environment{model.cutoff_kind,
                                  model.cutoff,
                                  model.inner,
                                  model.mean[center],
                                  1.0 / model.std[2 * center],
                                  1.0 / model.std[2 * center + 1]};
    for (auto &part : neighbors) {
      part.first[block.size()] = part.n;
      part.finish(model.cutoff);
      stages.environment(environment, part.rows);
    }
  }

  const Table<Real> &table_of(const Member<Real> &member, int center, int neighbor) const {
    return member.tables[member.model.embedding_of(center, neighbor)];
  }

  void sum_up(int center, const Member<Real> &member) {
    const size_t width = member.padded_width, n_atoms = block.size();
    Real *const to = room_for(sums, MAX_ATOMS * 4 * width);
    std::fill_n(to, n_atoms * 4 * width, Real(0));
    exact_rows.clear();
    for (int t = 0; t < member.model.n_types; t++) {
      const auto &part = neighbors[t];
      const Real *const absent = member.absent(center, t);
      const double expected = member.model.expected[center * member.model.n_types + t];
      for (size_t a = 0; a < n_atoms; a++) {
        const double found = static_cast<double>(part.first[a + 1] - part.first[a]);
        const Real missing = static_cast<Real>(expected - found);
        for (size_t m = 0; m < width; m++) to[a * 4 * width + m] += missing * absent[m];
      }
      const Table<Real> &table = table_of(member, center, t);
      const int64_t outside = stages.locate(table, part.rows);
      stages.embed(table, part.rows, part.first, static_cast<int>(n_atoms), to);
      if (outside > 0) sum_up_exactly(center, member, t);
    }
  }

  // Neighbours outside of the table, closer than the data's closest: the network itself.
  void sum_up_exactly(int center, const Member<Real> &member, int t) {
    const auto &part = neighbors[t];
    const Network &network = member.model.embeddings[member.model.embedding_of(center, t)];
    for (int a = 0; a < static_cast<int>(block.size()); a++)
      for (int64_t k = part.first[a]; k < part.first[a + 1]; k++) {
        if (part.rows.interval[k] >= 0) continue;
        exact_rows.push_back({t, a, k});
        embedding_at(network, part.rows.argument[k], exact_value.data(), nullptr, nullptr);
        for (int c = 0; c < 4; c++)
          for (int m = 0; m < member.model.width; m++)
            sums[(a * 4 + c) * member.padded_width + m] +=
                static_cast<Real>(exact_value[m] * part.rows.row[c][k]);
      }
  }

  void count(int center, size_t m) {
    int64_t per_atom[MAX_ATOMS] = {};
    int64_t *const per_function =
        task.results->function_extrapolations + static_cast<int64_t>(center) * n_columns + first_function[m];
    stages.count(members[m].fitting[center], members[m].ranges[center], static_cast<int>(block.size()),
                 sums.data(), per_atom, per_function);
    for (size_t a = 0; a < block.size(); a++) task.results->atom_extrapolations[block[a]] += per_atom[a];
  }

  // D = T T_<^T, flattened (width, axis); the networks take it without writing it down
  void show(int center, size_t m) {
    const Member<Real> &member = members[m];
    const double normalisation = static_cast<double>(member.fitting[center].normalisation);
    for (size_t i = 0; i < block.size(); i++) {
      const Real *const t = sums.data() + i * 4 * member.padded_width;
      double *to = task.results->features + block[i] * n_shown + first_feature[m];
      for (int k = 0; k < member.model.width; k++)
        for (int a = 0; a < member.model.axis; a++) {
          double sum = 0.0;
          for (int c = 0; c < 4; c++)
            sum += static_cast<double>(t[c * member.padded_width + k]) *
                   static_cast<double>(t[c * member.padded_width + a]);
          *to++ = normalisation * normalisation * sum;
        }
    }
  }

  // dE/dR of all rows from dE/dsums
  void row_gradient(int center, const Member<Real> &member, bool add) {
    for (int t = 0; t < member.model.n_types; t++) {
      const auto &part = neighbors[t];
      const Table<Real> &table = table_of(member, center, t);
      stages.embed_gradient(table, part.rows, part.first, static_cast<int>(block.size()), sums.data(),
                            room_for(row_gradients[t], 4 * part.n), add);
    }
    for (const ExactRow &exact : exact_rows) {
      const Rows<Real> &rows = neighbors[exact.type].rows;
      embedding_at(member.model.embeddings[member.model.embedding_of(center, exact.type)],
                   rows.argument[exact.row], exact_value.data(), exact_slope.data(), nullptr);
      Real *const to = row_gradients[exact.type].data() + 4 * exact.row;
      for (int c = 0; c < 4; c++) {
        const Real *const gradient = sums.data() + (exact.atom * 4 + c) * member.padded_width;
        double along = 0.0, slope = 0.0;
        for (int m = 0; m < member.model.width; m++) {
          along += exact_value[m] * gradient[m];
          slope += exact_slope[m] * gradient[m];
        }
        to[c] += static_cast<Real>(along);
        to[0] += static_cast<Real>(slope * rows.row[c][exact.row]);
      }
    }
  }

  // Adds dE/dvec of all rows to a row of the results.
  void scatter(int row) {
    for (size_t t = 0; t < neighbors.size(); t++) {
      const auto &part = neighbors[t];
      double *const gradient = room_for(edge_gradients, 3 * part.n);
      stages.edge_gradient(part.rows, row_gradients[t].data(), gradient);
      const int64_t n_rows = task.n_rows, begin = task.edges->offsets[0];
      for (int64_t k = 0; k < part.n; k++) {
        double *const to = task.results->gradient + 3 * (part.edge[k] - begin) * n_rows + row;
        for (int c = 0; c < 3; c++) to[c * n_rows] += task.share * gradient[3 * k + c];
      }
    }
  }
};

}  // namespace

}  // namespace deep

namespace {

std::unique_ptr<Kernel> make(const std::vector<KernelInput> &members, Precision precision, Isa isa,
                             std::string &reason) {
  for (const KernelInput &member : members)
    if (!Json::parse(member.metadata).find("tabulation")) {
      reason = "the file says nothing about tables of its embedding networks: export the model again";
      return nullptr;
    }
  if (precision == Precision::DOUBLE) return std::make_unique<deep::DeepKernel<double>>(members, isa);
  return std::make_unique<deep::DeepKernel<float>>(members, isa);
}

const KernelOfKind deep_potentials("deep_potential", make);

}  // namespace

}  // namespace nnpkit
