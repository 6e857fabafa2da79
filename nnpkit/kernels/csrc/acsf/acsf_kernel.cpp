// The kernel of models of kind "acsf": symmetry functions, scaling, atomic networks and wall, a few atoms at
// a time, so that everything an atom needs stays in the cache between its features and its gradient.

#include "acsf_neighborhood.h"
#include "stopwatch.h"
#include "walls.h"

#include <algorithm>
#include <stdexcept>

namespace nnpkit {

namespace acsf {

namespace {

// Members with one descriptor.
template <typename T>
struct Part {
  Description description;
  std::vector<Center<T>> centers;                        // per type
  std::vector<int> members;                              // positions in the committee
  std::vector<std::vector<ElementModel>> elements;       // (members of the part, types)
  std::vector<std::vector<Network<T>>> networks;         // (members of the part, types)
  std::vector<std::vector<MemberNetworks<T>>> together;  // (blocks of MEMBERS, types); no layers: they differ
  std::vector<int> nodes_needed;                         // per type
  std::vector<std::vector<double>> minimum, maximum;     // per type, what all members have seen
  int first_function = 0;                                // column of its functions in the counts
  int first_feature = 0;                                 // and in the features

  int n_members() const { return static_cast<int>(members.size()); }
  int64_t type_of(const Edges &edges, int64_t i) const {
    const int64_t type = edges.types[i];
    if (type < 0 || type >= description.n_types) throw std::runtime_error("an atom of unknown type");
    return type;
  }
};

template <typename T>
class AcsfKernel : public Kernel {
 public:
  AcsfKernel(const std::vector<KernelInput> &members, Isa isa)
      : inputs(members), stages(stages_of<T>(isa)), walls(isa) {}

  // False with a reason if a member is not covered.
  bool prepare(std::string &reason) {
    bool ranges = true;
    for (size_t m = 0; m < inputs.size(); m++) {
      Description description;
      std::vector<ElementModel> elements;
      if (!read_model(inputs[m], description, elements, reason)) return false;
      if (m > 0 && description.n_types != parts[0].description.n_types)
        throw std::runtime_error("members with different elements");
      auto part = std::find_if(parts.begin(), parts.end(),
                               [&](const Part<T> &other) { return other.description == description; });
      if (part == parts.end()) {
        parts.emplace_back();
        part = parts.end() - 1;
        part->description = description;
      }
      ranges = ranges && !elements[0].minimum.empty();
      sees_charges = sees_charges || elements[0].sees_charge();
      part->members.push_back(static_cast<int>(m));
      part->elements.push_back(std::move(elements));
      walls.push_back(inputs[m].metadata);
    }
    for (Part<T> &part : parts) {
      plan(part);
      part.first_function = n_columns;
      if (ranges) n_columns += part.description.width();
      part.first_feature = n_shown;
      n_shown += part.description.width();
    }
    if (!ranges) n_columns = 0;
    return true;
  }

  int n_members() const override { return static_cast<int>(inputs.size()); }
  int n_functions() const override { return n_columns; }
  int n_features() const override { return n_shown; }
  double table_tolerance() const override { return 0.0; }

  void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) override {
    const int n_rows = mean_only ? 1 : n_members();
    if (sees_charges && !edges.inputs) throw std::runtime_error("networks that see charges were given none");
    if (results.input_gradient) std::fill_n(results.input_gradient, n_rows * edges.n_atoms, 0.0);
    if (n_rows == 1)  // parts add to it; rows of members are written, see Neighborhood::gather
      std::fill(results.gradient, results.gradient + 3 * edges.n_edges(), 0.0);
    std::fill(results.atomic_energy, results.atomic_energy + n_rows * edges.n_atoms, 0.0);
    if (results.atom_extrapolations)
      std::fill(results.atom_extrapolations, results.atom_extrapolations + edges.n_atoms, 0);
    watch.reset(timing != nullptr);
    for (Part<T> &part : parts)
      n_rows == 1 ? add_mean(part, edges, results) : add_members(part, edges, results);
    if (timing) watch.add_to(*timing);
    walls.add(edges, mean_only, results);
  }

 private:
  const std::vector<KernelInput> inputs;
  Stages<T> stages;
  Storage storage;
  std::vector<Part<T>> parts;
  Walls walls;
  int n_columns = 0, n_shown = 0;
  bool sees_charges = false;

  Stopwatch watch;
  TripletMemory<T> triplets;
  Neighborhood<T> sites[ATOMS];
  Buffer<T> nodes;
  double energies[ATOMS * MEMBERS];
  std::vector<double> mean_coefficients;
  std::vector<T> own_coefficients;
  std::vector<std::vector<int64_t>> atoms_of;  // per type

  void plan(Part<T> &part) {
    const int n_types = part.description.n_types;
    part.minimum.resize(n_types);
    part.maximum.resize(n_types);
    for (int t = 0; t < n_types; t++) part.centers.push_back(plan_center<T>(part.description, t, storage));
    for (const auto &elements : part.elements) {
      part.networks.emplace_back();
      for (int t = 0; t < n_types; t++) {
        part.networks.back().push_back(plan_network<T>({&elements[t]}, storage));
        narrow_range(part.minimum[t], elements[t].minimum, [](double a, double b) { return std::max(a, b); });
        narrow_range(part.maximum[t], elements[t].maximum, [](double a, double b) { return std::min(a, b); });
      }
    }
    for (int t = 0; t < n_types; t++) part.nodes_needed.push_back(0);
    for (int first = 0; first < part.n_members(); first += MEMBERS) {
      part.together.emplace_back();
      for (int t = 0; t < n_types; t++) {
        std::vector<const ElementModel *> some;
        bool same = true;
        for (int m = first; m < std::min(first + MEMBERS, part.n_members()); m++) {
          some.push_back(&part.elements[m][t]);
          same = same && same_layers(*some[0], *some.back());
          part.nodes_needed[t] = std::max(part.nodes_needed[t], nodes_needed(*some.back()));
        }
        const bool worth = same && some.size() > 1;
        part.together.back().push_back(worth ? plan_member_networks<T>(some, storage) : MemberNetworks<T>{});
      }
    }
  }

  template <typename Choice>
  static void narrow_range(std::vector<double> &range, const std::vector<double> &other,
                           const Choice &choose) {
    if (range.empty()) range = other;
    for (size_t f = 0; f < other.size(); f++) range[f] = choose(range[f], other[f]);
  }

  // Energies and gradients of the mean over the members, of which this part has some.
  void add_mean(const Part<T> &part, const Edges &edges, const Results &results) {
    const double share = 1.0 / n_members();
    Neighborhood<T> &site = sites[0];
    Workspace<T> &ws = site.ws;
    for (int64_t i = 0; i < edges.n_atoms; i++) {
      watch.begin(1);
      const int64_t type = part.type_of(edges, i);
      const Center<T> &center = part.centers[type];
      site.gather(part.description, center, edges, i, stages.width, false, triplets);
      stages.describe(center, ws);
      watch.lap(&Timing::descriptor);
      count(part, type, site, results);
      show(part, center, site, results);
      if (edges.inputs) ws.features[center.n_features] = edges.inputs[i];
      mean_coefficients.assign(center.n_features, 0.0);
      for (int first = 0; first < part.n_members(); first += MEMBERS) {
        const int n = std::min(MEMBERS, part.n_members() - first);
        networks(part, first, n, type, 1);
        for (int m = 0; m < n; m++) results.atomic_energy[i] += share * energies[m];
        for (int m = 0; m < n && results.input_gradient; m++)
          results.input_gradient[i] += share * by_charge(part, first + m, type, ws, m);
        for (int f = 0; f < center.n_features; f++)
          for (int m = 0; m < n; m++)
            mean_coefficients[f] += share * static_cast<double>(ws.coefficients[f * MEMBERS + m]);
      }
      for (int f = 0; f < center.n_features; f++) ws.coefficients[f] = static_cast<T>(mean_coefficients[f]);
      watch.lap(&Timing::network);
      stages.differentiate(center, ws, results.gradient - 3 * edges.offsets[0]);
      watch.lap(&Timing::gradient);
    }
  }

  // Energies and gradients of the members of this part, atoms of one type together.
  void add_members(const Part<T> &part, const Edges &edges, const Results &results) {
    atoms_of.resize(part.description.n_types);
    for (auto &atoms : atoms_of) atoms.clear();
    for (int64_t i = 0; i < edges.n_atoms; i++) atoms_of[part.type_of(edges, i)].push_back(i);
    for (int type = 0; type < part.description.n_types; type++) {
      const auto &atoms = atoms_of[type];
      for (size_t first = 0; first < atoms.size(); first += ATOMS)
        add_block(part, type, atoms.data() + first,
                  static_cast<int>(std::min<size_t>(ATOMS, atoms.size() - first)), edges, results);
    }
  }

  void add_block(const Part<T> &part, int type, const int64_t *atoms, int n_atoms, const Edges &edges,
                 const Results &results) {
    watch.begin(n_atoms);
    const Center<T> &center = part.centers[type];
    for (int a = 0; a < n_atoms; a++) {
      Neighborhood<T> &site = sites[a];
      site.gather(part.description, center, edges, atoms[a], stages.width, true, triplets);
      clear_far(part, edges, site, results.gradient);
      stages.describe_members(center, site.ws);
      count(part, type, site, results);
      show(part, center, site, results);
      if (edges.inputs) site.ws.features[center.n_features] = edges.inputs[atoms[a]];
    }
    watch.lap(&Timing::descriptor);
    for (int first = 0; first < part.n_members(); first += MEMBERS) {
      const int n = std::min(MEMBERS, part.n_members() - first);
      networks(part, first, n, type, n_atoms);
      for (int a = 0; a < n_atoms; a++) {
        double *const row = results.atomic_energy + atoms[a] * n_members();
        for (int m = 0; m < n; m++) row[part.members[first + m]] = energies[a * MEMBERS + m];
        for (int m = 0; m < n && results.input_gradient; m++)
          results.input_gradient[atoms[a] * n_members() + part.members[first + m]] =
              by_charge(part, first + m, type, sites[a].ws, m);
        spread_gradients(part, center, first, n, sites[a].ws,
                         results.gradient - 3 * n_members() * edges.offsets[0]);
      }
    }
    watch.lap(&Timing::network);
  }

  // dE of a member by the charge of an atom, which is behind dE/dG in this column of the coefficients.
  static double by_charge(const Part<T> &part, int member, int64_t type, const Workspace<T> &ws, int column) {
    const ElementModel &model = part.elements[member][type];
    return model.sees_charge() ? static_cast<double>(ws.coefficients[model.n_features * MEMBERS + column])
                               : 0.0;
  }

  // The members of a part get nothing from edges beyond its functions.
  void clear_far(const Part<T> &part, const Edges &edges, const Neighborhood<T> &site,
                 double *gradient) const {
    if (site.n_far == 0) return;
    const int n_rows = n_members();
    const double limit = part.description.longest * part.description.longest;
    const int64_t begin = edges.offsets[site.atom], end = edges.offsets[site.atom + 1];
    for (int64_t e = begin; e < end; e++) {
      if (site.squares[e - begin] < limit) continue;
      double *const row = gradient + 3 * n_rows * (e - edges.offsets[0]);
      for (int k = 0; k < 3; k++)
        for (const int m : part.members) row[k * n_rows + m] = 0.0;
    }
  }

  // Of the atoms at the first sites: `energies` of n members from `first` of a part, (atoms, MEMBERS), and
  // their dE/dG as coefficients of the sites.
  void networks(const Part<T> &part, int first, int n, int64_t type, int n_atoms) {
    const MemberNetworks<T> &together = part.together[first / MEMBERS][type];
    if (together.network.n_layers > 0) {
      const double *features[ATOMS];
      T *coefficients[ATOMS];
      for (int a = 0; a < n_atoms; a++) {
        features[a] = sites[a].ws.features;
        coefficients[a] = sites[a].ws.coefficients;
      }
      T *const memory = nodes.room(static_cast<int64_t>(part.nodes_needed[type]) * MEMBERS * ATOMS);
      return stages.member_networks(together, n_atoms, features, energies, coefficients, memory);
    }
    T *const input = nodes.room(part.nodes_needed[type]);
    for (int a = 0; a < n_atoms; a++) {
      const Workspace<T> &ws = sites[a].ws;
      for (int m = 0; m < n; m++) {
        const ElementModel &model = part.elements[first + m][type];
        T *const gradient = input + padded_nodes(model.n_in()), *const inner =
                                                                    gradient + padded_nodes(model.n_in());
        for (int f = 0; f < model.n_features; f++)
          input[f] = static_cast<T>((ws.features[f] - model.shift[f]) * model.factor[f] + model.lower);
        if (model.sees_charge()) input[model.n_features] = static_cast<T>(ws.features[model.n_features]);
        const double output = stages.network(part.networks[first + m][type], input, gradient, inner);
        energies[a * MEMBERS + m] = output * model.energy_scale + model.reference;
        for (int f = 0; f < model.n_in(); f++)
          ws.coefficients[f * MEMBERS + m] =
              static_cast<T>(static_cast<double>(gradient[f]) *
                             (f < model.n_features ? model.factor[f] : 1.0) * model.energy_scale);
      }
    }
  }

  // Gradients of n members from `first` of a part, to their rows.
  void spread_gradients(const Part<T> &part, const Center<T> &center, int first, int n, Workspace<T> &ws,
                        double *gradient) {
    const int row = part.members[first];
    if (part.members[first + n - 1] == row + n - 1) {
      stages.differentiate_members(center, ws, gradient, n_members(), row, n);
      return;
    }
    T *const all = ws.coefficients;
    for (int m = 0; m < n; m++) {  // members of one descriptor that do not stand together
      own_coefficients.assign(center.n_features * MEMBERS, T(0));
      for (int f = 0; f < center.n_features; f++) own_coefficients[f * MEMBERS] = all[f * MEMBERS + m];
      ws.coefficients = own_coefficients.data();
      stages.differentiate_members(center, ws, gradient, n_members(), part.members[first + m], 1);
    }
    ws.coefficients = all;
  }

  void show(const Part<T> &part, const Center<T> &center, const Neighborhood<T> &site,
            const Results &results) const {
    if (!results.features) return;
    double *const row = results.features + site.atom * n_shown + part.first_feature;
    std::copy_n(site.ws.features, center.n_features, row);
    std::fill(row + center.n_features, row + part.description.width(), 0.0);
  }

  void count(const Part<T> &part, int64_t type, const Neighborhood<T> &site, const Results &results) const {
    if (n_columns == 0 || !results.atom_extrapolations) return;
    const auto &low = part.minimum[type], &high = part.maximum[type];
    int64_t outside = 0;
    for (size_t f = 0; f < low.size(); f++) {
      if (site.ws.features[f] >= low[f] && site.ws.features[f] <= high[f]) continue;
      outside++;
      if (results.function_extrapolations)
        results.function_extrapolations[type * n_columns + part.first_function + static_cast<int>(f)]++;
    }
    results.atom_extrapolations[site.atom] += outside;
  }
};

}  // namespace

}  // namespace acsf

namespace {

std::unique_ptr<Kernel> make(const std::vector<KernelInput> &members, Precision precision, Isa isa,
                             std::string &reason) {
  const auto prepared = [&](auto kernel) -> std::unique_ptr<Kernel> {
    if (!kernel->prepare(reason)) return nullptr;
    return kernel;
  };
  if (precision == Precision::DOUBLE)
    return prepared(std::make_unique<acsf::AcsfKernel<double>>(members, isa));
  return prepared(std::make_unique<acsf::AcsfKernel<float>>(members, isa));
}

const KernelOfKind symmetry_functions("acsf", make);

}  // namespace

}  // namespace nnpkit
