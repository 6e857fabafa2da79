// The kernel of models of kind "cluster_expansion" and "nep", atom by atom: moments of its neighbours, which
// all members of a committee share, then for each member channels, invariants and network and the way back to
// the gradient of the moments, and from there to the neighbours.

#include "cluster_neighborhood.h"
#include "stopwatch.h"
#include "wall.h"

#include <algorithm>
#include <deque>
#include <stdexcept>

namespace nnpkit {

namespace cluster {

namespace {

template <typename T>
Stages<T> stages_of(Isa isa) {
  Stages<T> stages{};
#ifndef NNPKIT_ONLY_PORTABLE
  if (isa == Isa::AVX512) return avx512::cluster_stages(stages), stages;
  if (isa == Isa::AVX2) return avx2::cluster_stages(stages), stages;
#endif
  (void)isa;
  portable::cluster_stages(stages);
  return stages;
}

template <typename T>
struct Member {
  int row;                                   // in the committee
  std::vector<Center<T>> centers;            // per type
  std::vector<acsf::Network<T>> networks;    // per type
  std::vector<acsf::ElementModel> elements;  // per type
  int n_features;
  int first_feature;  // column of its features
};

// Members whose moments are the same.
template <typename T>
struct Part {
  Description description;
  Expansion<T> expansion;
  std::vector<Member<T>> members;
  Neighborhood<T> site;
  bool direct = false;  // see Stages
};

template <typename T>
class ClusterKernel : public Kernel {
 public:
  ClusterKernel(const std::vector<KernelInput> &members, Isa isa)
      : inputs(members), stages(stages_of<T>(isa)), networks(acsf::stages_of<T>(isa)) {}

  // False with a reason if a member is not covered.
  bool prepare(std::string &reason) {
    for (size_t m = 0; m < inputs.size(); m++) {
      Description description;
      std::vector<acsf::ElementModel> elements;
      if (!read_model(inputs[m], description, elements, reason)) return false;
      if (m > 0 && description.n_types != parts[0].description.n_types)
        throw std::runtime_error("members with different elements");
      auto part = std::find_if(parts.begin(), parts.end(), [&](const Part<T> &other) {
        return other.description.same_expansion(description);
      });
      if (part == parts.end()) {
        parts.emplace_back();
        part = parts.end() - 1;
        part->description = description;
        part->expansion = plan_expansion<T>(description);
      }
      ranges = ranges && !elements[0].minimum.empty();
      add_member(*part, static_cast<int>(m), description, std::move(elements));
      walls.push_back(inputs[m].metadata);
    }
    for (Part<T> &part : parts) {
      part.site.prepare(part.expansion, stages.width);
      for (const Member<T> &member : part.members) part.site.make_room_for(part.expansion, member.centers[0]);
      const Description &own = part.description;
      part.direct =
          part.members.size() == 1 && (own.n_types > 1 || own.angular.n_channels < own.angular.n_functions);
    }
    return true;
  }

  int n_members() const override { return static_cast<int>(inputs.size()); }
  // Features are trained: those of the members stand side by side.
  int n_functions() const override { return ranges ? n_columns : 0; }
  int n_features() const override { return n_columns; }

  void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) override {
    const int n_rows = mean_only ? 1 : n_members();
    std::fill_n(results.gradient, 3 * edges.n_edges() * n_rows, 0.0);
    std::fill_n(results.atomic_energy, edges.n_atoms * n_rows, 0.0);
    if (results.atom_extrapolations) std::fill_n(results.atom_extrapolations, edges.n_atoms, 0);
    watch.reset(timing != nullptr);
    for (Part<T> &part : parts)
      for (int64_t i = 0; i < edges.n_atoms; i++) add_atom(part, edges, i, n_rows, results);
    if (timing) watch.add_to(*timing);
    walls.add(edges, mean_only, results);
  }

 private:
  const std::vector<KernelInput> inputs;
  Stages<T> stages;
  acsf::Stages<T> networks;
  acsf::Storage storage;
  std::deque<Part<T>> parts;
  Walls walls;
  int n_columns = 0;
  bool ranges = true;

  Stopwatch watch;
  std::vector<double> features;
  std::vector<T> coefficients;
  acsf::Buffer<T> nodes;
  int64_t nodes_needed = 0;

  void add_member(Part<T> &part, int row, const Description &description,
                  std::vector<acsf::ElementModel> elements) {
    Member<T> member{row, {}, {}, std::move(elements), description.n_features(), n_columns};
    for (int type = 0; type < description.n_types; type++) {
      member.centers.push_back(plan_center<T>(description, type, storage));
      member.networks.push_back(acsf::plan_network<T>({&member.elements[type]}, storage));
      nodes_needed = std::max<int64_t>(nodes_needed, acsf::nodes_needed(member.elements[type]));
    }
    n_columns += member.n_features;
    const size_t room = static_cast<size_t>(acsf::padded_nodes(member.n_features)) + acsf::PADDING;
    features.resize(std::max(features.size(), room));
    coefficients.resize(std::max(coefficients.size(), room));
    part.members.push_back(std::move(member));
  }

  void add_atom(Part<T> &part, const Edges &edges, int64_t i, int n_rows, const Results &results) {
    const int64_t type = edges.types[i];
    if (type < 0 || type >= part.expansion.n_types) throw std::runtime_error("an atom of unknown type");
    watch.begin(1);
    part.site.gather(part.expansion, edges, i);
    Workspace<T> &ws = part.site.ws;
    double *const gradient = results.gradient - 3 * n_rows * edges.offsets[0];
    const Center<T> *const direct = part.direct ? &part.members[0].centers[type] : nullptr;
    stages.describe(part.expansion, direct, ws);
    part.site.clear_moment_gradients();
    const double share = n_rows == 1 ? 1.0 / n_members() : 1.0;
    for (const Member<T> &member : part.members) {
      const int row = n_rows == 1 ? 0 : member.row;
      stages.features(part.expansion, member.centers[type], part.direct, ws, features.data());
      watch.lap(&Timing::descriptor);
      count(member, type, i, results);
      if (results.features)
        std::copy_n(features.data(), member.n_features,
                    results.features + i * n_columns + member.first_feature);
      results.atomic_energy[i * n_rows + row] += share * network(member, type, share);
      watch.lap(&Timing::network);
      stages.feature_gradient(part.expansion, member.centers[type], part.direct, ws, coefficients.data());
      if (n_rows > 1) {
        stages.differentiate(part.expansion, direct, ws);
        part.site.add_gradient(gradient, n_rows, row);
        part.site.clear_moment_gradients();
      }
      watch.lap(&Timing::gradient);
    }
    if (n_rows == 1) {
      stages.differentiate(part.expansion, direct, ws);
      part.site.add_gradient(gradient, 1, 0);
      watch.lap(&Timing::gradient);
    }
  }

  // Energy of a member, and `share` of its derivatives by the features as coefficients.
  double network(const Member<T> &member, int64_t type, double share) {
    const acsf::ElementModel &model = member.elements[type];
    const int n = member.n_features;
    T *const input = nodes.room(nodes_needed), *const inner = input + 2 * acsf::padded_nodes(n);
    for (int f = 0; f < n; f++)
      input[f] = static_cast<T>((features[f] - model.shift[f]) * model.factor[f] + model.lower);
    const double output = networks.network(member.networks[type], input, coefficients.data(), inner);
    for (int f = 0; f < n; f++)
      coefficients[f] = static_cast<T>(static_cast<double>(coefficients[f]) * model.factor[f] *
                                       (model.energy_scale * share));
    return output * model.energy_scale + model.reference;
  }

  void count(const Member<T> &member, int64_t type, int64_t atom, const Results &results) const {
    if (!ranges || !results.atom_extrapolations) return;
    const auto &low = member.elements[type].minimum, &high = member.elements[type].maximum;
    for (int f = 0; f < member.n_features; f++) {
      if (features[f] >= low[f] && features[f] <= high[f]) continue;
      results.atom_extrapolations[atom]++;
      if (results.function_extrapolations)
        results.function_extrapolations[type * n_columns + member.first_feature + f]++;
    }
  }
};

}  // namespace

}  // namespace cluster

std::unique_ptr<Kernel> make_cluster_kernel(const std::vector<KernelInput> &members, Precision precision,
                                            Isa isa, std::string &reason) {
  const auto make = [&](auto kernel) -> std::unique_ptr<Kernel> {
    if (!kernel->prepare(reason)) return nullptr;
    return kernel;
  };
  if (precision == Precision::DOUBLE)
    return make(std::make_unique<cluster::ClusterKernel<double>>(members, isa));
  return make(std::make_unique<cluster::ClusterKernel<float>>(members, isa));
}

}  // namespace nnpkit
