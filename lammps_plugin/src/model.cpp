// A model file for LAMMPS: its fused kernels where they reproduce what was exported, else its TorchScript.

#include "model.h"

#include "cuda_library.h"
#include "fused_model.h"
#include "kernel_inputs.h"
#include "neighbor_graph.h"
#include "one_line.h"
#include "seal.h"
#include "torchscript.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace nnpkit {

namespace {

const std::string &sealed(const std::string &bytes) {
  check_seal(bytes);
  return bytes;
}

double at_least(double largest, double deviation) {  // not a number stays
  return deviation > largest || std::isnan(deviation) ? deviation : largest;
}

constexpr char DAMAGED[] = "the file was changed or damaged after export";

class DeployedModel : public Model {
 public:
  DeployedModel(const std::string &bytes, const Placement &placement)
      : placement(placement),
        gpu(choose_gpu(placement)),
        script(sealed(bytes), placement, gpu),
        description(script.info()) {
    description.device = script.device();
    std::string reason = placement.fused ? gpu.reason : "as asked for";
    description.fields.empty() ? choose_kernel(reason) : choose_kernel_of_stages(reason);
    description.kernel = fused ? fused->name() : "torchscript (" + reason + ")";
    const bool exact = placement.precision == Arithmetic::FLOAT64;
    const bool mixed = fused && placement.precision == Arithmetic::MIXED;
    description.precision = exact ? "float64" : mixed ? "mixed" : "float32";
    if (!fused) use_torchscript();
  }

  const ModelInfo &info() const override { return description; }

  int n_features() override {
    return fused && fused->n_features() > 0 ? fused->n_features() : script.n_features();
  }

  void evaluate(const NeighborGraph &graph, const Request &request, Evaluation &result) override {
    in_one_line("", [&] {
      Request left = request;  // what the kernel does not say
      if (fused) {
        Request said = request;  // a kernel with other features would count into other places
        said.extrapolations = request.extrapolations && counts_all();
        in_one_line("evaluating the model", [&] { fused->evaluate(graph, said, result); });
        if (description.terms) script.add_terms(graph, result);
        left.extrapolations = request.extrapolations && !counts_all();
        left.features = request.features && fused->n_features() == 0;
      } else {
        script.evaluate(graph, request.members && description.n_members > 1, result);
      }
      if (left.extrapolations || left.features) use(script.features(graph), graph, left, result);
    });
  }

  bool stages_at_once() const override { return fused && !fused_field && !description.fields.empty(); }

  bool stages_by_kernels() const override { return fused_field != nullptr; }

  void evaluate_kernel(int number, const NeighborGraph &graph, const double *charges, const Request &request,
                       Evaluation &result) override {
    in_one_line("evaluating the model", [&] {
      if (number == 0)
        fused_field->evaluate(graph, Request(), result);
      else
        fused->evaluate(graph, request, result, charges);
    });
  }

  void evaluate_stage(int number, const NeighborGraph &graph, const StageInputs &stage, StageResults &results,
                      Evaluation &evaluation) override {
    in_one_line("", [&] {
      script.evaluate_stage(number, graph, stage, results, evaluation);
      const Request request{false, stage.extrapolations, stage.features};
      if (request.extrapolations || request.features)
        use(script.features(graph, stage), graph, request, evaluation);
    });
  }

  bool takes_systems(const Request &request) const override {
    return fused && fused->memory() == Memory::DEVICE && !description.terms && !request.features &&
           (!request.extrapolations || counts_all());
  }

  void evaluate(const System &system, SystemResults &results) override {
    in_one_line("evaluating the model", [&] { fused->evaluate(system, results); });
  }

 private:
  Placement placement;
  Gpu gpu;  // of the CUDA kernels
  TorchScript script;
  ModelInfo description;
  std::unique_ptr<FusedModel> fused;        // null: TorchScript is evaluated
  std::unique_ptr<FusedModel> fused_field;  // of the first stage, where the energies see the charges

  // Whether the kernel counts all features that have ranges.
  bool counts_all() const { return fused->n_functions() == description.n_functions; }

  // A kernel that reproduces the self-test, on a GPU or on the processor; none and the reason.
  void choose_kernel(std::string &reason) {
    if (description.different_terms) {
      reason = "the members have different terms beside their networks";
      return;
    }
    StoredTest test = script.stored_test();
    if (description.terms) script.take_terms(test);
    const auto n_elements = static_cast<int64_t>(description.elements.size());
    const auto try_on = [&](int place) {
      try_kernel(
          inputs_of_members, place, reason, [&] { return fused->deviation(test, n_elements); },
          "the self-test");
    };
    if (placement.fused && gpu.number >= 0) try_on(gpu.number);
    if (fused)
      description.device = "cuda:" + std::to_string(gpu.number);
    else if (placement.device == Device::CUDA && script.on_cpu())
      throw std::runtime_error(
          "device cuda: torch sees no usable GPU, and no CUDA kernel evaluates this model: " + reason);
    else if (placement.fused && script.on_cpu())
      try_on(-1);
  }

  // The same of stages that hear nothing of each other; the kernel gives the numbers of TorchScript for each.
  void choose_kernel_of_stages(std::string &reason) {
    if (placement.device == Device::CUDA && script.on_cpu())
      throw std::runtime_error("device cuda: torch sees no usable GPU, and the model has stages");
    if (!placement.fused || !script.on_cpu()) return;
    if (description.terms) {
      reason = "the model has stages and terms beside its networks";
      return;
    }
    const StoredTest test = script.stored_test();
    try_kernel(
        inputs_of_stages, -1, reason,
        [&] {
          if (!counts_all()) throw std::runtime_error("the kernel has other features");
          return deviation_of_stages(test);
        },
        "the stages of the model");
    if (fused) check(SELF_TEST, DAMAGED);  // what the kernel was compared with is what was exported
  }

  template <typename InputsOf, typename Compare>
  void try_kernel(const InputsOf &inputs_of, int place, std::string &reason, const Compare &compare,
                  const char *what) {
    try {
      const std::vector<KernelInput> inputs = inputs_of(script.metadata(), script.arrays());
      if (inputs.empty()) {
        reason = "the model has stages";
        return;
      }
      const auto make = [&](Arithmetic precision, const Tolerance &tolerance, const char *how) {
        const size_t n = description.charges.seen ? 1 : inputs.size();
        const std::vector<KernelInput> energies(inputs.begin(), inputs.begin() + n),
            rest(inputs.begin() + n, inputs.end());
        fused_field =
            rest.empty() ? nullptr : FusedModel::make(rest, precision, place, placement.threads, reason);
        fused = fused_field || rest.empty()
                    ? FusedModel::make(energies, precision, place, placement.threads, reason)
                    : nullptr;
        if (fused && !accept(compare(), fused->with_tables(tolerance)))
          throw std::runtime_error(std::string("the kernel does not reproduce ") + what + how);
      };
      make(Arithmetic::FLOAT64, SELF_TEST, "");
      if (fused && placement.precision != Arithmetic::FLOAT64)
        make(placement.precision, SELF_TEST_SINGLE, " in single precision");
    } catch (const std::exception &failure) {  // the TorchScript of the file decides what it is worth
      fused.reset();
      fused_field.reset();
      reason = failure.what();
    }
  }

  // How far the kernel is from TorchScript; row 0 is the energy, the others are the numbers of the field.
  Deviation deviation_of_stages(const StoredTest &test) {
    const size_t n_atoms = test.types.size(), n_edges = test.neighbor_type.size();
    const size_t width = description.fields[0].width, rows = 1 + width;
    NeighborGraph graph;
    graph.edge_vec = test.edge_vec;
    graph.neighbor_type = test.neighbor_type;
    graph.offsets = test.offsets;
    graph.types = test.types;
    graph.set_size(static_cast<int64_t>(n_atoms), static_cast<int64_t>(n_edges));
    Request request;
    request.members = true;
    Evaluation found, of_field;
    std::vector<double> charges(n_atoms);
    for (size_t a = 0; a < n_atoms; a++) charges[a] = 0.3 * std::sin(1.0 + static_cast<double>(a));
    fused->evaluate(graph, request, found, fused_field ? charges.data() : nullptr);
    if (fused_field) fused_field->evaluate(graph, request, of_field);
    Deviation worst;
    double largest = 0.0;
    for (size_t row = 0; row < rows; row++) {
      const bool energies = row == 0;
      const Evaluation &given = energies || !fused_field ? found : of_field;
      const size_t columns = fused_field ? 1 : rows, column = fused_field ? 0 : row;
      StageInputs inputs;
      StageResults expected;
      Evaluation slopes;
      std::vector<double> cotangent(energies ? n_atoms : n_atoms * width, energies ? 1.0 : 0.0);
      for (size_t a = 0; a < n_atoms && !energies; a++) cotangent[a * width + row - 1] = 1.0;
      if (energies) {
        inputs.own.assign(n_atoms * width, 0.0);
        if (fused_field) inputs.own = charges;
        inputs.theirs.assign(n_edges * width, 0.0);
      }
      inputs.cotangent = cotangent.data();
      script.evaluate_stage(energies ? 1 : 0, graph, inputs, expected, slopes);
      for (size_t a = 0; a < n_atoms; a++) {
        const double value = energies ? expected.values[a] : expected.values[a * width + row - 1];
        worst.energy = at_least(worst.energy, std::abs(given.atomic_energy[a * columns + column] - value) /
                                                  std::max(1.0, std::abs(value)));
        if (!energies || !fused_field) continue;
        largest = std::max(largest, std::abs(expected.own_gradient[a]));
        worst.gradient =
            at_least(worst.gradient, std::abs(found.charge_gradient[a] - expected.own_gradient[a]));
      }
      for (size_t k = 0; k < 3 * n_edges; k++) {
        largest = std::max(largest, std::abs(slopes.gradient[k]));
        worst.gradient =
            at_least(worst.gradient, std::abs(given.gradient[k * columns + column] - slopes.gradient[k]));
      }
    }
    worst.gradient /= scale_of_gradients(largest);
    return worst;
  }

  void use_torchscript() {
    check(SELF_TEST, DAMAGED);
    if (placement.precision == Arithmetic::FLOAT64) return;
    script.use_single_precision();
    check(SELF_TEST_SINGLE,
          "in double precision it is right: this potential needs precision float64, the default");
  }

  // Notes the deviations; false if they are too large or not a number.
  bool accept(const Deviation &found, const Tolerance &tolerance) {
    description.energy_error = found.energy;
    description.gradient_error = found.gradient;
    return found.is_within(tolerance);
  }

  void check(const Tolerance &tolerance, const char *reason) {
    const Deviation found = script.deviation();
    if (accept(found, tolerance)) return;
    std::ostringstream text;
    text << "self-test failed: the frame stored in the file gives energies off by " << found.energy
         << " eV (relative, allowed " << tolerance.energy << ") and gradients off by " << found.gradient
         << " eV/A (allowed " << tolerance.gradient << "); " << reason;
    throw std::runtime_error(text.str());
  }

  // What TorchScript says of the features.
  void use(std::vector<double> features, const NeighborGraph &graph, const Request &request,
           Evaluation &result) const {
    if (request.extrapolations) count_extrapolations(features, graph, result);
    if (request.features) result.features = std::move(features);
  }

  void count_extrapolations(const std::vector<double> &features, const NeighborGraph &graph,
                            Evaluation &result) const {
    const int64_t n_atoms = graph.n_atoms(), n_functions = description.n_functions;
    if (static_cast<int64_t>(features.size()) != n_atoms * n_functions)
      throw std::runtime_error("the features of the model do not fit its ranges");
    const double *value = features.data();
    result.atom_extrapolations.assign(n_atoms, 0);
    for (int64_t i = 0; i < n_atoms; i++)
      for (int64_t f = 0; f < n_functions; f++, value++) {
        const int64_t at = graph.types[i] * n_functions + f;
        const FeatureRange &range = description.feature_ranges[at];
        if (*value >= range.minimum && *value <= range.maximum) continue;
        result.atom_extrapolations[i]++;
        result.function_extrapolations[at]++;
      }
  }
};

}  // namespace

}  // namespace nnpkit

// The symbol that model_library.cpp looks up.
extern "C" __attribute__((visibility("default"))) nnpkit::Model *nnpkit_load_model(
    const std::string &bytes, const nnpkit::Placement &placement) {
  return nnpkit::in_one_line("", [&] { return new nnpkit::DeployedModel(bytes, placement); });
}
