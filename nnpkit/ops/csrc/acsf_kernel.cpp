// The kernel of models of kind "acsf": symmetry functions, scaling, atomic networks and wall of one atom
// after the other, so that everything an atom needs stays in the cache between its features and its gradient.

#include "acsf_model.h"
#include "acsf_neighborhood.h"
#include "kernel.h"
#include "wall.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <stdexcept>

namespace nnpkit {

namespace acsf {

namespace {

// Members with one descriptor.
template <typename T>
struct Part {
  Description description;
  std::vector<Center<T>> centers;                     // per type
  std::vector<int> members;                           // positions in the committee
  std::vector<std::vector<ElementModel>> elements;    // (members of the part, types)
  std::vector<std::vector<Network<T>>> networks;      // (members of the part, types)
  std::vector<std::vector<Network<T>>> together;      // (blocks of MEMBERS, types); no layers: they differ
  std::vector<int> nodes_needed;                      // per type
  std::vector<std::vector<double>> minimum, maximum;  // per type, what all members have seen
  int first_function = 0;                             // column of its functions in the counts

  int n_members() const { return static_cast<int>(members.size()); }
};

template <typename T>
class AcsfKernel : public Kernel, private Neighborhood<T> {
 public:
  AcsfKernel(const std::vector<KernelInput> &members, Isa isa) : Neighborhood<T>(isa), inputs(members) {}

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
      part->members.push_back(static_cast<int>(m));
      part->elements.push_back(std::move(elements));
      walls.emplace_back(inputs[m].metadata);
    }
    for (Part<T> &part : parts) {
      plan(part);
      part.first_function = n_columns;
      if (ranges) n_columns += part.description.width();
    }
    if (!ranges) n_columns = 0;
    return true;
  }

  int n_members() const override { return static_cast<int>(inputs.size()); }
  int n_functions() const override { return n_columns; }

  void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) override {
    const int n_rows = mean_only ? 1 : n_members();
    if (n_rows == 1)  // parts add to it; rows of members are written, see `gather`
      std::fill(results.gradient, results.gradient + 3 * edges.n_edges(), 0.0);
    std::fill(results.atomic_energy, results.atomic_energy + n_rows * edges.n_atoms, 0.0);
    if (results.atom_extrapolations)
      std::fill(results.atom_extrapolations, results.atom_extrapolations + edges.n_atoms, 0);
    for (Part<T> &part : parts)
      for (int64_t i = 0; i < edges.n_atoms; i++) {
        // a clock costs as much as a neighbour: look at it for one atom out of sixteen
        atom(part, edges, i, n_rows, results, timing && i % 16 == 0 ? timing : nullptr);
      }
    for (int m = 0; m < n_members(); m++)
      walls[m].add(edges, mean_only ? 0 : m, n_rows, mean_only ? 1.0 / n_members() : 1.0, results);
  }

 private:
  using Neighborhood<T>::stages;
  using Neighborhood<T>::ws;
  using Neighborhood<T>::squares;

  const std::vector<KernelInput> inputs;
  Storage storage;
  std::vector<Part<T>> parts;
  std::vector<Wall> walls;
  int n_columns = 0;

  Buffer<T> nodes;
  std::vector<T> coefficients;  // dE/dG, (n_features, MEMBERS)
  std::vector<double> mean_coefficients;

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
        part.together.back().push_back(worth ? plan_network<T>(some, storage) : Network<T>{0, nullptr, 0});
      }
    }
  }

  template <typename Choice>
  static void narrow_range(std::vector<double> &range, const std::vector<double> &other,
                           const Choice &choose) {
    if (range.empty()) range = other;
    for (size_t f = 0; f < other.size(); f++) range[f] = choose(range[f], other[f]);
  }

  // seconds since the last call, times what one atom stands for
  static double lap(std::chrono::steady_clock::time_point &last) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = 16.0 * std::chrono::duration<double>(now - last).count();
    last = now;
    return seconds;
  }

  void atom(Part<T> &part, const Edges &edges, int64_t i, int n_rows, const Results &results,
            Timing *timing) {
    std::chrono::steady_clock::time_point last;
    if (timing) last = std::chrono::steady_clock::now();
    const int64_t type = edges.types[i];
    if (type < 0 || type >= part.description.n_types) throw std::runtime_error("an atom of unknown type");
    const Center<T> &center = part.centers[type];
    const bool mean = n_rows == 1;
    this->gather(part.description, center, edges, i, !mean);
    if (n_rows > 1) clear_far(part, edges, i, n_rows, results.gradient);
    mean ? stages.describe(center, ws) : stages.describe_members(center, ws);
    if (timing) timing->descriptor += lap(last);
    if (n_columns > 0 && results.atom_extrapolations) count(part, type, i, results);
    double *const gradient = results.gradient - 3 * n_rows * edges.offsets[0];
    mean_coefficients.assign(center.n_features, 0.0);
    double energy[MEMBERS];
    for (int first = 0; first < part.n_members(); first += MEMBERS) {
      const int n = std::min(MEMBERS, part.n_members() - first);
      networks(part, first, n, type, energy);
      double *const row = results.atomic_energy + i * n_rows;
      const double share = 1.0 / n_members();
      for (int m = 0; m < n; m++)
        (mean ? row[0] : row[part.members[first + m]]) += mean ? share * energy[m] : energy[m];
      if (mean)
        for (int f = 0; f < center.n_features; f++)
          for (int m = 0; m < n; m++)
            mean_coefficients[f] += share * static_cast<double>(coefficients[f * MEMBERS + m]);
      else
        spread_gradients(part, center, first, n, gradient, n_rows);
    }
    if (timing) timing->network += lap(last);
    if (mean) {
      for (int f = 0; f < center.n_features; f++) coefficients[f] = static_cast<T>(mean_coefficients[f]);
      ws.coefficients = coefficients.data();
      stages.differentiate(center, ws, gradient);
    }
    if (timing) timing->gradient += lap(last);
  }

  // The members of a part get nothing from edges beyond its functions.
  void clear_far(const Part<T> &part, const Edges &edges, int64_t i, int n_rows, double *gradient) const {
    const double limit = part.description.longest * part.description.longest;
    const int64_t begin = edges.offsets[i], end = edges.offsets[i + 1];
    for (int64_t e = begin; e < end; e++) {
      if (squares[e - begin] < limit) continue;
      double *const row = gradient + 3 * n_rows * (e - edges.offsets[0]);
      for (int k = 0; k < 3; k++)
        for (const int m : part.members) row[k * n_rows + m] = 0.0;
    }
  }

  // Energies of members first .. first + n - 1 of a part; their dE/dG go to `coefficients`, (n_features,
  // MEMBERS).
  void networks(const Part<T> &part, int first, int n, int64_t type, double *energy) {
    const int n_in = part.centers[type].n_features;
    const auto model = [&](int m) -> const ElementModel & { return part.elements[first + m][type]; };
    const auto scaled = [&](int m, int f) {
      return static_cast<T>((ws.features[f] - model(m).shift[f]) * model(m).factor[f] + model(m).lower);
    };
    const auto unscaled = [&](int m, int f, T derivative) {
      return static_cast<T>(static_cast<double>(derivative) * model(m).factor[f] * model(m).energy_scale);
    };
    coefficients.resize(static_cast<size_t>(padded_nodes(n_in) + PADDING) * MEMBERS);
    const Network<T> *const together =
        part.together[first / MEMBERS][type].n_layers > 0 ? &part.together[first / MEMBERS][type] : nullptr;
    const int width = together ? MEMBERS : 1;
    T *const input = nodes.room(static_cast<int64_t>(part.nodes_needed[type]) * width);
    T *const gradient = input + static_cast<int64_t>(padded_nodes(n_in)) * width;
    T *const inner = gradient + static_cast<int64_t>(padded_nodes(n_in)) * width;
    if (together) {
      std::fill(input, gradient, T(0));
      for (int m = 0; m < n; m++)
        for (int f = 0; f < n_in; f++) input[f * MEMBERS + m] = scaled(m, f);
      stages.member_networks(*together, input, energy, gradient, inner);
      for (int m = 0; m < n; m++)
        for (int f = 0; f < n_in; f++)
          coefficients[f * MEMBERS + m] = unscaled(m, f, gradient[f * MEMBERS + m]);
    } else {
      for (int m = 0; m < n; m++) {
        for (int f = 0; f < n_in; f++) input[f] = scaled(m, f);
        energy[m] = stages.network(part.networks[first + m][type], input, gradient, inner);
        for (int f = 0; f < n_in; f++) coefficients[f * MEMBERS + m] = unscaled(m, f, gradient[f]);
      }
    }
    for (int m = 0; m < n; m++) energy[m] = energy[m] * model(m).energy_scale + model(m).reference;
  }

  // Gradients of members first .. first + n - 1 of a part, to their rows.
  void spread_gradients(const Part<T> &part, const Center<T> &center, int first, int n, double *gradient,
                        int n_rows) {
    ws.coefficients = coefficients.data();
    const int row = part.members[first];
    if (part.members[first + n - 1] == row + n - 1) {
      stages.differentiate_members(center, ws, gradient, n_rows, row, n);
      return;
    }
    for (int m = 0; m < n; m++) {  // members of one descriptor that do not stand together
      std::vector<T> own(center.n_features * MEMBERS);
      for (int f = 0; f < center.n_features; f++) own[f * MEMBERS] = coefficients[f * MEMBERS + m];
      ws.coefficients = own.data();
      stages.differentiate_members(center, ws, gradient, n_rows, part.members[first + m], 1);
    }
  }

  void count(const Part<T> &part, int64_t type, int64_t i, const Results &results) {
    const auto &low = part.minimum[type], &high = part.maximum[type];
    int64_t outside = 0;
    for (size_t f = 0; f < low.size(); f++) {
      if (ws.features[f] >= low[f] && ws.features[f] <= high[f]) continue;
      outside++;
      if (results.function_extrapolations)
        results.function_extrapolations[type * n_columns + part.first_function + static_cast<int>(f)]++;
    }
    results.atom_extrapolations[i] += outside;
  }
};

}  // namespace

}  // namespace acsf

std::unique_ptr<Kernel> make_acsf_kernel(const std::vector<KernelInput> &members, Precision precision,
                                         Isa isa, std::string &reason) {
  const auto make = [&](auto kernel) -> std::unique_ptr<Kernel> {
    if (!kernel->prepare(reason)) return nullptr;
    return kernel;
  };
  if (precision == Precision::DOUBLE) return make(std::make_unique<acsf::AcsfKernel<double>>(members, isa));
  return make(std::make_unique<acsf::AcsfKernel<float>>(members, isa));
}

}  // namespace nnpkit
