#include "c_api.h"

#include "c_message.h"
#include "kernel.h"

#include <stdexcept>

namespace {

using namespace nnpkit;

struct Handle {
  std::unique_ptr<Evaluator> kernel;
  std::string name;
};

std::vector<KernelInput> inputs_of(const nnpkit_model &model) {
  std::vector<KernelInput> inputs(static_cast<size_t>(model.n_members));
  size_t tensor = 0;
  const int64_t *shape = model.shapes;
  for (size_t m = 0; m < inputs.size(); m++) {
    inputs[m].metadata = model.metadata[m];
    for (int t = 0; t < model.n_tensors[m]; t++, tensor++) {
      Array array;
      array.shape.assign(shape, shape + model.n_dimensions[tensor]);
      shape += model.n_dimensions[tensor];
      int64_t n = 1;
      for (const int64_t extent : array.shape) n *= extent;
      array.values.assign(model.values[tensor], model.values[tensor] + n);
      inputs[m].tensors.emplace(model.names[tensor], std::move(array));
    }
  }
  return inputs;
}

Precision precision_called(const std::string &name) {
  if (name == "float64") return Precision::DOUBLE;
  if (name == "mixed") return Precision::MIXED;
  if (name == "float32") return Precision::SINGLE;
  throw std::runtime_error("unknown precision " + name);
}

}  // namespace

int nnpkit_api_version(void) {
  return 1;
}

void *nnpkit_kernel_new(const nnpkit_model *model, const char *precision, const char *isa, int *status,
                        char *message, size_t message_size) {
  try {
    auto handle = std::make_unique<Handle>();
    std::string reason;
    handle->kernel = make_evaluator_for(inputs_of(*model), precision_called(precision), isa ? isa : "",
                                        handle->name, reason);
    *status = handle->kernel ? 0 : 1;
    if (handle->kernel) return handle.release();
    say(reason.c_str(), message, message_size);
  } catch (const std::exception &error) {
    *status = 2;
    say(error.what(), message, message_size);
  }
  return nullptr;
}

void nnpkit_kernel_delete(void *kernel) {
  delete static_cast<Handle *>(kernel);
}

int nnpkit_kernel_members(const void *kernel) {
  return static_cast<const Handle *>(kernel)->kernel->n_members();
}

int nnpkit_kernel_functions(const void *kernel) {
  return static_cast<const Handle *>(kernel)->kernel->n_functions();
}

const char *nnpkit_kernel_isa(const void *kernel) {
  return static_cast<const Handle *>(kernel)->name.c_str();
}

int nnpkit_kernel_evaluate(void *kernel, const double *edge_vec, const int64_t *neighbor_type,
                           const int64_t *offsets, const int64_t *types, int64_t n_atoms, int mean_only,
                           double *atomic_energy, double *gradient, int64_t *atom_extrapolations,
                           int64_t *function_extrapolations, double *seconds, char *message,
                           size_t message_size) {
  try {
    Timing timing;
    const Results results{atomic_energy, gradient, atom_extrapolations, function_extrapolations};
    static_cast<Handle *>(kernel)->kernel->evaluate({edge_vec, neighbor_type, offsets, types, n_atoms},
                                                    mean_only != 0, results, seconds ? &timing : nullptr);
    if (seconds) {
      seconds[0] += timing.descriptor;
      seconds[1] += timing.network;
      seconds[2] += timing.gradient;
    }
    return 0;
  } catch (const std::exception &error) {
    say(error.what(), message, message_size);
    return 1;
  }
}
