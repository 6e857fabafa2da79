#include "fused_model.h"

#include "cuda_library.h"
#include "neighbor_graph.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <stdexcept>
#include <thread>

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
                                             int gpu, int n_threads, std::string &reason) {
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
    for (int n = 1; n < n_threads && model->kernel; n++)
      model->helpers.push_back(make_kernel(members, precision_of(precision), isa, reason));
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
  double largest = 0.0;
  for (size_t e = 0; e < 3 * n_edges; e++) {
    largest = std::max(largest, std::abs(test.gradient[e]));
    worst.gradient = at_least(worst.gradient, std::abs(gradient[e] - test.gradient[e]));
  }
  worst.gradient /= scale_of_gradients(largest);
  return worst;
}

void FusedModel::evaluate(const NeighborGraph &graph, const Request &request, Evaluation &result,
                          const double *charges) {
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
  if (request.features) {
    result.features.resize(n_atoms * static_cast<size_t>(kernel->n_features()));
    if (kernel->n_features() > 0) results.features = result.features.data();
  }
  if (charges) {
    result.charge_gradient.resize(rows * n_atoms);
    results.input_gradient = result.charge_gradient.data();
  }
  const Edges edges{graph.edge_vec.data(), graph.neighbor_type.data(),
                    graph.offsets.data(),  graph.types.data(),
                    graph.n_atoms(),       charges};
  evaluate_parts(edges, !members, results, result.function_extrapolations.size());
  for (const Timing &timing : timings) {  // of threads that run side by side
    result.descriptor_seconds += timing.descriptor / n_threads();
    result.network_seconds += timing.network / n_threads();
    result.gradient_seconds += timing.gradient / n_threads();
  }
}

void FusedModel::evaluate_parts(const Edges &edges, bool mean_only, const Results &results, size_t n_counts) {
  const int64_t n_parts = n_threads(), n_rows = mean_only ? 1 : n_members;
  timings.assign(n_parts, {});
  if (n_parts == 1) return kernel->evaluate(edges, mean_only, results, timings.data());
  extrapolations.resize(n_parts);
  std::vector<std::exception_ptr> failures(n_parts);
  const auto evaluate_part = [&](int64_t part) {
    try {
      const int64_t first = edges.n_atoms * part / n_parts, last = edges.n_atoms * (part + 1) / n_parts;
      const int64_t edge = edges.offsets[first] - edges.offsets[0];
      Results own{results.atomic_energy + n_rows * first, results.gradient + 3 * n_rows * edge};
      if (results.atom_extrapolations) own.atom_extrapolations = results.atom_extrapolations + first;
      if (results.features) own.features = results.features + kernel->n_features() * first;
      if (results.input_gradient) own.input_gradient = results.input_gradient + n_rows * first;
      if (results.function_extrapolations) {
        extrapolations[part].assign(n_counts, 0);
        own.function_extrapolations = extrapolations[part].data();
      }
      Evaluator &mine = part == 0 ? *kernel : *helpers[part - 1];
      mine.evaluate({edges.edge_vec, edges.neighbor_type, edges.offsets + first, edges.types + first,
                     last - first, edges.inputs ? edges.inputs + first : nullptr},
                    mean_only, own, &timings[part]);
    } catch (...) {
      failures[part] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (int64_t part = 1; part < n_parts; part++) threads.emplace_back(evaluate_part, part);
  evaluate_part(0);
  for (std::thread &thread : threads) thread.join();
  for (const std::exception_ptr &failure : failures)
    if (failure) std::rethrow_exception(failure);
  if (results.function_extrapolations)
    for (const auto &counts : extrapolations)
      for (size_t f = 0; f < counts.size(); f++) results.function_extrapolations[f] += counts[f];
}

}  // namespace nnpkit
