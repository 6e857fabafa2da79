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

  template <typename Work>
  void for_each_atom(const nnpkit_edges &edges, bool derivatives, const Work &work) {
    const int64_t n = edges.n_atoms, *const offsets = edges.offsets;
    if (n < 0 || offsets[0] != 0 || offsets[n] != edges.n_edges || !std::is_sorted(offsets, offsets + n + 1))
      throw std::runtime_error("offsets do not divide the edges");
    const Edges view{edges.edge_vec, edges.neighbor_type, offsets, edges.types, n};
    for (int64_t i = 0; i < n; i++) {
      if (edges.types[i] < 0 || edges.types[i] >= description.n_types)
        throw std::runtime_error("an atom of unknown type");
      const Center<double> &center = centers[edges.types[i]];
      neighbors.gather(description, center, view, i, stages.width, derivatives, memory);
      work(center, i);
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
