#include "cuda_library.h"

#include <dlfcn.h>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace nnpkit {

namespace {

// Beside this library, unless NNPKIT_CUDA_LIBRARY names another one.
std::string library_path() {
  const char *const asked = std::getenv("NNPKIT_CUDA_LIBRARY");
  if (asked && *asked) return asked;
  Dl_info self;
  if (!dladdr(reinterpret_cast<const void *>(&library_path), &self) || !self.dli_fname)
    return "libnnpkit_cuda.so";
  const std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + "libnnpkit_cuda.so";
}

// Null with a reason if there is no such library; stays open.
void *library(std::string &reason) {
  static std::string why;
  static void *const opened = [] {
    const std::string path = library_path();
    void *const found = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!found) {
      FILE *const file = fopen(path.c_str(), "rb");
      why = file ? std::string(dlerror()) : "the CUDA kernels are not compiled, see 'nnpkit build --cuda'";
      if (file) fclose(file);
    }
    return found;
  }();
  reason = why;
  return opened;
}

}  // namespace

Gpu choose_gpu(const Placement &placement) {
  Gpu gpu;
  if (placement.device == Device::CPU || !placement.fused) {
    gpu.reason = placement.fused ? "device cpu" : "kernel torchscript";
    return gpu;
  }
  void *const opened = library(gpu.reason);
  if (!opened) return gpu;
  auto *const devices = reinterpret_cast<CudaDevices *>(dlsym(opened, CUDA_DEVICES));
  char reason[512] = "libnnpkit_cuda.so lacks its entry point: run 'nnpkit build --cuda' again";
  const int count = devices ? devices(reason, sizeof(reason)) : 0;
  if (count > 0)
    gpu.number = placement.rank_on_node % count;
  else
    gpu.reason = std::string("no GPU for the CUDA kernels (") + reason + ")";
  return gpu;
}

std::unique_ptr<DeviceEvaluator> make_cuda_kernel(const std::vector<KernelInput> &members,
                                                  Precision precision, int gpu, std::string &reason) {
  void *const opened = library(reason);
  auto *const make = opened ? reinterpret_cast<CudaFactory *>(dlsym(opened, CUDA_FACTORY)) : nullptr;
  if (!make) return nullptr;
  return std::unique_ptr<DeviceEvaluator>(make(members, precision, gpu, reason));
}

}  // namespace nnpkit
