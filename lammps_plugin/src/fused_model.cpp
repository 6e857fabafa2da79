#include "fused_model.h"

#include "cuda_library.h"
#include "neighbor_graph.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace nnpkit {

namespace {

Precision precision_of(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::FLOAT64 ? Precision::DOUBLE
         : arithmetic == Arithmetic::MIXED ? Precision::MIXED
                                           : Precision::SINGLE;
}

double at_least(double largest, double deviation) {  // NaN stays
  return deviation > largest || std::isnan(deviation) ? deviation : largest;
}

}  // namespace

std::unique_ptr<FusedModel> FusedModel::make(const std::vector<KernelInput> &members, Arithmetic precision,
                                             int gpu, std::string &reason) {
  auto model = std::make_unique<FusedModel>();
  model->n_members = static_cast<int>(members.size());
  if (gpu >= 0) {
    auto kernel = make_cuda_kernel(members, precision_of(precision), gpu, reason);
    model->whole = kernel.get();
    model->kernel = std::move(kernel);
    model->place = "cuda";
  } else {
    const Isa isa = choose_isa();
    model->kernel = make_kernel(members, precision_of(precision), isa, reason);
    model->place = isa_name(isa);
  }
  return model->kernel ? std::move(model) : nullptr;
}

Deviation FusedModel::deviation(const StoredTest &test, int64_t n_elements) {
  const auto unknown = [&](int64_t type) { return type < 0 || type >= n_elements; };
  const size_t n_atoms = test.types.size(), n_edges = test.neighbor_type.size();
  if (test.offsets.size() != n_atoms + 1 || test.edge_vec.size() != 3 * n_edges ||
      test.gradient.size() != 3 * n_edges || test.atomic_energy.size() != n_atoms || test.offsets[0] != 0 ||
      test.offsets[n_atoms] != static_cast<int64_t>(n_edges) ||
      !std::is_sorted(test.offsets.begin(), test.offsets.end()) ||
      std::any_of(test.types.begin(), test.types.end(), unknown) ||
      std::any_of(test.neighbor_type.begin(), test.neighbor_type.end(), unknown))
    throw std::runtime_error("the self-test of the model does not fit together");
  std::vector<double> energy(n_atoms), gradient(3 * n_edges);
  const Edges edges{test.edge_vec.data(), test.neighbor_type.data(), test.offsets.data(), test.types.data(),
                    static_cast<int64_t>(n_atoms)};
  kernel->evaluate(edges, true, {energy.data(), gradient.data()}, nullptr);
  Deviation worst;
  for (size_t i = 0; i < n_atoms; i++)
    worst.energy = at_least(worst.energy, std::abs(energy[i] - test.atomic_energy[i]) /
                                              std::max(1.0, std::abs(test.atomic_energy[i])));
  for (size_t e = 0; e < 3 * n_edges; e++)
    worst.gradient = at_least(worst.gradient, std::abs(gradient[e] - test.gradient[e]));
  return worst;
}

void FusedModel::evaluate(const NeighborGraph &graph, const Request &request, Evaluation &result) {
  const bool members = request.members && n_members > 1;
  result.n_rows = members ? n_members : 1;
  const size_t rows = static_cast<size_t>(result.n_rows), n_atoms = static_cast<size_t>(graph.n_atoms());
  result.atomic_energy.resize(rows * n_atoms);
  result.gradient.resize(rows * 3 * static_cast<size_t>(graph.n_edges()));
  Results results{result.atomic_energy.data(), result.gradient.data()};
  if (request.extrapolations && kernel->n_functions() > 0) {
    result.atom_extrapolations.resize(n_atoms);
    results.atom_extrapolations = result.atom_extrapolations.data();
    results.function_extrapolations = result.function_extrapolations.data();
  }
  Timing timing;
  const Edges edges{graph.edge_vec.data(), graph.neighbor_type.data(), graph.offsets.data(),
                    graph.types.data(), graph.n_atoms()};
  kernel->evaluate(edges, !members, results, &timing);
  result.descriptor_seconds += timing.descriptor;
  result.network_seconds += timing.network;
  result.gradient_seconds += timing.gradient;
}

}  // namespace nnpkit
