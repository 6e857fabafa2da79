// Symmetry functions and their derivatives as C functions; networks are somebody else's.

#include "acsf_neighborhood.h"
#include "c_api.h"
#include "c_message.h"

#include <algorithm>
#include <stdexcept>

namespace nnpkit {
namespace acsf {

namespace {

class SymmetryFunctions {
 public:
  SymmetryFunctions(const Description &of, Isa isa)
      : name(isa_name(isa)), stages(stages_of<double>(isa)), description(of) {
    for (int t = 0; t < of.n_types; t++) centers.push_back(plan_center<double>(of, t, storage));
  }

  const char *isa() const { return name; }
  int width() const { return description.width(); }

  void features(const nnpkit_edges &edges, double *features) {
    std::fill(features, features + edges.n_atoms * width(), 0.0);
    for_each_atom(edges, false, [&](const Center<double> &center, int64_t i) {
      stages.describe(center, ws);
      std::copy_n(ws.features, center.n_features, features + i * width());
    });
  }

  void jacobian(const nnpkit_edges &edges, double *jacobian) {
    const double limit = description.longest * description.longest;
    const int64_t row = 3 * width();
    for_each_atom(edges, true, [&](const Center<double> &center, int64_t i) {
      stages.describe_members(center, ws);
      stages.write_jacobian(center, ws, width(), jacobian);
      for (int64_t e = edges.offsets[i]; e < edges.offsets[i + 1]; e++)
        if (!(neighbors.squares[e - edges.offsets[i]] < limit)) std::fill_n(jacobian + row * e, row, 0.0);
    });
  }

  void vjp(const nnpkit_edges &edges, const double *cotangent, double *gradient) {
    std::fill(gradient, gradient + 3 * edges.n_edges, 0.0);
    coefficients.assign(width() + PADDING, 0.0);
    for_each_atom(edges, false, [&](const Center<double> &center, int64_t i) {
      std::copy_n(cotangent + i * width(), center.n_features, coefficients.data());
      ws.coefficients = coefficients.data();
      stages.describe(center, ws);
      stages.differentiate(center, ws, gradient);
    });
  }

  void jvp(const nnpkit_edges &edges, const double *tangent, double *change) {
    std::fill(change, change + edges.n_atoms * width(), 0.0);
    for_each_atom(edges, true, [&](const Center<double> &center, int64_t i) {
      stages.describe_members(center, ws);
      stages.push_forward(center, ws, tangent, change + i * width());
    });
  }

  void directions(const nnpkit_edges &edges, nnpkit_directions &wanted) {
    require_sorted(edges);
    sort_components(edges, wanted);
    for (int64_t i = 0; i < edges.n_atoms; i++) touch(edges, wanted, i);
    int64_t n_samples = 0;
    start.resize(wanted.n_components);
    for (int64_t k = 0; k < wanted.n_components; k++) {
      start[k] = n_samples;
      n_samples += n_touched[wanted.components[k] / 3];
    }
    wanted.n_samples = n_samples;
    if (n_samples > wanted.room) throw std::runtime_error("no room for the samples of all components");
    forget_touched(edges.n_atoms);
    std::fill(wanted.features, wanted.features + edges.n_atoms * width(), 0.0);
    for (int64_t i = 0; i < edges.n_atoms; i++) {
      touch(edges, wanted, i);
      const bool derivatives = wanted.virial != nullptr || !touched.empty();
      const Center<double> &center = gather(edges, i, derivatives);
      derivatives ? stages.describe_members(center, ws) : stages.describe(center, ws);
      std::copy_n(ws.features, center.n_features, wanted.features + i * width());
      if (derivatives) add_changes(center, edges, wanted, i);
    }
  }

 private:
  const char *const name;
  const Stages<double> stages;
  const Description description;
  Storage storage;
  std::vector<Center<double>> centers;  // per type
  TripletMemory<double> memory;
  Neighborhood<double> neighbors;
  Workspace<double> &ws = neighbors.ws;
  std::vector<double> coefficients;
  // of directions: components by atom; when an atom was last touched, how often, and its components' samples
  std::vector<int64_t> first_row, rows, latest, n_touched, start, touched;
  std::vector<double> jacobian_of_atom, products;

  static void require_sorted(const nnpkit_edges &edges) {
    const int64_t n = edges.n_atoms, *const offsets = edges.offsets;
    if (n < 0 || offsets[0] != 0 || offsets[n] != edges.n_edges || !std::is_sorted(offsets, offsets + n + 1))
      throw std::runtime_error("offsets do not divide the edges");
  }

  const Center<double> &gather(const nnpkit_edges &edges, int64_t i, bool derivatives) {
    if (edges.types[i] < 0 || edges.types[i] >= description.n_types)
      throw std::runtime_error("an atom of unknown type");
    const Edges view{edges.edge_vec, edges.neighbor_type, edges.offsets, edges.types, edges.n_atoms};
    const Center<double> &center = centers[edges.types[i]];
    neighbors.gather(description, center, view, i, stages.width, derivatives, memory);
    return center;
  }

  template <typename Work>
  void for_each_atom(const nnpkit_edges &edges, bool derivatives, const Work &work) {
    require_sorted(edges);
    for (int64_t i = 0; i < edges.n_atoms; i++) work(gather(edges, i, derivatives), i);
  }

  void forget_touched(int64_t n_atoms) {
    latest.assign(n_atoms, -1);
    n_touched.assign(n_atoms, 0);
  }

  void sort_components(const nnpkit_edges &edges, const nnpkit_directions &wanted) {
    const int64_t n = edges.n_atoms;
    first_row.assign(n + 1, 0);
    for (int64_t k = 0; k < wanted.n_components; k++) {
      const int64_t component = wanted.components[k];
      if (component < 0 || component >= 3 * n) throw std::runtime_error("a component of no atom");
      first_row[component / 3 + 1]++;
    }
    for (int64_t a = 0; a < n; a++) first_row[a + 1] += first_row[a];
    rows.resize(wanted.n_components);
    std::vector<int64_t> next(first_row.begin(), first_row.end() - 1);
    for (int64_t k = 0; k < wanted.n_components; k++) rows[next[wanted.components[k] / 3]++] = k;
    for (int64_t e = 0; e < edges.n_edges; e++)
      if (wanted.neighbor[e] < 0 || wanted.neighbor[e] >= n)
        throw std::runtime_error("an edge that ends nowhere");
    forget_touched(n);
  }

  // Lists atoms with components that move centre i or a neighbour of it, and counts how often each was.
  void touch(const nnpkit_edges &edges, const nnpkit_directions &wanted, int64_t i) {
    touched.clear();
    const auto add = [&](int64_t a) {
      if (first_row[a] == first_row[a + 1] || latest[a] == i) return;
      latest[a] = i;
      n_touched[a]++;
      touched.push_back(a);
    };
    add(i);
    for (int64_t e = edges.offsets[i]; e < edges.offsets[i + 1]; e++) add(wanted.neighbor[e]);
  }

  int64_t sample(int64_t row, int64_t atom) const { return start[row] + n_touched[atom] - 1; }

  void add_changes(const Center<double> &center, const nnpkit_edges &edges, nnpkit_directions &wanted,
                   int64_t i) {
    const int64_t begin = edges.offsets[i], n = 3 * width();
    jacobian_of_atom.resize(
        std::max(jacobian_of_atom.size(), static_cast<size_t>(n * (edges.offsets[i + 1] - begin))));
    const auto each_slot = [&](const auto &work) {
      for (int type = 0; type < center.n_types; type++)
        for (int at = ws.begin[type]; at < ws.begin[type] + ws.count[type]; at++) work(at);
    };
    each_slot([&](int at) { const_cast<int64_t *>(ws.edges)[at] -= begin; });
    const double *const jacobian = jacobian_of_atom.data(), *const factor =
                                                                wanted.factor + edges.types[i] * width();
    stages.write_jacobian(center, ws, width(), jacobian_of_atom.data());
    if (wanted.virial != nullptr) add_virial(center, edges.n_atoms, factor, wanted.virial + i * width());
    for (const int64_t a : touched)
      for (int64_t r = first_row[a]; r < first_row[a + 1]; r++) {
        const int64_t at = sample(rows[r], a);
        wanted.atom[at] = i;
        wanted.row[at] = rows[r];
        std::fill_n(wanted.change + at * width(), width(), 0.0);
      }
    const auto add = [&](int64_t a, int64_t edge, double sign) {
      for (int64_t r = first_row[a]; r < first_row[a + 1]; r++) {
        const double *const from = jacobian + n * edge + wanted.components[rows[r]] % 3;
        double *const to = wanted.change + sample(rows[r], a) * width();
        for (int d = 0; d < width(); d++) to[d] += sign * factor[d] * from[3 * d];
      }
    };
    each_slot([&](int at) {
      add(wanted.neighbor[begin + ws.edges[at]], ws.edges[at], -1.0);
      add(i, ws.edges[at], 1.0);
    });
  }

  // W_ab = -sum r_a dG/dr_b, symmetrised
  void add_virial(const Center<double> &center, int64_t n_atoms, const double *factor, double *virial) {
    static constexpr int COMPONENTS[6][2] = {{0, 0}, {1, 1}, {2, 2}, {1, 2}, {0, 2}, {0, 1}};
    const int64_t n = 3 * width();
    products.assign(3 * n, 0.0);
    stages.add_products(center, ws, width(), jacobian_of_atom.data(), products.data());
    for (const auto &component : COMPONENTS) {
      const int a = component[0], b = component[1];
      const double *const one = products.data() + n * a + b;
      const double *const other = products.data() + n * b + a;
      for (int d = 0; d < width(); d++) virial[d] = -0.5 * factor[d] * (one[3 * d] + other[3 * d]);
      virial += n_atoms * width();
    }
  }
};

}  // namespace

}  // namespace acsf
}  // namespace nnpkit

using nnpkit::guarded;
using nnpkit::acsf::SymmetryFunctions;

void *nnpkit_descriptor_new(const char *spec, const char *isa, int *status, char *message,
                            size_t message_size) {
  SymmetryFunctions *made = nullptr;
  *status = 2;
  guarded(message, message_size, [&] {
    nnpkit::acsf::Description description;
    std::string reason;
    const bool covered = nnpkit::acsf::read_description(nnpkit::Json::parse(spec), description, reason);
    if (covered) made = new SymmetryFunctions(description, nnpkit::isa_called(isa ? isa : ""));
    *status = covered ? 0 : 1;
    if (!covered) nnpkit::say(reason.c_str(), message, message_size);
  });
  return made;
}

void nnpkit_descriptor_delete(void *descriptor) {
  delete static_cast<SymmetryFunctions *>(descriptor);
}

int nnpkit_descriptor_width(const void *descriptor) {
  return static_cast<const SymmetryFunctions *>(descriptor)->width();
}

const char *nnpkit_descriptor_isa(const void *descriptor) {
  return static_cast<const SymmetryFunctions *>(descriptor)->isa();
}

int nnpkit_descriptor_features(void *descriptor, const nnpkit_edges *edges, double *features, char *message,
                               size_t message_size) {
  return guarded(message, message_size,
                 [&] { static_cast<SymmetryFunctions *>(descriptor)->features(*edges, features); });
}

int nnpkit_descriptor_jacobian(void *descriptor, const nnpkit_edges *edges, double *jacobian, char *message,
                               size_t message_size) {
  return guarded(message, message_size,
                 [&] { static_cast<SymmetryFunctions *>(descriptor)->jacobian(*edges, jacobian); });
}

int nnpkit_descriptor_vjp(void *descriptor, const nnpkit_edges *edges, const double *cotangent,
                          double *gradient, char *message, size_t message_size) {
  return guarded(message, message_size,
                 [&] { static_cast<SymmetryFunctions *>(descriptor)->vjp(*edges, cotangent, gradient); });
}

int nnpkit_descriptor_jvp(void *descriptor, const nnpkit_edges *edges, const double *tangent, double *change,
                          char *message, size_t message_size) {
  return guarded(message, message_size,
                 [&] { static_cast<SymmetryFunctions *>(descriptor)->jvp(*edges, tangent, change); });
}

int nnpkit_descriptor_directions(void *descriptor, const nnpkit_edges *edges, nnpkit_directions *wanted,
                                 char *message, size_t message_size) {
  return guarded(message, message_size,
                 [&] { static_cast<SymmetryFunctions *>(descriptor)->directions(*edges, *wanted); });
}
