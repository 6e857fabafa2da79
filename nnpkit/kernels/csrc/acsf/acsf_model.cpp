#include "acsf_model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace nnpkit {
namespace acsf {

namespace {

constexpr long MOST_NODES = 1 << 16;  // of a layer: anything above is a damaged file

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("model: " + what);
}

// Position of a name in a table, -1 if it is not there.
template <size_t N>
int position(const char *const (&names)[N], const std::string &name) {
  for (size_t k = 0; k < N; k++)
    if (name == names[k]) return static_cast<int>(k);
  return -1;
}

int type_of(const std::vector<std::string> &elements, const std::string &name) {
  const auto found = std::find(elements.begin(), elements.end(), name);
  if (found == elements.end()) fail("a function of element " + name + ", which the model does not know");
  return static_cast<int>(found - elements.begin());
}

Function read_function(const Json &json, const std::vector<std::string> &elements) {
  Function f{};
  const std::string kind = json.at("kind").string();
  if (kind != "G2" && kind != "G3" && kind != "G9") fail("unknown symmetry function " + kind);
  f.kind = kind == "G2" ? Function::RADIAL : kind == "G3" ? Function::NARROW : Function::WIDE;
  f.center = type_of(elements, json.at("center").string());
  const std::vector<std::string> neighbors = json.at("neighbors").strings();
  if (neighbors.size() != (f.kind == Function::RADIAL ? 1u : 2u)) fail("a " + kind + " with wrong neighbors");
  f.first = type_of(elements, neighbors.front());
  f.second = type_of(elements, neighbors.back());
  if (f.first > f.second) std::swap(f.first, f.second);
  f.cutoff = json.at("cutoff").number();
  if (!(f.cutoff > 0.0 && f.cutoff < 1.0e3))
    fail("a symmetry function with cutoff " + std::to_string(f.cutoff));
  f.eta = json.number("eta", 0.0);
  f.shift = json.number("shift", 0.0);
  f.zeta = json.number("zeta", 1.0);
  f.lambda = json.number("lam", 1.0);
  return f;
}

// Hidden layers and the output node of one element. False: an activation that is not known.
bool read_layers(const KernelInput &input, const Json &settings, int type, int n_in,
                 std::vector<Dense> &layers, std::string &reason) {
  std::vector<Json> hidden = settings.at("hidden").array();
  const std::vector<std::string> activations = settings.at("activations").strings();
  if (activations.size() != hidden.size() + 1) fail("networks need one activation function per layer");
  for (size_t l = 0; l < activations.size(); l++) {
    const long n_out = l < hidden.size() ? hidden[l].integer() : 1;
    if (n_out < 1 || n_out > MOST_NODES) fail("a layer of " + std::to_string(n_out) + " nodes");
    const int activation = position(ACTIVATION_NAMES, activations[l]);
    if (activation < 0) {
      reason = "activation function " + activations[l];
      return false;
    }
    const std::string name =
        "networks.networks." + std::to_string(type) + ".layers." + std::to_string(l) + ".";
    layers.push_back({n_in, static_cast<int>(n_out), static_cast<Activation>(activation),
                      tensor_of(input, name + "weight", {n_out, n_in}).values.data(),
                      tensor_of(input, name + "bias", {n_out}).values.data()});
    n_in = static_cast<int>(n_out);
  }
  return true;
}

}  // namespace

bool Description::operator==(const Description &other) const {
  const auto same = [](const Function &a, const Function &b) {
    return a.kind == b.kind && a.center == b.center && a.first == b.first && a.second == b.second &&
           a.cutoff == b.cutoff && a.eta == b.eta && a.shift == b.shift && a.zeta == b.zeta &&
           a.lambda == b.lambda;
  };
  return n_types == other.n_types && cutoff_kind == other.cutoff_kind && cutoff_inner == other.cutoff_inner &&
         std::equal(functions.begin(), functions.end(), other.functions.begin(), other.functions.end(), same);
}

int Description::width() const {
  return *std::max_element(n_features.begin(), n_features.end());
}

bool read_description(const Json &spec, Description &description, std::string &reason) {
  const std::vector<std::string> elements = spec.at("elements").strings();
  if (elements.empty()) fail("no elements");
  description.n_types = static_cast<int>(elements.size());
  const int kind = position(CUTOFF_NAMES, spec.at("cutoff_kind").string());
  if (kind < 0) {
    reason = "cutoff function " + spec.at("cutoff_kind").string();
    return false;
  }
  description.cutoff_kind = static_cast<CutoffKind>(kind);
  description.cutoff_inner = spec.number("cutoff_inner", 0.0);
  if (!(description.cutoff_inner >= 0.0 && description.cutoff_inner < 1.0)) fail("the inner cutoff");
  description.n_features.assign(elements.size(), 0);
  for (const Json &json : spec.at("functions").array()) {
    Function f = read_function(json, elements);
    f.column = description.n_features[f.center]++;
    description.longest = std::max(description.longest, f.cutoff);
    description.functions.push_back(f);
  }
  return true;
}

const Array &tensor_of(const KernelInput &input, const std::string &name, const std::vector<int64_t> &shape) {
  const auto found = input.tensors.find(name);
  if (found == input.tensors.end()) fail("tensor " + name + " is missing");
  int64_t size = 1;
  for (const int64_t n : shape) size *= n;
  if (found->second.shape != shape || found->second.values.size() != static_cast<size_t>(size))
    fail("tensor " + name + " has the wrong shape");
  return found->second;
}

bool read_elements(const KernelInput &input, const Json &metadata, const std::vector<int> &n_features,
                   std::vector<ElementModel> &elements, std::string &reason) {
  const Json &spec = metadata.at("spec");
  const std::vector<std::string> names = metadata.at("elements").strings();
  const int64_t n_types = static_cast<int64_t>(names.size());
  const int64_t width = *std::max_element(n_features.begin(), n_features.end());
  const double *const shift = tensor_of(input, "scaling.shift", {n_types, width}).values.data();
  const double *const factor = tensor_of(input, "scaling.factor", {n_types, width}).values.data();
  const double lower = tensor_of(input, "scaling.lower", {}).values[0];
  const Json *const ranges = metadata.find("feature_ranges");
  for (int t = 0; t < n_types; t++) {
    const int n = n_features[t];
    if (n == 0) fail("element " + names[t] + " has no features");
    ElementModel element{};
    element.n_features = n;
    const int n_in = spec.find("charge_input") ? n + 1 : n;
    if (!read_layers(input, spec.at("networks").at(names[t]), t, n_in, element.layers, reason)) return false;
    element.shift = shift + t * width;
    element.factor = factor + t * width;
    element.lower = lower;
    element.energy_scale = spec.number("energy_scale", 1.0);
    element.reference = spec.at("reference_energies").at(names[t]).number();
    if (ranges) {
      element.minimum = ranges->at(names[t]).at("min").numbers();
      element.maximum = ranges->at(names[t]).at("max").numbers();
      if (element.minimum.size() != static_cast<size_t>(n) ||
          element.maximum.size() != static_cast<size_t>(n))
        fail("feature_ranges do not fit the functions of " + names[t]);
    }
    elements.push_back(element);
  }
  return true;
}

bool read_model(const KernelInput &input, Description &description, std::vector<ElementModel> &elements,
                std::string &reason) {
  const Json metadata = Json::parse(input.metadata);
  const Json &spec = metadata.at("spec");
  const std::vector<std::string> names = metadata.at("elements").strings();
  if (spec.at("elements").strings() != names) fail("elements that contradict each other");
  if (!read_description(spec, description, reason)) return false;
  return read_elements(input, metadata, description.n_features, elements, reason);
}

bool same_layers(const ElementModel &a, const ElementModel &b) {
  const auto same = [](const Dense &p, const Dense &q) {
    return p.n_in == q.n_in && p.n_out == q.n_out && p.activation == q.activation;
  };
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(), same);
}

int nodes_needed(const ElementModel &element) {
  int sum = 0, widest = padded_nodes(element.layers.front().n_in);
  for (const Dense &layer : element.layers) {
    sum += 2 * padded_nodes(layer.n_out);
    widest = std::max(widest, padded_nodes(layer.n_out));
  }
  return sum + 2 * widest + 2 * padded_nodes(element.layers.front().n_in);
}

}  // namespace acsf
}  // namespace nnpkit
