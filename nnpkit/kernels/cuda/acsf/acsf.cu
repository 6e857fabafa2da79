// Models of kind "acsf": one block of threads per atom, from its edges to its energy and their gradient.

#include "acsf_gradient_device.h"
#include "acsf_model.h"

#include <algorithm>
#include <cmath>
#include <memory>

namespace nnpkit {
namespace cuda {

namespace {

using acsf::Cutoff;
using acsf::Description;
using acsf::ElementModel;
using acsf::RadialFunctions;

// MEAN: one row, and one gradient from the mean of dE/dG; else rows of ROWS members at a time.
template <typename T, int ROWS, bool MEAN>
__global__ void __launch_bounds__(ACSF_THREADS)
    acsf_atoms(AcsfTask<T> task, DeviceEdges edges, DeviceResults results) {
  NNPKIT_SHARED_MEMORY(shared);
  Scratch<T, ROWS> ws;
  ws.carve(task.memory ? task.memory + blockIdx.x * task.bytes : shared, task);
  const int atom = edges.order[blockIdx.x], type = edges.types[atom];
  const Center<T> center = task.centers[type];
  for (int f = threadIdx.x; f < center.n_features; f += ACSF_THREADS) ws.features[f] = ws.mean[f] = 0.0;
  const int n_slots = gather(task, edges, slots_of(edges, atom), ws);
  for (int at = threadIdx.x; at < n_slots; at += ACSF_THREADS) {
    ws.inverse[at] = rsqrt(ws.r2[at]);
    for (int c = 0; c < center.n_cutoffs; c++) {
      const Cutoff<T> ring = center.cutoffs[c];
      cutoff_at(ring.kind, ring.radius, ring.inner, ws.r2[at] * ws.inverse[at],
                ws.envelope[c * task.n_slots + at], ws.slope[c * task.n_slots + at]);
    }
  }
  __syncthreads();
  describe_radial(task, center, ws);
  describe_angular(task, center, ws);
  if (results.per_atom && task.minimum)
    count_outside(ws, task.minimum + type * task.width, task.maximum + type * task.width, center.n_features,
                  results.per_atom + atom,
                  results.per_function + static_cast<int64_t>(type) * task.n_functions + task.first_function);

  double *const energy = results.energy + static_cast<int64_t>(atom) * results.n_rows;
  const double share = MEAN ? 1.0 / task.share : 1.0;
  for (int first = 0; first < task.n_members; first += ROWS) {
    const int n = task.n_members - first < ROWS ? task.n_members - first : ROWS;
    for (int m = 0; m < n; m++) {
      const DeviceElement<T> &element = task.elements[(first + m) * task.n_types + type];
      const double value = network(element, center.n_features, ws, ROWS, m);
      if (threadIdx.x == 0) energy[MEAN ? 0 : task.rows[first + m]] += share * value;
      if constexpr (MEAN)
        for (int f = threadIdx.x; f < center.n_features; f += ACSF_THREADS)
          ws.mean[f] += share * static_cast<double>(ws.coefficients[f * ROWS + m]);
    }
    for (int f = threadIdx.x; f < center.n_features; f += ACSF_THREADS)
      for (int m = n; m < ROWS; m++) ws.coefficients[f * ROWS + m] = T(0);
    __syncthreads();
    if constexpr (!MEAN) differentiate(task, center, ws, n_slots, results, task.rows + first, n);
    __syncthreads();
  }
  if constexpr (MEAN) {
    for (int f = threadIdx.x; f < center.n_features; f += ACSF_THREADS)
      ws.coefficients[f * ROWS] = static_cast<T>(ws.mean[f]);
    __syncthreads();
    const int row = 0;
    differentiate(task, center, ws, n_slots, results, &row, 1);
  }
}

// ---- the plans of csrc, copied to the device -------------------------------------------------------------
template <typename T>
AngularGroup<T> to_device(AngularGroup<T> group, DeviceStorage &storage) {
  group.eta = storage.keep(group.eta, group.n_radial);
  group.shift = storage.keep(group.shift, group.n_radial);
  group.factors = nullptr;
  group.lambda = storage.keep(group.lambda, group.n_angular);
  group.zeta = storage.keep(group.zeta, group.n_angular);
  group.power = storage.keep(group.power, group.n_angular);
  group.first_function = storage.keep(group.first_function, group.n_radial + 1);
  group.angular = storage.keep(group.angular, group.n_functions);
  group.column = storage.keep(group.column, group.n_functions);
  return group;
}

template <typename T>
RadialFunctions<T> to_device(RadialFunctions<T> set, DeviceStorage &storage) {
  set.eta = storage.keep(set.eta, set.n);
  set.shift = storage.keep(set.shift, set.n);
  set.cutoff = storage.keep(set.cutoff, set.n);
  set.column = storage.keep(set.column, set.n);
  return set;
}

template <typename T>
Center<T> to_device(Center<T> center, DeviceStorage &storage) {
  std::vector<RadialFunctions<T>> radial;
  std::vector<AngularGroup<T>> groups;
  for (int t = 0; t < center.n_types; t++) radial.push_back(to_device(center.radial[t], storage));
  for (int g = 0; g < center.n_groups; g++) groups.push_back(to_device(center.groups[g], storage));
  center.cutoffs = storage.keep(center.cutoffs, center.n_cutoffs);
  center.radial = storage.keep(radial);
  center.groups = storage.keep(groups);
  return center;
}

template <typename T>
class AcsfKernel : public CudaKernel {
 public:
  using CudaKernel::CudaKernel;

  // False with a reason if a member is not covered.
  bool prepare(const std::vector<KernelInput> &inputs, std::string &reason) {
    bool ranges = true;
    for (size_t m = 0; m < inputs.size(); m++) {
      Description description;
      std::vector<ElementModel> elements;
      if (!acsf::read_model(inputs[m], description, elements, reason)) return false;
      if (description.n_types != n_types) throw std::runtime_error("members with different elements");
      auto part = std::find_if(parts.begin(), parts.end(),
                               [&](const Part &other) { return other.description == description; });
      if (part == parts.end()) {
        parts.emplace_back();
        part = parts.end() - 1;
        part->description = description;
      }
      ranges = ranges && !elements[0].minimum.empty();
      part->members.push_back(static_cast<int>(m));
      part->elements.push_back(std::move(elements));
    }
    for (Part &part : parts) {
      part.task.first_function = n_columns;
      if (ranges) n_columns += part.description.width();
    }
    for (Part &part : parts) plan(part);
    return true;
  }

  int n_functions() const override { return n_columns; }
  double table_tolerance() const override { return 0.0; }

 protected:
  void enqueue(const Chunk &chunk) override {
    if (chunk.most_slots > 0x7fff)
      throw std::runtime_error("an atom has too many neighbours: do atoms overlap?");
    for (Part &part : parts) {
      const bool mean = chunk.results.n_rows == 1;
      part.task.n_slots = chunk.most_slots;
      mean ? start<1, true>(part.task, chunk) : start<4, false>(part.task, chunk);
    }
  }

 private:
  // Members with one descriptor.
  struct Part {
    Description description;
    std::vector<int> members;
    std::vector<std::vector<ElementModel>> elements;  // (members, types)
    AcsfTask<T> task{};
  };
  std::vector<Part> parts;
  int n_columns = 0;
  DeviceArray<char> memory;

  template <int ROWS, bool MEAN>
  void start(AcsfTask<T> task, const Chunk &chunk) {
    task.bytes = Scratch<T, ROWS>().carve(nullptr, task);
    const bool fits = task.bytes <= SHARED_MEMORY;
    // as many atoms at a time as the memory of their blocks may have
    const int64_t most = fits ? chunk.edges.n_atoms : std::max<int64_t>(1, (256ll << 20) / task.bytes);
    task.memory = fits ? nullptr : memory.room(std::min<int64_t>(most, chunk.edges.n_atoms) * task.bytes);
    for (int64_t first = 0; first < chunk.edges.n_atoms; first += most) {
      DeviceEdges edges = chunk.edges;
      edges.order += first;
      launch(acsf_atoms<T, ROWS, MEAN>, std::min(most, chunk.edges.n_atoms - first), ACSF_THREADS,
             fits ? task.bytes : 0, stream, task, edges, chunk.results);
    }
  }

  void plan(Part &part) {
    const Description &description = part.description;
    AcsfTask<T> &task = part.task;
    acsf::Storage host;
    std::vector<Center<T>> centers;
    std::vector<DeviceElement<T>> elements;
    task.n_types = n_types;
    task.n_members = static_cast<int>(part.members.size());
    task.share = members;
    task.longest = description.longest;
    task.width = description.width();
    task.n_functions = n_columns;
    for (int t = 0; t < n_types; t++) {
      const Center<T> center = acsf::plan_center<T>(description, t, host);
      task.n_features = std::max(task.n_features, center.n_features);
      task.n_cutoffs = std::max(task.n_cutoffs, center.n_cutoffs);
      task.n_columns = std::max(task.n_columns, center.n_radial_functions);
      for (int g = 0; g < center.n_groups; g++)
        task.n_columns = std::max(task.n_columns, center.groups[g].n_functions);
      centers.push_back(to_device(center, storage));
    }
    task.n_columns = std::min(task.n_columns, FUNCTIONS);
    for (const auto &of_member : part.elements)
      for (int t = 0; t < n_types; t++) {
        const ElementModel &element = of_member[t];
        const int n = description.n_features[t];
        int nodes = n;
        for (const auto &layer : element.layers) nodes += 2 * layer.n_out;
        task.n_nodes = std::max(task.n_nodes, nodes);
        elements.push_back({to_device(acsf::plan_network<T>({&element}, host), storage),
                            storage.keep(element.shift, n), storage.keep(element.factor, n), element.lower,
                            element.energy_scale, element.reference});
      }
    task.centers = storage.keep(centers);
    task.elements = storage.keep(elements);
    task.rows = storage.keep(part.members);
    if (n_columns > 0) keep_ranges(part);
  }

  // What all members have seen.
  void keep_ranges(Part &part) {
    std::vector<double> minimum(static_cast<size_t>(n_types) * part.task.width, -INFINITY);
    std::vector<double> maximum(minimum.size(), INFINITY);
    for (const auto &of_member : part.elements)
      for (int t = 0; t < n_types; t++)
        for (int f = 0; f < part.description.n_features[t]; f++) {
          double &low = minimum[t * part.task.width + f], &high = maximum[t * part.task.width + f];
          low = std::max(low, of_member[t].minimum[f]);
          high = std::min(high, of_member[t].maximum[f]);
        }
    part.task.minimum = storage.keep(minimum);
    part.task.maximum = storage.keep(maximum);
  }
};

std::unique_ptr<CudaKernel> make_acsf(const std::vector<KernelInput> &members, Precision precision,
                                      int device, std::string &reason) {
  const auto make = [&](auto kernel) -> std::unique_ptr<CudaKernel> {
    if (!kernel->prepare(members, reason)) return nullptr;
    return kernel;
  };
  if (precision == Precision::DOUBLE) return make(std::make_unique<AcsfKernel<double>>(members, device));
  return make(std::make_unique<AcsfKernel<float>>(members, device));
}

const CudaKernelOfKind symmetry_functions("acsf", make_acsf);

}  // namespace

}  // namespace cuda
}  // namespace nnpkit
