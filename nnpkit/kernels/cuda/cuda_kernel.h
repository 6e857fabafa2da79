// What the kernels of all kinds of models have in common on a device: the way of edges there and of results
// back, chunk by chunk, and the sums that make forces and virials of edge gradients.

#ifndef NNPKIT_CUDA_KERNEL_H
#define NNPKIT_CUDA_KERNEL_H

#include "device.h"
#include "device_library.h"
#include "kernel.h"
#include "wall.h"

#include <memory>

namespace nnpkit {
namespace cuda {

// A block of atoms on the device. Edges lie in slots: those of atom i are first[i] - base .. first[i + 1] -
// base
// - 1. Edges beyond the cutoff and neighbours of a negative type contribute nothing.
struct DeviceEdges {
  int n_atoms, n_slots, base;
  const int *first;          // (n_atoms + 1)
  const double *edge_vec;    // (n_slots, 3) angstrom
  const int *neighbor_type;  // (n_slots)
  const int *types;          // (n_atoms)
  const int *order;          // (n_atoms) atoms, one element after the other
};

// Where results are added to, on the device.
struct DeviceResults {
  int n_rows;                        // 1: the mean over the members; rows are the innermost index
  double *energy;                    // (n_atoms, n_rows) eV
  double *gradient;                  // (n_slots, 3, n_rows) eV/angstrom
  unsigned long long *per_atom;      // (n_atoms) features outside of their range; or null
  unsigned long long *per_function;  // (n_types, n_functions)
};

constexpr int THREADS = 128, WARPS = THREADS / WARP;  // of kernels in which a warp has an atom
constexpr int CHUNK_ATOMS = 4096;                     // at a time: enough to keep a large device busy
constexpr int64_t CHUNK_SLOTS = 1 << 21;              // bounds the memory where atoms have many neighbours

struct Chunk {
  DeviceEdges edges;
  DeviceResults results;
  int most_slots;         // of an atom
  const int *type_begin;  // (n_types + 1), on the host: where the atoms of an element begin in `order`
};

class CudaKernel : public DeviceEvaluator {
 public:
  CudaKernel(const std::vector<KernelInput> &inputs, int device);
  ~CudaKernel() override;

  int n_members() const override { return members; }
  int n_features() const override { return 0; }  // they stay on the device: TorchScript shows them
  void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) override;
  void evaluate(const System &system, SystemResults &results) override;
  // The same with energy and virial of the first member instead of the mean, for members drawn around it.
  void evaluate_around_the_first(const System &system, SystemResults &results);

 protected:
  // Adds energies and gradients of a chunk; returns before the device is done.
  virtual void enqueue(const Chunk &chunk) = 0;

  const int device, members;
  int n_types = 0;
  cudaStream_t stream = nullptr;
  DeviceStorage storage;

 private:
  struct DeviceWall {
    double longest;       // angstrom; 0: this member has none
    const double *outer;  // (n_types, n_types)
    const double *table;  // (n_types, n_types, 10), or null
  };
  // Chunk of a rank: centres, the slots of their neighbours, and the atoms that appear as neighbours.
  struct Part {
    int begin, end, base, n_slots, most_slots, first_atom, n_atoms;
    std::vector<int> type_begin;
  };
  // Neighbour lists of a rank, until they change. `reverse`: slots of a part by the neighbour in them.
  struct Lists {
    std::vector<Part> parts;
    int most_slots = 0, most_centers = 0;
    DeviceArray<int> centers, first, neighbors, center_types, order, atom_types;
    DeviceArray<int> reverse_atom, reverse_first, reverse_slot;
  };

  std::vector<DeviceWall> walls;
  const double *wall_charge = nullptr, *wall_power = nullptr;
  Upload<double> edge_vec, positions;
  Upload<int> neighbor_type, first, types, order;
  DeviceArray<double> energy, gradient, system_vec, forces, centers, totals, member_energies;
  DeviceArray<int> system_type;
  DeviceArray<unsigned long long> counts;
  PinnedArray<double> results_back;
  PinnedArray<unsigned long long> counts_back;
  Lists lists;

  void run(const Chunk &chunk);
  void evaluate_chunk(const Edges &edges, int64_t begin, int64_t end, const Results &results, int n_rows);
  void keep_types(const System &system);
  void keep_lists(const System &system);
  void evaluate_system(const System &system, bool around_the_first, SystemResults &results);
  void evaluate_part(const System &system, bool around_the_first, const Part &part);
};

// Fills order (n) with the atoms of one element after the other, and where those of an element begin. Throws
// for one that the model does not have.
void sort_by_type(const int *types, int n, int n_types, int *order, std::vector<int> &begin);

// Slots of the atoms of one warp or block, for kernels.
struct Slots {
  int begin, n;
};
__device__ __forceinline__ Slots slots_of(const DeviceEdges &edges, int atom) {
  const int begin = edges.first[atom] - edges.base;
  return {begin, edges.first[atom + 1] - edges.base - begin};
}

// The kernel of a kind of models, null with a reason if an option of them is not covered. The source of a
// kernel declares `static const CudaKernelOfKind registered("acsf", make_acsf);` and is found by it.
using KernelOnDevice = std::unique_ptr<CudaKernel>(const std::vector<KernelInput> &members,
                                                   Precision precision, int device, std::string &reason);
struct CudaKernelOfKind {
  CudaKernelOfKind(const char *kind, KernelOnDevice *make);
};

}  // namespace cuda
}  // namespace nnpkit

#endif
