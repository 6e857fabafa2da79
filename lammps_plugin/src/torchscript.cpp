// The only file that includes libtorch.

#include "torchscript.h"

#include "metadata.h"
#include "neighbor_graph.h"
#include "one_line.h"

#include <torch/script.h>

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/cuda.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <sstream>
#include <stdexcept>

namespace nnpkit {

namespace {

// torch's thread count belongs to the whole process, to a Python driver and to LAMMPS' own OpenMP styles: it
// is lent and given back.
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

// A step in torch with its number of threads and without the backtrace of its errors.
template <typename Step>
auto in_torch(const std::string &doing, int threads, const Step &step) {
  return in_one_line(doing, [&] {
    try {
      const ThreadCount lent(threads);
      return step();
    } catch (const c10::Error &error) {
      throw std::runtime_error(error.what_without_backtrace());
    }
  });
}

// A chunk of atoms allocates and frees tens of MB. By default glibc gives them back to the kernel each time,
// and a third of the run goes into page faults; the process keeps them instead.
void keep_freed_memory() {
#if defined(__GLIBC__)
  constexpr int megabyte = 1 << 20;
  mallopt(M_TRIM_THRESHOLD, 512 * megabyte);
  mallopt(M_MMAP_THRESHOLD, 32 * megabyte);
#endif
}

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

struct SelfTest {
  Inputs inputs;
  Outputs expected;
};

// The buffers of the graph as tensors; nothing is copied before they are used.
Inputs view(const NeighborGraph &graph) {
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

at::Tensor plain(const at::Tensor &from) {
  return from.detach().to(at::kCPU, at::kDouble).contiguous();
}

template <typename Vector>
void copy(const at::Tensor &from, Vector &to) {
  using Value = typename Vector::value_type;
  const at::Tensor values = from.detach().to(at::kCPU, c10::CppTypeToScalarType<Value>::value).contiguous();
  to.assign(values.data_ptr<Value>(), values.data_ptr<Value>() + values.numel());
}

}  // namespace

struct TorchScript::Script {
  int threads;
  at::Device device;
  at::ScalarType dtype = at::kDouble;
  torch::jit::Module script;

  // E_i and g = d(sum_i E_i)/d edge_vec
  Outputs run(const Inputs &inputs) {
    // The optimising executor profiles and recompiles for every new shape, and no two chunks have the same:
    // without it a run starts three times faster, needs less memory and is no slower later (measured).
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const at::Tensor edge_vec = inputs.edge_vec.to(device, dtype).requires_grad_(true);
    const at::Tensor energy =
        inputs.neighbor.defined()
            ? script
                  .run_method("stages", edge_vec, inputs.neighbor.to(device), inputs.neighbor_type.to(device),
                              inputs.offsets.to(device), inputs.types.to(device))
                  .toTensorVector()
                  .back()
            : script
                  .forward({edge_vec, inputs.neighbor_type.to(device), inputs.offsets.to(device),
                            inputs.types.to(device)})
                  .toTensor();
    if (energy.dim() != 1 || energy.size(0) != inputs.types.size(0))
      throw std::runtime_error("the model returned no energy per atom");
    at::Tensor gradient;
    if (energy.requires_grad())
      gradient = torch::autograd::grad({energy.sum()}, {edge_vec}, {}, false, false, true)[0];
    if (!gradient.defined()) gradient = at::zeros_like(edge_vec);  // no edge reached an energy
    return {plain(energy), plain(gradient)};
  }

  // The same of the terms that kernels do not know, always in double precision.
  Outputs run_terms(const Inputs &inputs) {
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const at::Tensor edge_vec = inputs.edge_vec.to(device).detach().requires_grad_(true);
    const at::Tensor energy = script
                                  .run_method("terms", edge_vec, inputs.neighbor_type.to(device),
                                              inputs.offsets.to(device), inputs.types.to(device))
                                  .toTensor();
    if (energy.dim() != 1 || energy.size(0) != inputs.types.size(0))
      throw std::runtime_error("the terms of the model have no energy per atom");
    at::Tensor gradient;
    if (energy.requires_grad())
      gradient = torch::autograd::grad({energy.sum()}, {edge_vec}, {}, false, false, true)[0];
    if (!gradient.defined()) gradient = at::zeros_like(edge_vec);
    return {plain(energy), plain(gradient)};
  }

  // The same of every member of a committee, as the innermost index.
  Outputs run_members(const Inputs &inputs, int n_members) {
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const at::Tensor edge_vec = inputs.edge_vec.to(device, dtype).requires_grad_(true);
    const at::Tensor energy = script
                                  .run_method("members", edge_vec, inputs.neighbor_type.to(device),
                                              inputs.offsets.to(device), inputs.types.to(device))
                                  .toTensor();
    if (energy.dim() != 2 || energy.size(0) != n_members || energy.size(1) != inputs.types.size(0))
      throw std::runtime_error("the committee returned no energy per member and atom");
    std::vector<at::Tensor> gradient;
    for (int m = 0; m < n_members; m++) {
      const bool more = m + 1 < n_members;
      at::Tensor own;
      if (energy.requires_grad())
        own = torch::autograd::grad({energy[m].sum()}, {edge_vec}, {}, more, false, true)[0];
      gradient.push_back(own.defined() ? own : at::zeros_like(edge_vec));
    }
    return {plain(energy.detach().t()), plain(at::stack(gradient, 2))};
  }

  // What a stage is called with: edges, and its own and their numbers of the field before.
  std::vector<at::Tensor> stage_arguments(const Inputs &inputs, const StageInputs &stage, int64_t width,
                                          bool slopes) {
    std::vector<at::Tensor> leaves = {inputs.edge_vec.to(device, dtype, false, true),
                                      rows(stage.own.data(), inputs.types.size(0), width),
                                      rows(stage.theirs.data(), inputs.edge_vec.size(0), width)};
    for (at::Tensor &leaf : leaves) leaf = leaf.detach().requires_grad_(slopes);
    return leaves;
  }

  at::Tensor rows(const double *values, int64_t n, int64_t n_columns) {
    return at::from_blob(const_cast<double *>(values), {n, n_columns}, at::kDouble).to(device, dtype);
  }

  SelfTest self_test(bool stages) {
    const auto stored = script.run_method("self_test").toTuple();
    const auto part = [&](size_t index) {
      return stored->elements().at(index).toTensor().to(at::kCPU, false, true);  // a copy
    };
    const at::Tensor neighbor = stages ? part(6) : at::Tensor();
    return {{part(0), part(1), part(2), part(3), neighbor}, {part(4), part(5)}};
  }

  // In double precision, on the CPU.
  at::Tensor features(const Inputs &inputs) {
    const at::NoGradGuard no_gradient;
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const at::Tensor values =
        plain(script
                  .run_method("features", inputs.edge_vec.to(device, dtype), inputs.neighbor_type.to(device),
                              inputs.offsets.to(device), inputs.types.to(device))
                  .toTensor());
    if (values.dim() != 2 || values.size(0) != inputs.types.size(0))
      throw std::runtime_error("the model returned no features per atom");
    return values;
  }
};

TorchScript::TorchScript(const std::string &bytes, const Placement &placement, const Gpu &gpu) {
  in_one_line("", [&] {
    module.reset(new Script{placement.threads, choose_device(placement, gpu), at::kDouble, {}});
  });
  keep_freed_memory();
  in_torch("no readable TorchScript file", module->threads, [&] {
    torch::jit::ExtraFilesMap extra{{"metadata.json", ""}};
    std::istringstream stream(bytes);
    module->script = torch::jit::load(stream, module->device, extra, false);
    text = extra["metadata.json"];
  });
  description = in_one_line("", [&] { return parse_metadata(text); });
  if (description.apart)
    in_torch("no readable member of a committee", module->threads, [&] {
      text = member_metadata(text).at(placement.member);
      description = parse_member(description, text);
      module->script = module->script.attr("member_" + std::to_string(placement.member)).toModule();
    });
  in_torch("preparing the model", module->threads, [&] {
    module->script.eval();
    for (auto parameter : module->script.parameters()) parameter.requires_grad_(false);
  });
}

TorchScript::~TorchScript() = default;

std::string TorchScript::device() const {
  return module->device.str();
}

bool TorchScript::on_cpu() const {
  return module->device.is_cpu();
}

NamedArrays TorchScript::arrays() const {
  return in_torch("reading the numbers of the model", module->threads, [&] {
    NamedArrays found;
    const auto take = [&](const std::string &name, const at::Tensor &tensor) {
      if (!tensor.is_floating_point()) return;
      Array &array = found[name];
      array.shape = tensor.sizes().vec();
      copy(tensor, array.values);
    };
    for (const auto &parameter : module->script.named_parameters()) take(parameter.name, parameter.value);
    for (const auto &buffer : module->script.named_buffers()) take(buffer.name, buffer.value);
    return found;
  });
}

StoredTest TorchScript::stored_test() {
  return in_torch("reading the self-test of the model", module->threads, [&] {
    const SelfTest test = module->self_test(!description.fields.empty());
    StoredTest stored;
    copy(test.inputs.edge_vec, stored.edge_vec);
    copy(test.inputs.neighbor_type, stored.neighbor_type);
    copy(test.inputs.offsets, stored.offsets);
    copy(test.inputs.types, stored.types);
    copy(test.expected.atomic_energy, stored.atomic_energy);
    copy(test.expected.gradient, stored.gradient);
    return stored;
  });
}

Deviation TorchScript::deviation() {
  return in_torch("self-test of the model", module->threads, [&] {
    const SelfTest test = module->self_test(!description.fields.empty());
    const Outputs now = module->run(test.inputs);
    const at::Tensor energy = test.expected.atomic_energy.to(at::kDouble);
    const at::Tensor d_energy = (now.atomic_energy - energy).abs() / energy.abs().clamp_min(1.0);
    const at::Tensor stored = test.expected.gradient.to(at::kDouble), off = now.gradient - stored;
    const auto largest = [](const at::Tensor &t) { return t.numel() ? t.abs().max().item<double>() : 0.0; };
    return Deviation{d_energy.max().item<double>(), largest(off) / scale_of_gradients(largest(stored))};
  });
}

// Module::to would cast the integer buffers (tables of indices) as well.
void TorchScript::use_single_precision() {
  in_torch("preparing the model", module->threads, [&] {
    const at::NoGradGuard constant;
    for (auto tensor : module->script.parameters())
      if (tensor.is_floating_point()) tensor.set_data(tensor.to(at::kFloat));
    for (auto tensor : module->script.buffers())
      if (tensor.is_floating_point()) tensor.set_data(tensor.to(at::kFloat));
    module->dtype = at::kFloat;
  });
}

void TorchScript::evaluate(const NeighborGraph &graph, bool members, Evaluation &result) {
  in_torch("evaluating the model", module->threads, [&] {
    const Inputs inputs = view(graph);
    const Outputs outputs =
        members ? module->run_members(inputs, description.n_members) : module->run(inputs);
    result.n_rows = members ? description.n_members : 1;
    copy(outputs.atomic_energy, result.atomic_energy);
    copy(outputs.gradient, result.gradient);
  });
}

void TorchScript::take_terms(StoredTest &test) {
  in_torch("evaluating the terms of the model", module->threads, [&] {
    const Outputs found = module->run_terms(module->self_test(false).inputs);
    const auto subtract = [](const at::Tensor &values, std::vector<double> &from) {
      if (static_cast<size_t>(values.numel()) != from.size())
        throw std::runtime_error("the self-test of the model does not fit together");
      for (size_t k = 0; k < from.size(); k++) from[k] -= values.data_ptr<double>()[k];
    };
    subtract(found.atomic_energy, test.atomic_energy);
    subtract(found.gradient, test.gradient);
  });
}

void TorchScript::add_terms(const NeighborGraph &graph, Evaluation &result) {
  constexpr int64_t MOST_EDGES = 200000;  // at once, which bounds the memory
  in_torch("evaluating the terms of the model", module->threads, [&] {
    const Inputs all = view(graph);
    const int64_t n_atoms = graph.n_atoms(), n_rows = result.n_rows, *const offsets = graph.offsets.data();
    for (int64_t first = 0, last; first < n_atoms; first = last) {
      for (last = first + 1; last < n_atoms && offsets[last + 1] - offsets[first] <= MOST_EDGES;) last++;
      const int64_t begin = offsets[first], end = offsets[last];
      const Outputs found = module->run_terms(
          {all.edge_vec.slice(0, begin, end), all.neighbor_type.slice(0, begin, end),
           all.offsets.slice(0, first, last + 1) - begin, all.types.slice(0, first, last), at::Tensor()});
      const double *const energy = found.atomic_energy.data_ptr<double>(), *const gradient =
                                                                               found.gradient
                                                                                   .data_ptr<double>();
      for (int64_t k = 0; k < (last - first) * n_rows; k++)
        result.atomic_energy[first * n_rows + k] += energy[k / n_rows];
      for (int64_t k = 0; k < 3 * (end - begin) * n_rows; k++)
        result.gradient[3 * begin * n_rows + k] += gradient[k / n_rows];
    }
  });
}

void TorchScript::evaluate_stage(int number, const NeighborGraph &graph, const StageInputs &stage,
                                 StageResults &results, Evaluation &evaluation) {
  in_torch("evaluating the model", module->threads, [&] {
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const Inputs inputs = view(graph);
    const bool last = number == static_cast<int>(description.fields.size()), slopes = stage.cotangent;
    const int64_t n_atoms = inputs.types.size(0), n_columns = last ? 1 : description.fields[number].width;
    const at::AutoGradMode record(slopes);
    const std::vector<at::Tensor> leaves =
        module->stage_arguments(inputs, stage, number > 0 ? description.fields[number - 1].width : 0, slopes);
    const at::Tensor values =
        module->script
            .run_method("stage", number, leaves[1], leaves[2], leaves[0],
                        inputs.neighbor_type.to(module->device), inputs.offsets.to(module->device),
                        inputs.types.to(module->device))
            .toTensor();
    if (values.dim() != (last ? 1 : 2) || values.size(0) != n_atoms || (!last && values.size(1) != n_columns))
      throw std::runtime_error("a stage of the model returned something else than its field");
    copy(values, results.values);
    if (!slopes) return;
    at::Tensor cotangent = module->rows(stage.cotangent, n_atoms, n_columns).to(values.scalar_type());
    if (last) cotangent = cotangent.squeeze(1);
    std::vector<at::Tensor> found(leaves.size());
    if (values.requires_grad())
      found = torch::autograd::grad({values}, leaves, {cotangent}, false, false, true);
    for (size_t k = 0; k < leaves.size(); k++)
      if (!found[k].defined()) found[k] = at::zeros_like(leaves[k]);  // it does not matter here
    copy(found[0], evaluation.gradient);
    copy(found[1], results.own_gradient);
    copy(found[2], results.their_gradient);
  });
}

std::vector<double> TorchScript::features(const NeighborGraph &graph) {
  return in_torch("evaluating the features", module->threads, [&] {
    std::vector<double> values;
    copy(module->features(view(graph)), values);
    return values;
  });
}

std::vector<double> TorchScript::features(const NeighborGraph &graph, const StageInputs &stage) {
  return in_torch("evaluating the features", module->threads, [&] {
    const at::NoGradGuard no_gradient;
    const torch::jit::GraphOptimizerEnabledGuard plain_interpreter(false);
    const Inputs inputs = view(graph);
    const std::vector<at::Tensor> leaves =
        module->stage_arguments(inputs, stage, description.fields.back().width, false);
    std::vector<double> values;
    copy(module->script
             .run_method("last_features", leaves[1], leaves[2], leaves[0],
                         inputs.neighbor_type.to(module->device), inputs.offsets.to(module->device),
                         inputs.types.to(module->device))
             .toTensor(),
         values);
    return values;
  });
}

int TorchScript::n_features() {
  if (!description.fields.empty()) return description.n_functions;
  return in_torch("evaluating the features", module->threads, [&] {
    return module->script.find_method("features")
               ? static_cast<int>(module->features(module->self_test(false).inputs).size(1))
               : 0;
  });
}

}  // namespace nnpkit
