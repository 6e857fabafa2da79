// The CUDA kernels: libnnpkit_cuda.so, which `nnpkit build --cuda` puts beside the plugin, opened when a
// model may be evaluated on a GPU.

#ifndef NNPKIT_CUDA_LIBRARY_H
#define NNPKIT_CUDA_LIBRARY_H

#include "model.h"
#include "system_kernel.h"

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

// As make_kernel of kernel.h; null, with a line of reason, if there is none for this model.
std::unique_ptr<SystemKernel> make_cuda_kernel(const std::vector<KernelInput> &members, Precision precision,
                                               int gpu, std::string &reason);

}  // namespace nnpkit

#endif
