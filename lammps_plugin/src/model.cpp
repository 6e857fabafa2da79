// The only file that includes libtorch: a TorchScript model evaluated for LAMMPS.

#include "model.h"

#include "cuda_library.h"
#include "fused_model.h"
#include "metadata.h"
#include "neighbor_graph.h"
#include "seal.h"

#include <torch/script.h>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/cuda.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>

namespace nnpkit {

namespace {

// One line a user can read out of the pages that libtorch may write, without bytes that are no text.
std::string first_line(const std::string &text) {
  std::istringstream lines(text);
  std::string line, found;
  while (std::getline(lines, line)) {
    if (found.empty()) found = line;
    if (line.rfind("RuntimeError:", 0) == 0) found = line;  // the end of a TorchScript traceback
  }
  std::replace_if(found.begin(), found.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return found;
}

// Runs a step that uses libtorch; whatever it throws becomes a std::runtime_error of one line.
template <typename Step>
auto in_one_line(const std::string &doing, const Step &step) {
  const std::string prefix = doing.empty() ? "" : doing + ": ";
  try {
    return step();
  } catch (const c10::Error &error) {
    throw std::runtime_error(prefix + first_line(error.what_without_backtrace()));
  } catch (const std::exception &error) {
    throw std::runtime_error(prefix + first_line(error.what()));
  }
}

// torch's thread count belongs to the whole process (a python driver, LAMMPS' own OpenMP styles): lend it
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before(at::get_num_threads()) {
    if (threads != before) at::set_num_threads(threads);
  }
  ~ThreadCount() {
    if (at::get_num_threads() != before) at::set_num_threads(before);
  }
  ThreadCount(const ThreadCount &) = delete;
  ThreadCount &operator=(const ThreadCount &) = delete;

 private:
  int before;
};

// A chunk of atoms allocates and frees tens of MB. By default glibc gives them back to the kernel each time,
// and a third of the run goes into page faults; the process keeps them instead.
void keep_freed_memory() {
#if defined(__GLIBC__)
  constexpr int megabyte = 1 << 20;
  mallopt(M_TRIM_THRESHOLD, 512 * megabyte);
  mallopt(M_MMAP_THRESHOLD, 32 * megabyte);
#endif
}

// For TorchScript. Where CUDA kernels have a GPU, torch need not.
at::Device choose_device(const Placement &placement, const Gpu &gpu) {
  if (placement.device == Device::CPU) return at::kCPU;
  const auto count = torch::cuda::is_available() ? torch::cuda::device_count() : 0;
  if (count > 0)
    return {at::kCUDA, static_cast<c10::DeviceIndex>(placement.rank_on_node % static_cast<int>(count))};
  if (placement.device == Device::AUTO || gpu.number >= 0) return at::kCPU;
  throw std::runtime_error("device cuda: torch sees no usable GPU, and neither do the CUDA kernels: " +
                           gpu.reason + "; use device cpu, or look at 'nnpkit doctor'");
}

struct Inputs {
  at::Tensor edge_vec, neighbor_type, offsets, types;
  at::Tensor neighbor;  // index among the types; defined in the self-test of a model with stages only
};

struct Outputs {
  at::Tensor atomic_energy, gradient;  // float64, on the CPU
};

// The frame stored in the file and what the model that was exported made of it.
struct SelfTest {
  Inputs inputs;
  Outputs expected;

  StoredTest as_vectors() const {
    StoredTest test;
    const auto copy = [](const at::Tensor &from, auto &to, at::ScalarType type) {
      using Value = typename std::decay_t<decltype(to)>::value_type;
      const at::Tensor values = from.to(type).contiguous();
      to.assign(values.data_ptr<Value>(), values.data_ptr<Value>() + values.numel());
    };
    copy(inputs.edge_vec, test.edge_vec, at::kDouble);
    copy(inputs.neighbor_type, test.neighbor_type, at::kLong);
    copy(inputs.offsets, test.offsets, at::kLong);
    copy(inputs.types, test.types, at::kLong);
    copy(expected.atomic_energy, test.atomic_energy, at::kDouble);
    copy(expected.gradient, test.gradient, at::kDouble);
    return test;
  }
};

class TorchModel : public Model {
 public:
  TorchModel(const std::string &bytes, const Placement &placement)
      : placement(placement), gpu(choose_gpu(placement)), device(choose_device(placement, gpu)) {
    const ThreadCount threads(placement.threads);
    keep_freed_memory();
    open(bytes);
    const SelfTest test = stored_test();
    description.device = device.str();
    if (!use_kernel(test)) use_torchscript(test);
  }

  const ModelInfo &info() const override { return description; }

  void evaluate(const NeighborGraph &graph, const Request &request, Evaluation &result) override {
    in_one_line("evaluating the model", [&] {
      const bool counts =
          fused && (!request.extrapolations || fused->n_functions() == description.n_functions);
      const bool shows = fused && (!request.features || fused->n_features() > 0);
      if (fused) fused->evaluate(graph, request, result);
      if (counts && shows) return;
      const ThreadCount threads(placement.threads);
      const Inputs inputs = view(graph);
      if (fused)
        return use_features(inputs, request.extrapolations && !counts, request.features && !shows, result);
      const bool members = request.members && description.n_members > 1;
      const Outputs outputs = members ? run_members(inputs) : run(inputs);
      const double *const energy = outputs.atomic_energy.data_ptr<double>();
      const double *const gradient = outputs.gradient.data_ptr<double>();
      result.n_rows = members ? description.n_members : 1;
      result.atomic_energy.assign(energy, energy + outputs.atomic_energy.numel());
      result.gradient.assign(gradient, gradient + outputs.gradient.numel());
      use_features(inputs, request.extrapolations, request.features, result);
    });
  }

  int n_features() override {
    if (fused && fused->n_features() > 0) return fused->n_features();
    if (!description.fields.empty()) return description.n_functions;
    return in_one_line("evaluating the features", [&] {
      const ThreadCount threads(placement.threads);
      return module.find_method("features") ? static_cast<int>(features(stored_test().inputs).size(1)) : 0;
    });
  }

  void evaluate_stage(int number, const NeighborGraph &graph, const StageInputs &stage, StageResults &results,
                      Evaluation &evaluation) override {
    in_one_line("evaluating the model", [&] {
      const ThreadCount threads(placement.threads);
      run_stage(number, view(graph), stage, results, evaluation);
    });
  }

  bool stages_at_once() const override { return fused && !description.fields.empty(); }

  bool takes_systems() const override { return fused && fused->takes_systems(); }
  void evaluate(const System &system, SystemResults &results) override {
    in_one_line("evaluating the model", [&] { fused->evaluate(system, results); });
  }

 private:
  Placement placement;
  Gpu gpu;  // of the CUDA kernels
  at::Device device;
  at::ScalarType dtype = at::kDouble;
  torch::jit::Module module;
  ModelInfo description;
  std::string metadata;
  std::unique_ptr<FusedModel> fused;  // null: TorchScript is evaluated

  void open(const std::string &bytes) {
    check_seal(bytes);
    torch::jit::ExtraFilesMap extra{{"metadata.json", ""}};
    std::istringstream stream(bytes);
    module = in_one_line("no readable TorchScript file",
                         [&] { return torch::jit::load(stream, device, extra, false); });
    metadata = extra["metadata.json"];
    description = parse_metadata(metadata);
    in_one_line("preparing the model", [&] {
      module.eval();
      for (auto parameter : module.parameters()) parameter.requires_grad_(false);
    });
  }

  // The numbers of the archive for the kernel, one set per member.
  std::vector<KernelInput> kernel_inputs() {
    std::vector<KernelInput> members;
    for (const std::string &text : member_metadata(metadata)) members.push_back({text, {}});
    const auto take = [&](const std::string &name, const at::Tensor &tensor) {
      if (!tensor.is_floating_point()) return;
      for (size_t m = 0; m < members.size(); m++) {
        const std::string prefix = members.size() == 1 ? "model." : "member_" + std::to_string(m) + ".";
        if (name.rfind(prefix, 0) != 0) continue;
        const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
        const double *const begin = values.data_ptr<double>();
        members[m].tensors[name.substr(prefix.size())] = {values.sizes().vec(),
                                                          {begin, begin + values.numel()}};
      }
    };
    for (const auto &parameter : module.named_parameters()) take(parameter.name, parameter.value);
    for (const auto &buffer : module.named_buffers()) take(buffer.name, buffer.value);
    return members;
  }

  // True if a kernel covers this model and reproduces the self-test; else description.kernel says why not.
  bool use_kernel(const SelfTest &test) {
    std::string reason = placement.fused ? gpu.reason : "as asked for";
    if (!description.fields.empty()) {
      if (placement.device == Device::CUDA && device.is_cpu())
        throw std::runtime_error("device cuda: torch sees no usable GPU, and the model has stages");
      if (placement.fused && device.is_cpu()) use_kernel_of_stages(test, reason);
      description.kernel = fused ? fused->name() : "torchscript (" + reason + ")";
      return fused != nullptr;
    }
    if (placement.fused && gpu.number >= 0 && try_kernel(test, gpu.number, reason))
      description.device = "cuda:" + std::to_string(gpu.number);
    else if (placement.device == Device::CUDA && device.is_cpu())
      throw std::runtime_error(
          "device cuda: torch sees no usable GPU, and no CUDA kernel evaluates this model: " + reason);
    else if (placement.fused && device.is_cpu())
      try_kernel(test, -1, reason);
    description.kernel = fused ? fused->name() : "torchscript (" + reason + ")";
    if (!fused) return false;
    description.precision = placement.precision == Arithmetic::FLOAT64 ? "float64"
                            : placement.precision == Arithmetic::MIXED ? "mixed"
                                                                       : "float32";
    return true;
  }

  // Stages that hear nothing of each other, as members that share their features: a kernel that gives the
  // numbers of TorchScript for every stage, or none and the reason.
  void use_kernel_of_stages(const SelfTest &test, std::string &reason) {
    const std::vector<std::string> descriptions = stage_metadata(metadata);
    if (descriptions.empty()) {
      reason = "the model has stages";
      return;
    }
    try {
      const std::vector<KernelInput> members = stage_inputs(descriptions);
      const auto make = [&](Arithmetic precision, const Tolerance &tolerance) {
        fused = FusedModel::make(members, precision, -1, placement.threads, reason);
        if (!fused) return;
        if (fused->n_functions() != description.n_functions)
          throw std::runtime_error("the kernel has other features");
        if (!accept(deviation_of_stages(test), fused->with_tables(tolerance)))
          throw std::runtime_error("the kernel does not reproduce the stages of the model");
      };
      make(Arithmetic::FLOAT64, SELF_TEST);
      if (fused && placement.precision != Arithmetic::FLOAT64) make(placement.precision, SELF_TEST_SINGLE);
    } catch (const std::exception &failure) {
      fused.reset();
      reason = failure.what();
    }
    if (!fused) return;
    check(test, SELF_TEST);  // what the kernel was compared with is what was exported
    description.precision = placement.precision == Arithmetic::FLOAT64 ? "float64"
                            : placement.precision == Arithmetic::MIXED ? "mixed"
                                                                       : "float32";
  }

  // The short-range part, and with each network of the first field in the place of its own.
  std::vector<KernelInput> stage_inputs(const std::vector<std::string> &descriptions) {
    std::vector<KernelInput> members;
    for (const std::string &text : descriptions) members.push_back({text, {}});
    const std::string own = "model.networks.";
    const auto take = [&](const std::string &name, const at::Tensor &tensor) {
      if (!tensor.is_floating_point() || name.rfind("model.", 0) != 0) return;
      const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
      const double *const begin = values.data_ptr<double>();
      for (size_t m = 0; m < members.size(); m++) {
        const std::string channel = "model.charge_networks." + std::to_string(m - 1) + ".";
        std::string key = name.substr(6);
        if (m > 0 && name.rfind(channel, 0) == 0)
          key = "networks." + name.substr(channel.size());
        else if (m > 0 && name.rfind(own, 0) == 0)
          continue;
        members[m].tensors[key] = {values.sizes().vec(), {begin, begin + values.numel()}};
      }
    };
    for (const auto &parameter : module.named_parameters()) take(parameter.name, parameter.value);
    for (const auto &buffer : module.named_buffers()) take(buffer.name, buffer.value);
    return members;
  }

  Deviation deviation_of_stages(const SelfTest &test) {
    const StoredTest stored = test.as_vectors();
    const size_t n_atoms = stored.types.size(), n_edges = stored.neighbor_type.size();
    const size_t width = description.fields[0].width, rows = 1 + width;
    NeighborGraph graph;
    graph.edge_vec = stored.edge_vec;
    graph.neighbor_type = stored.neighbor_type;
    graph.offsets = stored.offsets;
    graph.types = stored.types;
    graph.set_size(static_cast<int64_t>(n_atoms), static_cast<int64_t>(n_edges));
    Request request;
    request.members = true;
    Evaluation found;
    fused->evaluate(graph, request, found);
    Deviation worst;
    double largest = 0.0;
    for (size_t row = 0; row < rows; row++) {
      const bool energies = row == 0;
      StageInputs inputs;
      StageResults expected;
      Evaluation slopes;
      std::vector<double> cotangent(energies ? n_atoms : n_atoms * width, energies ? 1.0 : 0.0);
      for (size_t a = 0; a < n_atoms && !energies; a++) cotangent[a * width + row - 1] = 1.0;
      if (energies) {
        inputs.own.assign(n_atoms * width, 0.0);
        inputs.theirs.assign(n_edges * width, 0.0);
      }
      inputs.cotangent = cotangent.data();
      run_stage(energies ? 1 : 0, view(graph), inputs, expected, slopes);
      for (size_t a = 0; a < n_atoms; a++) {
        const double value = energies ? expected.values[a] : expected.values[a * width + row - 1];
        const double off =
            std::abs(found.atomic_energy[a * rows + row] - value) / std::max(1.0, std::abs(value));
        worst.energy = off > worst.energy || std::isnan(off) ? off : worst.energy;
      }
      for (size_t k = 0; k < 3 * n_edges; k++) {
        const double off = std::abs(found.gradient[k * rows + row] - slopes.gradient[k]);
        largest = std::max(largest, std::abs(slopes.gradient[k]));
        worst.gradient = off > worst.gradient || std::isnan(off) ? off : worst.gradient;
      }
    }
    worst.gradient /= scale_of_gradients(largest);
    return worst;
  }

  // On a GPU, or, for -1, on the processor.
  bool try_kernel(const SelfTest &test, int place, std::string &reason) {
    try {
      const std::vector<KernelInput> members = kernel_inputs();
      const StoredTest stored = test.as_vectors();
      const auto n_elements = static_cast<int64_t>(description.elements.size());
      fused = FusedModel::make(members, Arithmetic::FLOAT64, place, placement.threads, reason);
      if (fused && !accept(fused->deviation(stored, n_elements), fused->with_tables(SELF_TEST)))
        throw std::runtime_error("the kernel does not reproduce the self-test");
      if (fused && placement.precision != Arithmetic::FLOAT64) {
        fused = FusedModel::make(members, placement.precision, place, placement.threads, reason);
        if (fused && !accept(fused->deviation(stored, n_elements), fused->with_tables(SELF_TEST_SINGLE)))
          throw std::runtime_error("the kernel does not reproduce the self-test in single precision");
      }
    } catch (const std::exception &failure) {  // the TorchScript of the file decides what it is worth
      fused.reset();
      reason = failure.what();
    }
    return fused != nullptr;
  }

  void use_torchscript(const SelfTest &test) {
    check(test, SELF_TEST);
    if (placement.precision != Arithmetic::FLOAT64) {
      use_single_precision();
      check(test, SELF_TEST_SINGLE);
    }
    description.precision = placement.precision == Arithmetic::FLOAT64 ? "float64" : "float32";
  }

  // Notes the deviations; false if they are too large or not a number.
  bool accept(const Deviation &found, const Tolerance &tolerance) {
    description.energy_error = found.energy;
    description.gradient_error = found.gradient;
    return found.is_within(tolerance);
  }

  // The buffers of the graph as tensors; nothing is copied before `run` does.
  static Inputs view(const NeighborGraph &graph) {
    const auto tensor = [](const auto &buffer, std::vector<int64_t> shape, at::ScalarType type) {
      return at::from_blob(const_cast<void *>(static_cast<const void *>(buffer.data())), shape, type);
    };
    const int64_t n_atoms = graph.n_atoms(), n_edges = graph.n_edges();
    return {tensor(graph.edge_vec, {n_edges, 3}, at::kDouble),
            tensor(graph.neighbor_type, {n_edges}, at::kLong),
            tensor(graph.offsets, {n_atoms + 1}, at::kLong),
            tensor(graph.types, {n_atoms}, at::kLong),
            {}};
  }

  // E_i and g = d(sum_i E_i)/d edge_vec
  Outputs run(const Inputs &inputs) {
    // The optimising executor profiles and recompiles for every new shape, and no two chunks have the same:
    // without it a run starts three times faster, needs less memory and is no slower later (measured).
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const at::Tensor edge_vec = inputs.edge_vec.to(device, dtype).requires_grad_(true);
    const at::Tensor energy =
        inputs.neighbor.defined()
            ? module
                  .run_method("stages", edge_vec, inputs.neighbor.to(device), inputs.neighbor_type.to(device),
                              inputs.offsets.to(device), inputs.types.to(device))
                  .toTensorVector()
                  .back()
            : module
                  .forward({edge_vec, inputs.neighbor_type.to(device), inputs.offsets.to(device),
                            inputs.types.to(device)})
                  .toTensor();
    if (energy.dim() != 1 || energy.size(0) != inputs.types.size(0))
      throw std::runtime_error("the model returned no energy per atom");
    at::Tensor gradient;
    if (energy.requires_grad())
      gradient = torch::autograd::grad({energy.sum()}, {edge_vec}, {}, false, false, true)[0];
    if (!gradient.defined()) gradient = at::zeros_like(edge_vec);  // no edge reached an energy
    return {energy.detach().to(at::kCPU, at::kDouble).contiguous(),
            gradient.to(at::kCPU, at::kDouble).contiguous()};
  }

  void run_stage(int number, const Inputs &inputs, const StageInputs &stage, StageResults &results,
                 Evaluation &evaluation) {
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const bool last = number == static_cast<int>(description.fields.size()), slopes = stage.cotangent;
    const int64_t n_atoms = inputs.types.size(0), n_edges = inputs.edge_vec.size(0);
    const int64_t width = number > 0 ? description.fields[number - 1].width : 0;
    const auto rows = [&](const double *values, int64_t n, int64_t n_columns) {
      return at::from_blob(const_cast<double *>(values), {n, n_columns}, at::kDouble).to(device, dtype);
    };
    const at::AutoGradMode record(slopes);
    std::vector<at::Tensor> leaves = {inputs.edge_vec.to(device, dtype, false, true),
                                      rows(stage.own.data(), n_atoms, width),
                                      rows(stage.theirs.data(), n_edges, width)};
    for (at::Tensor &leaf : leaves) leaf = leaf.detach().requires_grad_(slopes);
    const at::Tensor types = inputs.neighbor_type.to(device), offsets = inputs.offsets.to(device),
                     own_types = inputs.types.to(device);
    const at::Tensor values =
        module.run_method("stage", number, leaves[1], leaves[2], leaves[0], types, offsets, own_types)
            .toTensor();
    const int64_t n_columns = last ? 1 : description.fields[number].width;
    if (values.dim() != (last ? 1 : 2) || values.size(0) != n_atoms || (!last && values.size(1) != n_columns))
      throw std::runtime_error("a stage of the model returned something else than its field");
    const auto copy = [](const at::Tensor &from, auto &to) {
      const at::Tensor plain = from.detach().to(at::kCPU, at::kDouble).contiguous();
      to.assign(plain.data_ptr<double>(), plain.data_ptr<double>() + plain.numel());
    };
    copy(values, results.values);
    if (slopes) {
      at::Tensor cotangent = rows(stage.cotangent, n_atoms, n_columns).to(values.scalar_type());
      if (last) cotangent = cotangent.squeeze(1);
      std::vector<at::Tensor> found(leaves.size());
      if (values.requires_grad())
        found = torch::autograd::grad({values}, leaves, {cotangent}, false, false, true);
      for (size_t k = 0; k < leaves.size(); k++)
        if (!found[k].defined()) found[k] = at::zeros_like(leaves[k]);  // it does not matter here
      copy(found[0], evaluation.gradient);
      copy(found[1], results.own_gradient);
      copy(found[2], results.their_gradient);
    }
    if (!stage.features && !stage.extrapolations) return;
    const at::NoGradGuard no_gradient;
    const at::Tensor features =
        module.run_method("last_features", leaves[1], leaves[2], leaves[0], types, offsets, own_types)
            .toTensor()
            .to(at::kCPU, at::kDouble)
            .contiguous();
    use(features, inputs, stage.extrapolations, stage.features, evaluation);
  }

  // the same of every member of a committee, as the innermost index
  Outputs run_members(const Inputs &inputs) {
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const at::Tensor edge_vec = inputs.edge_vec.to(device, dtype).requires_grad_(true);
    const at::Tensor energy = module
                                  .run_method("members", edge_vec, inputs.neighbor_type.to(device),
                                              inputs.offsets.to(device), inputs.types.to(device))
                                  .toTensor();
    if (energy.dim() != 2 || energy.size(0) != description.n_members ||
        energy.size(1) != inputs.types.size(0))
      throw std::runtime_error("the committee returned no energy per member and atom");
    std::vector<at::Tensor> gradient;
    for (int m = 0; m < description.n_members; m++) {
      const bool more = m + 1 < description.n_members;
      at::Tensor own;
      if (energy.requires_grad())
        own = torch::autograd::grad({energy[m].sum()}, {edge_vec}, {}, more, false, true)[0];
      gradient.push_back(own.defined() ? own : at::zeros_like(edge_vec));
    }
    return {energy.detach().t().to(at::kCPU, at::kDouble).contiguous(),
            at::stack(gradient, 2).to(at::kCPU, at::kDouble).contiguous()};
  }

  // Raw features (atoms, n_features) in double precision, on the CPU.
  at::Tensor features(const Inputs &inputs) {
    const at::NoGradGuard no_gradient;
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const at::Tensor values =
        module
            .run_method("features", inputs.edge_vec.to(device, dtype), inputs.neighbor_type.to(device),
                        inputs.offsets.to(device), inputs.types.to(device))
            .toTensor()
            .to(at::kCPU, at::kDouble)
            .contiguous();
    if (values.dim() != 2 || values.size(0) != inputs.types.size(0))
      throw std::runtime_error("the model returned no features per atom");
    return values;
  }

  void use_features(const Inputs &inputs, bool count, bool show, Evaluation &result) {
    if (!count && !show) return;
    use(features(inputs), inputs, count, show, result);
  }

  void use(const at::Tensor &values, const Inputs &inputs, bool count, bool show, Evaluation &result) {
    const double *const begin = values.data_ptr<double>();
    if (show) result.features.assign(begin, begin + values.numel());
    if (count) count_extrapolations(inputs, values, result);
  }

  void count_extrapolations(const Inputs &inputs, const at::Tensor &features, Evaluation &result) {
    const int64_t n_atoms = inputs.types.size(0), n_functions = description.n_functions;
    if (features.size(1) != n_functions)
      throw std::runtime_error("the features of the model do not fit its ranges");
    const double *value = features.data_ptr<double>();
    const int64_t *const type = inputs.types.data_ptr<int64_t>();
    result.atom_extrapolations.assign(n_atoms, 0);
    for (int64_t i = 0; i < n_atoms; i++)
      for (int64_t f = 0; f < n_functions; f++, value++) {
        const FeatureRange &range = description.feature_ranges[type[i] * n_functions + f];
        if (*value >= range.minimum && *value <= range.maximum) continue;
        result.atom_extrapolations[i]++;
        result.function_extrapolations[type[i] * n_functions + f]++;
      }
  }

  SelfTest stored_test() {
    return in_one_line("reading the self-test of the model", [&] {
      const auto stored = module.run_method("self_test").toTuple();
      const auto part = [&](size_t index) {
        return stored->elements().at(index).toTensor().to(at::kCPU, false, true);  // a copy
      };
      const at::Tensor neighbor = description.fields.empty() ? at::Tensor() : part(6);
      return SelfTest{{part(0), part(1), part(2), part(3), neighbor}, {part(4), part(5)}};
    });
  }

  void check(const SelfTest &test, const Tolerance &tolerance) {
    const Deviation found = in_one_line("self-test of the model", [&] {
      const Outputs now = run(test.inputs);
      const at::Tensor energy = test.expected.atomic_energy.to(at::kDouble);
      const at::Tensor d_energy = (now.atomic_energy - energy).abs() / energy.abs().clamp_min(1.0);
      const at::Tensor stored = test.expected.gradient.to(at::kDouble), off = now.gradient - stored;
      const auto largest = [](const at::Tensor &t) { return t.numel() ? t.abs().max().item<double>() : 0.0; };
      return Deviation{d_energy.max().item<double>(), largest(off) / scale_of_gradients(largest(stored))};
    });
    if (accept(found, tolerance)) return;
    std::ostringstream text;
    text << "self-test failed: the frame stored in the file gives energies off by " << found.energy
         << " eV (relative, allowed " << tolerance.energy << ") and gradients off by " << found.gradient
         << " eV/A (allowed " << tolerance.gradient << "); the file was changed or damaged after export";
    throw std::runtime_error(text.str());
  }

  // Module::to would cast the integer buffers (tables of indices) as well
  void use_single_precision() {
    const at::NoGradGuard constant;
    for (auto tensor : module.parameters())
      if (tensor.is_floating_point()) tensor.set_data(tensor.to(at::kFloat));
    for (auto tensor : module.buffers())
      if (tensor.is_floating_point()) tensor.set_data(tensor.to(at::kFloat));
    dtype = at::kFloat;
  }
};

}  // namespace

}  // namespace nnpkit

// The symbol that model_library.cpp looks up.
extern "C" __attribute__((visibility("default"))) nnpkit::Model *nnpkit_load_model(
    const std::string &bytes, const nnpkit::Placement &placement) {
  return nnpkit::in_one_line("", [&] { return new nnpkit::TorchModel(bytes, placement); });
}
