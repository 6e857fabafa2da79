// What the library exports: the C functions of csrc/c_api.h for Python, and a factory for the LAMMPS plugin.

#include "cuda_kernel.h"

#include "drawn_members.h"
#include "json.h"

#include <algorithm>
#include <cstring>

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

class DrawnSystems : public DrawnMembers<SystemKernel> {
 public:
  using DrawnMembers::DrawnMembers;
  using DrawnMembers::evaluate;
  void evaluate(const System &system, SystemResults &results) override { first->evaluate(system, results); }
};

std::unique_ptr<SystemKernel> make(const std::vector<KernelInput> &members, Precision precision, int device,
                                   std::string &reason) {
  if (members.empty()) throw std::runtime_error("a model without members");
  const int count = count_devices(reason);
  if (count == 0) throw std::runtime_error("no usable GPU: " + reason);
  if (device < 0 || device >= count)
    throw std::runtime_error("there is no cuda:" + std::to_string(device) + " among " +
                             std::to_string(count) + " devices");
  if (drawn_around_the_first(members)) {
    std::vector<KernelInput> alike = members;
    for (KernelInput &member : alike) member.metadata = members[0].metadata;
    auto all = make(alike, precision, device, reason);
    auto first = all ? make({members[0]}, precision, device, reason) : nullptr;
    if (!first) return nullptr;
    return std::make_unique<DrawnSystems>(std::move(all), std::move(first));
  }
  const std::string kind = Json::parse(members[0].metadata).string("kind", "");
  for (const KernelInput &member : members)
    if (Json::parse(member.metadata).string("kind", "") != kind) {
      reason = "members of different kinds";
      return nullptr;
    }
  if (kind == "acsf") return make_acsf(members, precision, device, reason);
  if (kind == "deep_potential") return make_deep(members, precision, device, reason);
  reason = "no CUDA kernel for models of kind '" + kind + "'";
  return nullptr;
}

}  // namespace

}  // namespace cuda

std::unique_ptr<Kernel> make_kernel_for(const std::vector<KernelInput> &members, Precision precision,
                                        const std::string &place, std::string &name, std::string &reason) {
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

__attribute__((visibility("default"))) nnpkit::SystemKernel *nnpkit_cuda_kernel(
    const std::vector<nnpkit::KernelInput> &members, nnpkit::Precision precision, int device,
    std::string &reason) {
  return nnpkit::cuda::make(members, precision, device, reason).release();
}
}
