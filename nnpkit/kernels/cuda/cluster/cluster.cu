// Models of kind "cluster_expansion" and "nep": one block of threads per atom, from its edges to its energy
// and their gradient.

#include "cluster_device.h"
#include "cluster_model.h"

#include <algorithm>
#include <deque>
#include <memory>

namespace nnpkit {
namespace cuda {

namespace {

using acsf::ElementModel;
using cluster::Description;

// MEAN: one row, and one gradient of the mean over the members; else a row for each of them.
template <typename T, bool MEAN>
__global__ void __launch_bounds__(CLUSTER_THREADS)
    cluster_atoms(ClusterTask<T> task, DeviceEdges edges, DeviceResults results) {
  NNPKIT_SHARED_MEMORY(shared);
  ClusterScratch<T> ws;
  ws.carve(task.memory ? task.memory + blockIdx.x * task.bytes : shared, task);
  const int atom = edges.order[blockIdx.x], type = edges.types[atom];
  const int n_radial = task.n_types * task.expansion.radial.n, n_moments = task.n_types * task.n_moments();
  gather(task, edges, slots_of(edges, atom), ws);
  describe(task, ws);
  double *const energy = results.energy + static_cast<int64_t>(atom) * results.n_rows;
  for (int m = 0; m < task.n_members; m++) {
    const ClusterMember<T> member = task.members[m];
    const Center<T> center = member.centers[type];
    if (m == 0 || !MEAN) {
      for (int k = threadIdx.x; k < n_radial; k += CLUSTER_THREADS) ws.radial_gradient[k] = T(0);
      for (int k = threadIdx.x; k < n_moments; k += CLUSTER_THREADS) ws.gradient[k] = T(0);
    }
    features_of(task, center, ws);
    if (results.per_atom && member.minimum) {
      const int first = type * member.n_features;
      count_outside(
          ws, member.minimum + first, member.maximum + first, member.n_features, results.per_atom + atom,
          results.per_function + static_cast<int64_t>(type) * task.n_functions + member.first_function);
    }
    const double value = network(member.elements[type], member.n_features, ws, 1, 0);
    if (threadIdx.x == 0) energy[MEAN ? 0 : member.row] += MEAN ? value / task.share : value;
    feature_gradient(task, center, ws, static_cast<T>(MEAN ? 1.0 / task.share : 1.0));
    if (!MEAN) {
      differentiate(task, ws, results, member.row);
      __syncthreads();
    }
  }
  if (MEAN) differentiate(task, ws, results, 0);
}

// ---- the plans of csrc, copied to the device -------------------------------------------------------------
template <typename T>
Mixing<T> to_device(Mixing<T> mixing, int n_types, int n_functions, DeviceStorage &storage) {
  mixing.forward =
      storage.keep(mixing.forward, static_cast<size_t>(n_types) * n_functions * padded(mixing.n_channels));
  mixing.backward =
      storage.keep(mixing.backward, static_cast<size_t>(n_types) * mixing.n_channels * padded(n_functions));
  return mixing;
}

template <typename T>
Invariants<T> to_device(Invariants<T> invariants, int n_rows, DeviceStorage &storage) {
  std::vector<Invariant<T>> all(invariants.invariants, invariants.invariants + invariants.n);
  for (Invariant<T> &invariant : all) {
    invariant.monomials = storage.keep(invariant.monomials, invariant.first_monomial[invariant.n_rows]);
    invariant.rows = storage.keep(invariant.rows, invariant.n_rows);
    invariant.first_monomial = storage.keep(invariant.first_monomial, invariant.n_rows + 1);
  }
  invariants.invariants = storage.keep(all);
  invariants.first_share = storage.keep(invariants.first_share, n_rows + 1);
  invariants.shares = storage.keep(invariants.shares, invariants.n_derivatives);
  return invariants;
}

template <typename T>
Center<T> to_device(Center<T> center, const Expansion<T> &expansion, DeviceStorage &storage) {
  center.radial = to_device(center.radial, expansion.n_types, expansion.radial.n, storage);
  center.angular = to_device(center.angular, expansion.n_types, expansion.angular.n, storage);
  center.invariants = to_device(center.invariants, expansion.n_rows(), storage);
  return center;
}

template <typename T>
class ClusterKernel : public CudaKernel {
 public:
  using CudaKernel::CudaKernel;

  // False with a reason if a member is not covered.
  bool prepare(const std::vector<KernelInput> &inputs, std::string &reason) {
    bool ranges = true;
    std::vector<Description> descriptions(inputs.size());
    std::vector<std::vector<ElementModel>> elements(inputs.size());
    for (size_t m = 0; m < inputs.size(); m++) {
      if (!cluster::read_model(inputs[m], descriptions[m], elements[m], reason)) return false;
      if (descriptions[m].n_types != n_types) throw std::runtime_error("members with different elements");
      ranges = ranges && !elements[m][0].minimum.empty();
    }
    for (size_t m = 0; m < inputs.size(); m++) {
      const auto part = std::find_if(parts.begin(), parts.end(), [&](const Part &other) {
        return other.description.same_expansion(descriptions[m]);
      });
      add(part == parts.end() ? new_part(descriptions[m]) : *part, static_cast<int>(m), descriptions[m],
          elements[m], ranges);
    }
    for (Part &part : parts) {
      part.task.n_members = static_cast<int>(part.members.size());
      part.task.members = storage.keep(part.members);
      part.task.n_functions = n_columns;
    }
    return true;
  }

  int n_functions() const override { return n_columns; }
  double table_tolerance() const override { return 0.0; }

 protected:
  void enqueue(const Chunk &chunk) override {
    for (Part &part : parts) {
      part.task.n_slots = chunk.most_slots;
      chunk.results.n_rows == 1 ? start<true>(part.task, chunk) : start<false>(part.task, chunk);
    }
  }

 private:
  // Members whose moments are the same.
  struct Part {
    Description description;
    std::vector<ClusterMember<T>> members;
    ClusterTask<T> task{};
  };
  std::deque<Part> parts;
  int n_columns = 0;
  DeviceArray<char> memory;

  template <bool MEAN>
  void start(ClusterTask<T> task, const Chunk &chunk) {
    task.bytes = ClusterScratch<T>().carve(nullptr, task);
    const bool fits = task.bytes <= SHARED_MEMORY;
    // as many atoms at a time as the memory of their blocks may have
    const int64_t most = fits ? chunk.edges.n_atoms : std::max<int64_t>(1, (256ll << 20) / task.bytes);
    task.memory = fits ? nullptr : memory.room(std::min<int64_t>(most, chunk.edges.n_atoms) * task.bytes);
    for (int64_t first = 0; first < chunk.edges.n_atoms; first += most) {
      DeviceEdges edges = chunk.edges;
      edges.order += first;
      launch(cluster_atoms<T, MEAN>, std::min(most, chunk.edges.n_atoms - first), CLUSTER_THREADS,
             fits ? task.bytes : 0, stream, task, edges, chunk.results);
    }
  }

  Part &new_part(const Description &description) {
    parts.emplace_back();
    Part &part = parts.back();
    part.description = description;
    part.task.expansion = cluster::plan_expansion<T>(description);
    part.task.n_types = n_types;
    part.task.share = members;
    part.task.longest = description.longest();
    return part;
  }

  void add(Part &part, int row, const Description &description, const std::vector<ElementModel> &elements,
           bool ranges) {
    ClusterTask<T> &task = part.task;
    acsf::Storage host;
    std::vector<Center<T>> centers;
    std::vector<DeviceElement<T>> networks;
    const int n = description.n_features();
    std::vector<double> minimum, maximum;
    for (int type = 0; type < n_types; type++) {
      const Center<T> center = cluster::plan_center<T>(description, type, host);
      const ElementModel &element = elements[type];
      task.n_derivatives = std::max(task.n_derivatives, center.invariants.n_derivatives);
      centers.push_back(to_device(center, task.expansion, storage));
      int nodes = n;
      for (const auto &layer : element.layers) nodes += 2 * layer.n_out;
      task.n_nodes = std::max(task.n_nodes, nodes);
      networks.push_back({to_device(acsf::plan_network<T>({&element}, host), storage),
                          storage.keep(element.shift, n), storage.keep(element.factor, n), element.lower,
                          element.energy_scale, element.reference});
      minimum.insert(minimum.end(), element.minimum.begin(), element.minimum.end());
      maximum.insert(maximum.end(), element.maximum.begin(), element.maximum.end());
    }
    task.n_features = std::max(task.n_features, n);
    task.n_channels = std::max(task.n_channels, padded(description.angular.n_channels));
    part.members.push_back({storage.keep(centers), storage.keep(networks), n, ranges ? n_columns : 0, row,
                            ranges ? storage.keep(minimum) : nullptr,
                            ranges ? storage.keep(maximum) : nullptr});
    if (ranges) n_columns += n;
  }
};

std::unique_ptr<CudaKernel> make_cluster(const std::vector<KernelInput> &members, Precision precision,
                                         int device, std::string &reason) {
  const auto make = [&](auto kernel) -> std::unique_ptr<CudaKernel> {
    if (!kernel->prepare(members, reason)) return nullptr;
    return kernel;
  };
  if (precision == Precision::DOUBLE) return make(std::make_unique<ClusterKernel<double>>(members, device));
  return make(std::make_unique<ClusterKernel<float>>(members, device));
}

const CudaKernelOfKind cluster_expansions("cluster_expansion", make_cluster);
const CudaKernelOfKind neuroevolution("nep", make_cluster);

}  // namespace

}  // namespace cuda
}  // namespace nnpkit
