// The CUDA kernels: libnnpkit_cuda.so, which `nnpkit build --cuda` puts beside the plugin, opened when a
// model may be evaluated on a GPU.

#ifndef NNPKIT_CUDA_LIBRARY_H
#define NNPKIT_CUDA_LIBRARY_H

#include "device_library.h"
#include "model.h"

#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

// The GPU of this rank: those of a node in turn. number -1: none, and why.
struct Gpu {
  int number = -1;
  std::string reason;
};
Gpu choose_gpu(const Placement &placement);

// What make_kernel of kernel.h does, on a GPU; null, with a line of reason, if none is for this model.
std::unique_ptr<DeviceEvaluator> make_cuda_kernel(const std::vector<KernelInput> &members,
                                                  Precision precision, int gpu, std::string &reason);

}  // namespace nnpkit

#endif
