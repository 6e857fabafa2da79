// All atoms of an MPI rank at once, for kernels that make forces and virial of edge gradients themselves.
// Neither CUDA nor LAMMPS here: the plugin includes this.

#ifndef NNPKIT_DOMAIN_H
#define NNPKIT_DOMAIN_H

#include "kernel.h"

namespace nnpkit {

// Atoms 0 .. n_all - 1 are local, then ghosts. Neighbours are those of a list with a skin.
struct Domain {
  int n_all;
  const double *positions;  // (n_all, 3) angstrom
  const int *types;         // (n_all): element of the model; negative: not seen by it
  int n_centers;            // atoms that have an energy: none of a negative type
  const int *centers;       // (n_centers)
  const int64_t *offsets;   // (n_centers + 1)
  const int *neighbors;     // (offsets[n_centers])
  bool new_lists;           // centers, offsets or neighbors have changed since the last call
  bool per_center;          // energies and virials of the centres are wanted
  int chunk;                // centres at a time, which bounds the memory; 0: chosen
};

// eV, angstrom. The pointers hold until the next call.
struct DomainResults {
  double energy = 0.0;
  double virial[9] = {};            // xx yy zz xy xz yz yx zx zy of W = - sum r (x) dE/dr
  double closest_squared = 0.0;     // angstrom^2: of all pairs in the lists, infinity if there is none
  const double *forces = nullptr;   // (n_all, 3), of ghosts too
  const double *centers = nullptr;  // (n_centers, 11): energy, virial as above, closest_squared; if wanted
};

class DomainKernel : public Kernel {
 public:
  using Kernel::evaluate;
  // The mean over the members. One wait for the device per call.
  virtual void evaluate(const Domain &domain, DomainResults &results) = 0;
};

// What libnnpkit_cuda.so exports for the plugin, and its names; `device` counts from 0. C++ types: the
// libraries of one `nnpkit build` fit each other.
using CudaFactory = DomainKernel *(const std::vector<KernelInput> &members, Precision precision, int device,
                                   std::string &reason);
constexpr const char CUDA_FACTORY[] = "nnpkit_cuda_kernel";
// Devices that can be used; 0 with a line of reason.
using CudaDevices = int(char *reason, size_t size);
constexpr const char CUDA_DEVICES[] = "nnpkit_cuda_devices";

}  // namespace nnpkit

#endif
