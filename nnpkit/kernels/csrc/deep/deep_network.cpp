#include "deep_network.h"

#include "json.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace nnpkit {
namespace deep {

namespace {

constexpr int MAX_WIDTH = 1 << 20;
constexpr int MAX_LAYERS = 32;
constexpr int64_t MAX_INTERVALS = 1 << 16;

[[noreturn]] void contradiction(const std::string &what) {
  throw std::runtime_error("the model file contradicts itself: " + what);
}

template <typename Value, size_t N>
Value named(const std::string &name, const char *const (&names)[N], const char *what) {
  for (size_t k = 0; k < N; k++)
    if (name == names[k]) return static_cast<Value>(k);
  contradiction(std::string("unknown ") + what + " '" + name + "'");
}

Activation activation_named(const std::string &name) {
  return named<Activation>(name, ACTIVATION_NAMES, "activation function");
}

const std::vector<double> &tensor(const KernelInput &input, const std::string &name, int64_t n) {
  const auto found = input.tensors.find(name);
  if (found == input.tensors.end()) contradiction("no tensor " + name);
  if (static_cast<int64_t>(found->second.values.size()) != n)
    contradiction("the size of " + name + " is not " + std::to_string(n));
  return found->second.values;
}

std::vector<int> widths_of(const Json &list) {
  std::vector<int> widths;
  for (const Json &item : list.array()) {
    const long width = item.integer();
    if (width < 1 || width > MAX_WIDTH) contradiction("a layer of width " + std::to_string(width));
    widths.push_back(static_cast<int>(width));
  }
  if (widths.size() > MAX_LAYERS - 1) contradiction("too many layers");
  return widths;
}

std::vector<DenseLayer> read_layers(const KernelInput &input, const std::string &prefix, int n_in,
                                    const std::vector<int> &widths, Activation activation, bool timestep) {
  std::vector<DenseLayer> layers;
  for (const int n_out : widths) {
    const std::string name = prefix + ".layers." + std::to_string(layers.size()) + ".";
    DenseLayer layer;
    layer.n_in = n_in;
    layer.n_out = n_out;
    layer.copies = n_out == n_in ? 1 : n_out == 2 * n_in ? 2 : 0;
    layer.activation = activation;
    layer.weight = tensor(input, name + "weight", static_cast<int64_t>(n_in) * n_out);
    layer.bias = tensor(input, name + "bias", n_out);
    if (timestep && layer.copies > 0) layer.timestep = tensor(input, name + "timestep", n_out);
    layers.push_back(layer);
    n_in = n_out;
  }
  return layers;
}

bool is_true(const Json &options, const char *key, bool otherwise) {
  const Json *const found = options.find(key);
  return found ? found->boolean() : otherwise;
}

void read_descriptor(const KernelInput &input, const Json &options, Model &model) {
  model.cutoff_kind = named<CutoffKind>(options.at("cutoff_kind").string(), CUTOFF_NAMES, "cutoff function");
  model.cutoff = options.at("cutoff").number();
  model.inner = options.at("smooth_from").number();
  if (!(model.cutoff > 0.0)) contradiction("the cutoff is not positive");
  model.one_side = is_true(options, "one_side", true);
  const std::vector<int> widths = widths_of(options.at("embedding"));
  if (widths.empty()) contradiction("embedding networks without layers");
  model.width = widths.back();
  const long axis = options.at("axis_neurons").integer();
  if (axis < 1 || axis > model.width) contradiction("axis_neurons " + std::to_string(axis));
  model.axis = static_cast<int>(axis);
  const int n = model.n_types;
  model.mean = tensor(input, "descriptor.mean", n);
  model.std = tensor(input, "descriptor.std", 2 * n);
  model.expected = tensor(input, "descriptor.expected", n * n);
  const Activation activation = activation_named(options.string("activation", "tanh"));
  for (int k = 0; k < (model.one_side ? n : n * n); k++) {
    const std::string name = "descriptor.embeddings." + std::to_string(k);
    Network network;
    network.layers = read_layers(input, name, 1, widths, activation, is_true(options, "timestep", false));
    model.embeddings.push_back(network);
  }
}

void read_fitting(const KernelInput &input, const Json &options, int n_features, int type, Model &model) {
  const std::string name = "networks.networks." + std::to_string(type);
  const std::vector<int> widths = widths_of(options.at("hidden"));
  const int n_last = widths.empty() ? n_features : widths.back();
  Network network;
  network.layers =
      read_layers(input, name + ".hidden", n_features, widths,
                  activation_named(options.at("activation").string()), options.at("timestep").boolean());
  network.output = tensor(input, name + ".output.weight", n_last);
  network.output_bias = tensor(input, name + ".output.bias", 1)[0];
  if (network.layers.empty()) {  // the stages want a layer
    DenseLayer layer;
    layer.n_in = n_features;
    layer.n_out = 1;
    layer.weight = network.output;
    layer.bias = {network.output_bias};
    network.layers.push_back(layer);
    network.output = {1.0};
    network.output_bias = 0.0;
  }
  model.fitting.push_back(network);
}

void read_scaling(const KernelInput &input, int64_t n_features, Model &model) {
  const int64_t n = model.n_types * n_features;
  const std::vector<double> &shift = tensor(input, "scaling.shift", n);
  const double lower = tensor(input, "scaling.lower", 1)[0];
  model.factor = tensor(input, "scaling.factor", n);
  for (int64_t k = 0; k < n; k++) {
    model.offset.push_back(lower - shift[k] * model.factor[k]);
    model.scaled = model.scaled || model.factor[k] != 1.0 || model.offset[k] != 0.0;
  }
}

void read_grids(const Json &metadata, Model &model) {
  model.grids.resize(model.embeddings.size());
  const Json *const tabulation = metadata.find("tabulation");
  if (!tabulation) return;
  model.tolerance = tabulation->at("tolerance").number();
  const std::vector<Json> &networks = tabulation->at("networks").array();
  if (networks.size() != model.grids.size()) contradiction("tables of another number of networks");
  for (size_t k = 0; k < networks.size(); k++) {
    Grid &grid = model.grids[k];
    grid.start = networks[k].at("start").number();
    grid.spacing = networks[k].at("spacing").number();
    grid.n_intervals = networks[k].at("intervals").integer();
    if (!(grid.spacing > 0.0) || !std::isfinite(grid.start) || grid.n_intervals < 0 ||
        grid.n_intervals > MAX_INTERVALS)
      contradiction("a table without sense");
  }
}

void read_ranges(const Json &metadata, const std::vector<std::string> &elements, size_t n_features,
                 Model &model) {
  const Json *const ranges = metadata.find("feature_ranges");
  if (!ranges) return;
  for (const std::string &element : elements) {
    const std::vector<double> low = ranges->at(element).at("min").numbers(),
                              high = ranges->at(element).at("max").numbers();
    if (low.size() != n_features || high.size() != n_features)
      contradiction("feature_ranges of another number of features");
    model.minimum.insert(model.minimum.end(), low.begin(), low.end());
    model.maximum.insert(model.maximum.end(), high.begin(), high.end());
  }
}

}  // namespace

double Model::normalisation(int center) const {
  double sum = 0.0;
  for (int t = 0; t < n_types; t++) sum += expected[center * n_types + t];
  return sum > 0.0 ? sum : 1.0;
}

bool Model::shares_environment_with(const Model &other) const {
  return cutoff_kind == other.cutoff_kind && cutoff == other.cutoff && inner == other.inner &&
         mean == other.mean && std == other.std && n_types == other.n_types;
}

Model read_model(const KernelInput &input) {
  const Json metadata = Json::parse(input.metadata);
  const Json &spec = metadata.at("spec");
  const std::vector<std::string> elements = metadata.at("elements").strings();
  if (elements.empty() || elements.size() > 200) contradiction("no elements");
  Model model;
  model.n_types = static_cast<int>(elements.size());
  read_descriptor(input, spec.at("descriptor"), model);
  const int64_t n_features = static_cast<int64_t>(model.width) * model.axis;
  if (n_features > MAX_WIDTH) contradiction("too many features");
  for (int t = 0; t < model.n_types; t++)
    read_fitting(input, spec.at("networks").at(elements[t]), static_cast<int>(n_features), t, model);
  read_scaling(input, n_features, model);
  read_grids(metadata, model);
  read_ranges(metadata, elements, static_cast<size_t>(n_features), model);
  model.energy_scale = spec.number("energy_scale", 1.0);
  for (const std::string &element : elements)
    model.reference_energies.push_back(spec.at("reference_energies").at(element).number());
  return model;
}

void embedding_at(const Network &network, double x, double *value, double *first, double *second) {
  std::vector<double> y{x}, dy{1.0}, d2y{0.0};
  for (const DenseLayer &layer : network.layers) {
    std::vector<double> z(layer.n_out), dz(layer.n_out), d2z(layer.n_out);
    for (int h = 0; h < layer.n_out; h++) {
      double u = layer.bias[h], du = 0.0, d2u = 0.0, f[3];
      for (int k = 0; k < layer.n_in; k++) {
        const double weight = layer.weight[static_cast<size_t>(h) * layer.n_in + k];
        u += weight * y[k];
        du += weight * dy[k];
        d2u += weight * d2y[k];
      }
      activation_at(layer.activation, u, f[0], f[1]);
      f[2] = activation_curvature(layer.activation, u, f[0], f[1]);
      const double dt = layer.timestep.empty() ? 1.0 : layer.timestep[h];
      z[h] = dt * f[0];
      dz[h] = dt * f[1] * du;
      d2z[h] = dt * (f[2] * du * du + f[1] * d2u);
      if (layer.copies > 0) {
        const int k = h % layer.n_in;
        z[h] += y[k];
        dz[h] += dy[k];
        d2z[h] += d2y[k];
      }
    }
    y.swap(z);
    dy.swap(dz);
    d2y.swap(d2z);
  }
  for (size_t m = 0; m < y.size(); m++) {
    value[m] = y[m];
    if (first) first[m] = dy[m];
    if (second) second[m] = d2y[m];
  }
}

}  // namespace deep
}  // namespace nnpkit
