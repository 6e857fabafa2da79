// What the library exports: the C functions of csrc/common/c_api.h for Python, and a factory for the LAMMPS
// plugin.

#include "cuda_kernel.h"

#include "drawn_members.h"
#include "json.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

namespace nnpkit {

namespace cuda {

namespace {

int count_devices(std::string &reason) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    reason = cudaGetErrorString(error);
    return 0;
  }
  if (count == 0) reason = "there is no CUDA device";
  return count;
}

// Filled by what the sources of the kernels declare, while the library is loaded.
std::map<std::string, KernelOnDevice *> &factories() {
  static std::map<std::string, KernelOnDevice *> by_kind;
  return by_kind;
}

// Where members are wanted the first one still gives energy and virial, and the forces of the others are
// moved so that their mean is its force.
class DrawnSystems : public DrawnMembers<DeviceEvaluator> {
 public:
  using DrawnMembers::evaluate;
  DrawnSystems(std::unique_ptr<CudaKernel> of_all, std::unique_ptr<CudaKernel> of_first)
      : DrawnMembers(nullptr, nullptr), members(of_all.get()) {
    all = std::move(of_all);
    first = std::move(of_first);
  }

  void evaluate(const System &system, SystemResults &results) override {
    lists_of_all_are_old = lists_of_all_are_old || system.new_lists;
    lists_of_first_are_old = lists_of_first_are_old || system.new_lists;
    if (!system.members) return evaluate_first(system, results);
    System own = system;
    own.new_lists = std::exchange(lists_of_all_are_old, false);
    SystemResults counted;
    if (system.extrapolations && members->n_functions() != first->n_functions()) {
      own.extrapolations = false;
      System alone = system;
      alone.members = alone.per_center = false;
      evaluate_first(alone, counted);
    }
    members->evaluate_around_the_first(own, results);
    if (system.extrapolations && !own.extrapolations) {
      results.atom_extrapolations = counted.atom_extrapolations;
      results.function_extrapolations = counted.function_extrapolations;
    }
    move_around_the_first(results.forces, 3 * static_cast<int64_t>(system.n_all), results.n_rows);
    move_around_the_first(results.energies, 1, results.n_rows);
  }

 private:
  CudaKernel *members;
  bool lists_of_all_are_old = false, lists_of_first_are_old = false;  // each has lists of its own

  void evaluate_first(const System &system, SystemResults &results) {
    System own = system;
    own.new_lists = std::exchange(lists_of_first_are_old, false);
    first->evaluate(own, results);
  }
};

std::unique_ptr<CudaKernel> make_alike(const std::vector<KernelInput> &members, Precision precision,
                                       int device, std::string &reason) {
  std::string kind;
  if (!have_one_kind(members, kind, reason)) return nullptr;
  const auto found = factories().find(kind);
  if (found != factories().end()) return found->second(members, precision, device, reason);
  reason = "no CUDA kernel for models of kind '" + kind + "'";
  return nullptr;
}

std::unique_ptr<DeviceEvaluator> make(const std::vector<KernelInput> &members, Precision precision,
                                      int device, std::string &reason) {
  if (members.empty()) throw std::runtime_error("a model without members");
  const int count = count_devices(reason);
  if (count == 0) throw std::runtime_error("no usable GPU: " + reason);
  if (device < 0 || device >= count)
    throw std::runtime_error("there is no cuda:" + std::to_string(device) + " among " +
                             std::to_string(count) + " devices");
  if (!drawn_around_the_first(members)) return make_alike(members, precision, device, reason);
  std::vector<KernelInput> alike = members;
  for (KernelInput &member : alike) member.metadata = members[0].metadata;
  auto all = make_alike(alike, precision, device, reason);
  auto first = all ? make_alike({members[0]}, precision, device, reason) : nullptr;
  if (!first) return nullptr;
  return std::make_unique<DrawnSystems>(std::move(all), std::move(first));
}

}  // namespace

CudaKernelOfKind::CudaKernelOfKind(const char *kind, KernelOnDevice *make) {
  factories()[kind] = make;
}

}  // namespace cuda

std::unique_ptr<Evaluator> make_evaluator_for(const std::vector<KernelInput> &members, Precision precision,
                                              const std::string &place, std::string &name,
                                              std::string &reason) {
  name = place.empty() ? "cuda:0" : place;
  const std::string digits = name.rfind("cuda:", 0) == 0 ? name.substr(5) : "";
  if (digits.empty() || digits.size() > 4 ||
      !std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }))
    throw std::runtime_error("unknown device " + name + ", expected cuda:0, cuda:1 ...");
  return cuda::make(members, precision, std::stoi(digits), reason);
}

}  // namespace nnpkit

extern "C" {

__attribute__((visibility("default"))) int nnpkit_cuda_devices(char *reason, size_t size) {
  std::string text;
  const int count = nnpkit::cuda::count_devices(text);
  if (reason && size > 0) {
    const size_t n = std::min(size - 1, text.size());
    std::memcpy(reason, text.data(), n);
    reason[n] = '\0';
  }
  return count;
}

__attribute__((visibility("default"))) nnpkit::DeviceEvaluator *nnpkit_cuda_kernel(
    const std::vector<nnpkit::KernelInput> &members, nnpkit::Precision precision, int device,
    std::string &reason) {
  return nnpkit::cuda::make(members, precision, device, reason).release();
}
}
