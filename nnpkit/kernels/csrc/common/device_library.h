// What libnnpkit_cuda.so exports for the LAMMPS plugin.

#ifndef NNPKIT_DEVICE_LIBRARY_H
#define NNPKIT_DEVICE_LIBRARY_H

#include "kernel.h"

#include <cstddef>

namespace nnpkit {

// The functions and their names; `device` counts from 0. C++ types: the libraries of one `nnpkit build` fit
// each other.
using CudaFactory = DeviceEvaluator *(const std::vector<KernelInput> &members, Precision precision,
                                      int device, std::string &reason);
constexpr const char CUDA_FACTORY[] = "nnpkit_cuda_kernel";
// Devices that can be used; 0 with a line of reason.
using CudaDevices = int(char *reason, size_t size);
constexpr const char CUDA_DEVICES[] = "nnpkit_cuda_devices";

}  // namespace nnpkit

#endif
