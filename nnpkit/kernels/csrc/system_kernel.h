// Kernels that take all atoms of a rank, and what libnnpkit_cuda.so exports for the LAMMPS plugin.

#ifndef NNPKIT_SYSTEM_KERNEL_H
#define NNPKIT_SYSTEM_KERNEL_H

#include "kernel.h"
#include "system.h"

#include <cstddef>

namespace nnpkit {

class SystemKernel : public Kernel {
 public:
  using Kernel::evaluate;
  // The mean over the members. One wait for the device per call.
  virtual void evaluate(const System &system, SystemResults &results) = 0;
};

// What libnnpkit_cuda.so exports for the plugin, and its names; `device` counts from 0. C++ types: the
// libraries of one `nnpkit build` fit each other.
using CudaFactory = SystemKernel *(const std::vector<KernelInput> &members, Precision precision, int device,
                                   std::string &reason);
constexpr const char CUDA_FACTORY[] = "nnpkit_cuda_kernel";
// Devices that can be used; 0 with a line of reason.
using CudaDevices = int(char *reason, size_t size);
constexpr const char CUDA_DEVICES[] = "nnpkit_cuda_devices";

}  // namespace nnpkit

#endif
