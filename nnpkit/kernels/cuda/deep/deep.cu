// Deep Potentials: environment rows -> tables -> features -> fitting networks -> gradient. Atoms of one
// element of a chunk go through the networks together.

#include "deep_device.h"
#include "deep_fitting_device.h"
#include "deep_member.h"
#include "json.h"

#include <algorithm>
#include <memory>

namespace nnpkit {
namespace cuda {

namespace {

using deep::DenseLayer;
using deep::Environment;
using deep::Model;

// One element of one member.
template <typename T>
struct DeviceFitting {
  std::vector<FittingLayer<T>> layers;
  const double *output;  // weights of the linear node, eV
  double output_bias;
  const T *factor, *offset;         // or null
  const double *minimum, *maximum;  // or null
  const DeviceTable<T> *tables;     // (n_types) by neighbour
  const T *absent;
  const double *expected;
  T normalisation;
};

template <typename T>
struct DeviceMember {
  int width, axis, padded, widest, first_function;
  std::vector<DeviceFitting<T>> elements;
};

// The member as csrc lays it out, with no padding but to whole warps; what packs weights for the CPU is not
// used.
template <typename T>
deep::Member<T> tabulated(const Model &model) {
  deep::Stages<T> stages{};
  stages.lanes = WARP;
  stages.group = 1;
  stages.fit_workspace = [](const deep::Fitting<T> &) -> int64_t { return 0; };
  return deep::Member<T>(model, stages);
}

template <typename T>
class DeepKernel : public CudaKernel {
 public:
  DeepKernel(const std::vector<KernelInput> &inputs, int device) : CudaKernel(inputs, device) {
    for (const KernelInput &input : inputs) {
      const Model model = deep::read_model(input);
      if (model.n_types != n_types)
        throw std::runtime_error("members of a committee with different elements");
      const auto group = std::find_if(groups.begin(), groups.end(), [&](const Group &other) {
        return other.model.shares_environment_with(model);
      });
      const size_t position = group - groups.begin();
      if (group == groups.end()) groups.push_back({model, environments_of(model), {}});
      groups[position].members.push_back(static_cast<int>(kept.size()));
      tolerance = std::max(tolerance, model.tolerance);
      ranges = ranges && !model.minimum.empty();
      keep(model);
      n_columns += model.width * model.axis;
    }
  }

  int n_functions() const override { return ranges ? n_columns : 0; }
  double table_tolerance() const override { return tolerance; }

  // Shared memory of the widest embedding network: what does not fit is not covered.
  size_t shared_bytes() const {
    size_t bytes = 0;
    for (const DeviceMember<T> &member : kept) bytes = std::max(bytes, shared_of(member));
    return bytes;
  }

 protected:
  void enqueue(const Chunk &chunk) override {
    const int64_t n = chunk.edges.n_slots;
    rows = {argument.room(n + 1), row.room(4 * n + 1), chain.room(3 * n + 1), interval.room(n + 1),
            place.room(n + 1)};
    for (const Group &group : groups) {
      launch(environment_of_atoms<T>, chunk.edges.n_atoms, DEEP_THREADS, 0, stream, chunk.edges,
             group.environments, rows);
      for (const int m : group.members)
        for (int t = 0; t < n_types; t++)
          if (chunk.type_begin[t + 1] > chunk.type_begin[t]) element(chunk, kept[m], m, t);
    }
  }

 private:
  struct Group {  // members with the same environment rows
    Model model;
    const Environment *environments;
    std::vector<int> members;
  };
  std::vector<Group> groups;
  std::vector<DeviceMember<T>> kept;
  bool ranges = true;
  int n_columns = 0;
  double tolerance = 0.0;
  DeviceRows<T> rows{};
  DeviceArray<double> argument;
  DeviceArray<int> interval;
  DeviceArray<T> row, chain, place, sums, sums_gradient, features;
  std::vector<DeviceArray<T>> values, slopes;  // of each layer

  static size_t shared_of(const DeviceMember<T> &member) {
    return 4 * (member.widest * sizeof(double) + member.width * sizeof(T));
  }

  // Atoms of one element and one member, from sums to edge gradients.
  void element(const Chunk &chunk, const DeviceMember<T> &member, int m, int t) {
    const DeviceFitting<T> &net = member.elements[t];
    const bool mean = chunk.results.n_rows == 1;
    const double share = mean ? 1.0 / members : 1.0;
    const int to_row = mean ? 0 : m, n = chunk.type_begin[t + 1] - chunk.type_begin[t];
    const int64_t n_sums = static_cast<int64_t>(n) * 4 * member.width;
    const int64_t n_features = static_cast<int64_t>(member.width) * member.axis;
    DeepTask<T> task{};
    task.edges = chunk.edges;
    task.edges.order += chunk.type_begin[t];
    task.rows = rows;
    task.n_atoms = n;
    task.type = t;
    task.n_types = n_types;
    task.width = member.width;
    task.padded = member.padded;
    task.widest = member.widest;
    task.tables = net.tables;
    task.absent = net.absent;
    task.expected = net.expected;
    task.normalisation = net.normalisation;
    task.sums = sums.room(n_sums);
    task.sums_gradient = sums_gradient.room(n_sums);
    launch(embed<T>, n, DEEP_THREADS, shared_of(member), stream, task);

    FeatureTask<T> expansion{
        n,          t,       member.width, member.axis,      task.sums, net.factor,
        net.offset, nullptr, nullptr,      task.edges.order, n_columns, member.first_function};
    if (ranges && chunk.results.per_atom) {
      expansion.minimum = net.minimum;
      expansion.maximum = net.maximum;
    }
    T *const x = features.room(n * n_features);
    launch(expand<T>, blocks_for(n * n_features, FIT_THREADS), FIT_THREADS, 0, stream, expansion, x,
           chunk.results);
    fit(net, n, x, task.edges.order, to_row, share, chunk.results);
    launch(contract<T>, blocks_for(n_sums, FIT_THREADS), FIT_THREADS, 0, stream, expansion,
           static_cast<const T *>(x), task.sums_gradient);
    launch(embed_gradient<T>, n, DEEP_THREADS, shared_of(member), stream, task, chunk.results, to_row, share);
  }

  void product(int m, int n, int k, const T *a, const T *b, T *c) {
    launch(multiply<T>, blocks_for(m, TILE) * blocks_for(n, TILE), FIT_THREADS, 0, stream, m, n, k, a, b, c);
  }

  // Adds energies; dE/dfeatures take the place of the features.
  void fit(const DeviceFitting<T> &net, int n, T *x, const int *order_of_atoms, int to_row, double share,
           const DeviceResults &results) {
    const int n_layers = static_cast<int>(net.layers.size());
    if (values.size() < net.layers.size()) {
      values.resize(net.layers.size());
      slopes.resize(net.layers.size());
    }
    for (int l = 0; l < n_layers; l++) {
      const FittingLayer<T> &layer = net.layers[l];
      const int64_t size = static_cast<int64_t>(n) * layer.n_out;
      const T *const in = l > 0 ? values[l - 1].get() : x;
      T *const y = values[l].room(size);
      product(n, layer.n_out, layer.n_in, in, layer.transposed, y);
      launch(finish_layer<T>, blocks_for(size, FIT_THREADS), FIT_THREADS, 0, stream, layer, size, in, y,
             slopes[l].room(size));
    }
    const int n_last = net.layers.back().n_out;
    launch(energies<T>, blocks_for(n, FIT_THREADS / WARP), FIT_THREADS, 0, stream, n, n_last,
           static_cast<const T *>(values[n_layers - 1].get()), net.output, net.output_bias, order_of_atoms,
           to_row, share, results);
    for (int l = n_layers - 1; l >= 0; l--) {
      const FittingLayer<T> &layer = net.layers[l];
      const int64_t size = static_cast<int64_t>(n) * layer.n_out, n_in = static_cast<int64_t>(n) * layer.n_in;
      launch(backward_layer<T>, blocks_for(size, FIT_THREADS), FIT_THREADS, 0, stream, layer.n_out, size,
             l + 1 == n_layers ? net.output : nullptr, values[l].get(), slopes[l].get());
      T *const to = l > 0 ? values[l - 1].get() : x;
      product(n, layer.n_in, layer.n_out, slopes[l].get(), layer.weight, to);
      if (layer.copies > 0)
        launch(add_shortcuts<T>, blocks_for(n_in, FIT_THREADS), FIT_THREADS, 0, stream, layer, n_in,
               static_cast<const T *>(values[l].get()), to);
    }
  }

  // ---- the model to the device ---------------------------------------------------------------------------
  const T *keep_numbers(const std::vector<double> &values) {
    return storage.keep(std::vector<T>(values.begin(), values.end()));
  }

  const Environment *environments_of(const Model &model) {
    std::vector<Environment> environments;
    for (int t = 0; t < n_types; t++)
      environments.push_back({model.cutoff_kind, model.cutoff, model.inner, model.mean[t],
                              1.0 / model.std[2 * t], 1.0 / model.std[2 * t + 1]});
    return storage.keep(environments);
  }

  void keep(const Model &model) {
    const deep::Member<T> member = tabulated<T>(model);
    DeviceMember<T> on_device{model.width, model.axis, member.padded_width, 1, n_columns, {}};
    std::vector<DeviceTable<T>> tables;
    for (size_t k = 0; k < model.embeddings.size(); k++) {
      std::vector<ExactLayer> layers;
      for (const DenseLayer &layer : model.embeddings[k].layers) {
        layers.push_back({layer.n_in, layer.n_out, layer.copies, layer.activation, storage.keep(layer.weight),
                          storage.keep(layer.bias),
                          layer.timestep.empty() ? nullptr : storage.keep(layer.timestep)});
        on_device.widest = std::max(on_device.widest, layer.n_out);
      }
      const deep::Table<T> &table = member.tables[k];
      tables.push_back({storage.keep(table.node, table.n_intervals * 6 * table.width), table.n_intervals,
                        table.start, table.inverse_spacing, static_cast<int>(layers.size()),
                        storage.keep(layers)});
    }
    for (int t = 0; t < n_types; t++) on_device.elements.push_back(keep_element(model, member, tables, t));
    kept.push_back(std::move(on_device));
  }

  DeviceFitting<T> keep_element(const Model &model, const deep::Member<T> &member,
                                const std::vector<DeviceTable<T>> &tables, int t) {
    const int64_t n_features = static_cast<int64_t>(model.width) * model.axis;
    const auto part = [&](const std::vector<double> &all) {
      return std::vector<double>(all.begin() + t * n_features, all.begin() + (t + 1) * n_features);
    };
    DeviceFitting<T> net{};
    for (const DenseLayer &layer : model.fitting[t].layers) {
      std::vector<double> transposed(layer.weight.size());
      for (int h = 0; h < layer.n_out; h++)
        for (int k = 0; k < layer.n_in; k++)
          transposed[static_cast<size_t>(k) * layer.n_out + h] =
              layer.weight[static_cast<size_t>(h) * layer.n_in + k];
      net.layers.push_back({layer.n_in, layer.n_out, layer.copies, layer.activation,
                            keep_numbers(layer.weight), keep_numbers(transposed), keep_numbers(layer.bias),
                            layer.timestep.empty() ? nullptr : keep_numbers(layer.timestep)});
    }
    std::vector<double> output = model.fitting[t].output;
    for (double &weight : output) weight *= model.energy_scale;
    net.output = storage.keep(output);
    net.output_bias = model.fitting[t].output_bias * model.energy_scale + model.reference_energies[t];
    if (model.scaled) {
      net.factor = keep_numbers(part(model.factor));
      net.offset = keep_numbers(part(model.offset));
    }
    if (!model.minimum.empty()) {
      net.minimum = storage.keep(part(model.minimum));
      net.maximum = storage.keep(part(model.maximum));
    }
    std::vector<DeviceTable<T>> by_neighbor;
    for (int other = 0; other < n_types; other++) by_neighbor.push_back(tables[model.embedding_of(t, other)]);
    net.tables = storage.keep(by_neighbor);
    net.absent = storage.keep(member.absent(t, 0), static_cast<size_t>(n_types) * member.padded_width);
    net.expected = storage.keep(model.expected.data() + t * n_types, n_types);
    net.normalisation = static_cast<T>(1.0 / model.normalisation(t));
    return net;
  }
};

template <typename T>
std::unique_ptr<CudaKernel> make(const std::vector<KernelInput> &members, int device, std::string &reason) {
  auto kernel = std::make_unique<DeepKernel<T>>(members, device);
  if (kernel->shared_bytes() <= SHARED_MEMORY) return kernel;
  reason = "an embedding network that is too wide for the shared memory of a GPU";
  return nullptr;
}

std::unique_ptr<CudaKernel> make_deep(const std::vector<KernelInput> &members, Precision precision,
                                      int device, std::string &reason) {
  for (const KernelInput &member : members)
    if (!Json::parse(member.metadata).find("tabulation")) {
      reason = "the file says nothing about tables of its embedding networks: export the model again";
      return nullptr;
    }
  return precision == Precision::DOUBLE ? make<double>(members, device, reason)
                                        : make<float>(members, device, reason);
}

const CudaKernelOfKind deep_potentials("deep_potential", make_deep);

}  // namespace

}  // namespace cuda
}  // namespace nnpkit
