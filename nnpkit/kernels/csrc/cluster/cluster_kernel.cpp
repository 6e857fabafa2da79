// The kernel of models of kind "cluster_expansion" and "nep", atom by atom: moments of its neighbours, which
// all members of a committee share, then for each member channels, invariants and network and the way back to
// the gradient of the moments, and from there to the neighbours.

#include "cluster_neighborhood.h"
#include "stopwatch.h"
#include "walls.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
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
  std::vector<std::vector<T>> low, high;     // per type, ranges of the features; see `inside`
  int n_features;
  int first_feature;  // column of its features
};

// The number of type T next to a bound, on its inner side: a feature of this type is within one if it is
// within the other.
template <typename T>
std::vector<T> inside(const std::vector<double> &bounds, T inner) {
  std::vector<T> found;
  for (const double bound : bounds) {
    const T near = static_cast<T>(bound);
    const bool beyond = inner > T(0) ? static_cast<double>(near) < bound : static_cast<double>(near) > bound;
    found.push_back(beyond ? std::nextafter(near, inner) : near);
  }
  return found;
}

// Members whose moments are the same.
template <typename T>
struct Part {
  Description description;
  Expansion<T> expansion;
  std::vector<Member<T>> members;
  Neighborhood<T> sites[ATOMS];
  bool direct = false;  // see Stages
};

template <typename T>
class ClusterKernel : public Kernel {
 public:
  ClusterKernel(const std::vector<KernelInput> &members, Isa isa)
      : inputs(members), stages(stages_of<T>(isa)), walls(isa) {}

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
      for (Neighborhood<T> &site : part.sites) {
        site.prepare(part.expansion, stages);
        for (const Member<T> &member : part.members) site.make_room_for(part.expansion, member.centers[0]);
      }
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
  double table_tolerance() const override { return 0.0; }

  void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) override {
    const int n_rows = mean_only ? 1 : n_members();
    if (sees_charges && !edges.inputs) throw std::runtime_error("networks that see charges were given none");
    if (results.input_gradient) std::fill_n(results.input_gradient, edges.n_atoms * n_rows, 0.0);
    std::fill_n(results.atomic_energy, edges.n_atoms * n_rows, 0.0);
    if (results.atom_extrapolations) std::fill_n(results.atom_extrapolations, edges.n_atoms, 0);
    watch.reset(timing != nullptr);
    sort_atoms(edges);
    for (Part<T> &part : parts)
      for (int type = 0; type < part.expansion.n_types; type++)
        for (size_t first = 0; first < atoms_of[type].size(); first += ATOMS) {
          const int64_t *const atoms = atoms_of[type].data() + first;
          const int n = static_cast<int>(std::min<size_t>(ATOMS, atoms_of[type].size() - first));
          add_block(part, type, atoms, n, edges, n_rows, results);
          if (&part == &parts.back())  // all others have been here before
            for (int k = 0; k < n; k++) walls.add_atom(atoms[k], edges, mean_only, results);
        }
    if (timing) watch.add_to(*timing);
  }

 private:
  const std::vector<KernelInput> inputs;
  Stages<T> stages;
  acsf::Storage storage;
  std::deque<Part<T>> parts;
  Walls walls;
  int n_columns = 0;
  bool ranges = true, sees_charges = false;

  Stopwatch watch;
  std::vector<std::vector<int64_t>> atoms_of;  // per type
  SortMemory<T> sorted;
  acsf::Buffer<T> features, nodes;  // (ATOMS, feature_width): then dE/dfeature; of the networks
  int feature_width = 0;
  int64_t nodes_needed = 0;

  void add_member(Part<T> &part, int row, const Description &description,
                  std::vector<acsf::ElementModel> elements) {
    Member<T> member{row, {}, {}, std::move(elements), {}, {}, description.n_features(), n_columns};
    for (int type = 0; type < description.n_types; type++) {
      member.centers.push_back(plan_center<T>(description, type, storage));
      member.networks.push_back(plan_network<T>(member.elements[type], storage));
      nodes_needed = std::max<int64_t>(nodes_needed, acsf::nodes_needed(member.elements[type]));
      constexpr T INFINITE = std::numeric_limits<T>::infinity();
      member.low.push_back(inside(member.elements[type].minimum, INFINITE));
      member.high.push_back(inside(member.elements[type].maximum, -INFINITE));
    }
    n_columns += member.n_features;
    sees_charges = sees_charges || member.elements[0].sees_charge();
    feature_width = std::max(feature_width, acsf::padded_nodes(member.elements[0].n_in()));
    part.members.push_back(std::move(member));
  }

  void sort_atoms(const Edges &edges) {
    const int64_t n_types = parts[0].expansion.n_types;
    atoms_of.resize(n_types);
    for (auto &atoms : atoms_of) atoms.clear();
    for (int64_t i = 0; i < edges.n_atoms; i++) {
      const int64_t type = edges.types[i];
      if (type < 0 || type >= n_types) throw std::runtime_error("an atom of unknown type");
      atoms_of[type].push_back(i);
    }
  }

  // Up to ATOMS atoms of one type.
  void add_block(Part<T> &part, int type, const int64_t *atoms, int n_atoms, const Edges &edges, int n_rows,
                 const Results &results) {
    watch.begin(n_atoms);
    const Expansion<T> &expansion = part.expansion;
    const Center<T> *const direct = part.direct ? &part.members[0].centers[type] : nullptr;
    for (int a = 0; a < n_atoms; a++) {
      part.sites[a].gather(expansion, edges, atoms[a], sorted);
      if (&part == &parts[0]) clear_gradient(edges, atoms[a], n_rows, results);
      stages.describe(expansion, direct, part.sites[a].ws);
      if (!direct) part.sites[a].clear_moment_gradients();
      part.sites[a].clear_radial_gradient();
    }
    Workspace<T> *sites[ATOMS];
    for (int a = 0; a < ATOMS; a++) sites[a] = &part.sites[std::min(a, n_atoms - 1)].ws;
    T *const rows = features.room(static_cast<int64_t>(ATOMS) * feature_width);
    for (const Member<T> &member : part.members) {
      const Center<T> &center = member.centers[type];
      stages.features(expansion, center, part.direct, sites, n_atoms, rows, feature_width);
      for (int a = 0; a < n_atoms; a++) {
        const T *const row = rows + static_cast<int64_t>(a) * feature_width;
        count(member, type, atoms[a], row, results);
        show(member, atoms[a], row, results);
      }
      watch.lap(&Timing::descriptor);
      network(member, type, atoms, n_atoms, n_rows, edges.inputs, results);
      watch.lap(&Timing::network);
      stages.feature_gradient(expansion, center, part.direct, sites, n_atoms, rows, feature_width);
      for (int a = 0; a < n_atoms && n_rows > 1; a++)
        differentiate(part, direct, part.sites[a], edges, n_rows, member.row, results);
      watch.lap(&Timing::gradient);
    }
    if (n_rows > 1) return;
    for (int a = 0; a < n_atoms; a++) differentiate(part, direct, part.sites[a], edges, 1, 0, results);
    watch.lap(&Timing::gradient);
  }

  // Of the edges of an atom, while they are near.
  static void clear_gradient(const Edges &edges, int64_t atom, int n_rows, const Results &results) {
    const int64_t begin = edges.offsets[atom], n = edges.offsets[atom + 1] - begin;
    std::fill_n(results.gradient + 3 * n_rows * (begin - edges.offsets[0]), 3 * n_rows * n, 0.0);
  }

  // Adds what the neighbours of an atom get to a row, and begins anew.
  void differentiate(const Part<T> &part, const Center<T> *direct, Neighborhood<T> &site, const Edges &edges,
                     int n_rows, int row, const Results &results) {
    stages.differentiate(part.expansion, direct, site.ws);
    site.add_gradient(results.gradient - 3 * n_rows * edges.offsets[0], n_rows, row);
    if (n_rows == 1) return;
    if (!direct) site.clear_moment_gradients();
    site.clear_radial_gradient();
  }

  // Energies of a member, and their derivatives by the features in place of these.
  void network(const Member<T> &member, int type, const int64_t *atoms, int n_atoms, int n_rows,
               const double *charges, const Results &results) {
    const acsf::ElementModel &model = member.elements[type];
    const double share = n_rows == 1 ? 1.0 / n_members() : 1.0;
    const int row = n_rows == 1 ? 0 : member.row;
    double outputs[ATOMS];
    T *const behind = features.room(0) + member.n_features;
    for (int a = 0; a < n_atoms && model.sees_charge(); a++)
      behind[static_cast<int64_t>(a) * feature_width] = static_cast<T>(charges[atoms[a]]);
    stages.networks(member.networks[type], static_cast<T>(model.energy_scale * share), features.room(0),
                    feature_width, outputs, nodes.room(ATOMS * nodes_needed));
    for (int a = 0; a < n_atoms; a++)
      results.atomic_energy[atoms[a] * n_rows + row] +=
          share * (outputs[a] * model.energy_scale + model.reference);
    for (int a = 0; a < n_atoms && model.sees_charge(); a++) {
      T &slope = behind[static_cast<int64_t>(a) * feature_width];
      if (results.input_gradient)
        results.input_gradient[atoms[a] * n_rows + row] += static_cast<double>(slope);
      slope = T(0);  // what comes next reads whole vectors of features
    }
  }

  void show(const Member<T> &member, int64_t atom, const T *row, const Results &results) const {
    if (!results.features) return;
    std::copy_n(row, member.n_features, results.features + atom * n_columns + member.first_feature);
  }

  void count(const Member<T> &member, int type, int64_t atom, const T *row, const Results &results) const {
    if (!ranges || !results.atom_extrapolations) return;
    int64_t *const counts = results.function_extrapolations
                                ? results.function_extrapolations + type * n_columns + member.first_feature
                                : nullptr;
    results.atom_extrapolations[atom] += stages.count_outside(
        row, member.low[type].data(), member.high[type].data(), member.n_features, counts);
  }
};

}  // namespace

}  // namespace cluster

namespace {

std::unique_ptr<Kernel> make(const std::vector<KernelInput> &members, Precision precision, Isa isa,
                             std::string &reason) {
  const auto prepared = [&](auto kernel) -> std::unique_ptr<Kernel> {
    if (!kernel->prepare(reason)) return nullptr;
    return kernel;
  };
  if (precision == Precision::DOUBLE)
    return prepared(std::make_unique<cluster::ClusterKernel<double>>(members, isa));
  return prepared(std::make_unique<cluster::ClusterKernel<float>>(members, isa));
}

const KernelOfKind cluster_expansions("cluster_expansion", make);
const KernelOfKind neuroevolution("nep", make);

}  // namespace

}  // namespace nnpkit
