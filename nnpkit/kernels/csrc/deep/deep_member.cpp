#include "deep_member.h"

#include <algorithm>
#include <limits>

namespace nnpkit {
namespace deep {

namespace {

int padded_to(int n, int multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Coefficients of the quintic on 0 .. 1 with given values, first and second derivatives at both ends.
void quintic(const double (&a)[3], const double (&b)[3], double (&c)[6]) {
  const double jump = b[0] - a[0];
  c[0] = a[0];
  c[1] = a[1];
  c[2] = 0.5 * a[2];
  c[3] = 10.0 * jump - 6.0 * a[1] - 4.0 * b[1] - 1.5 * a[2] + 0.5 * b[2];
  c[4] = -15.0 * jump + 8.0 * a[1] + 7.0 * b[1] + 1.5 * a[2] - b[2];
  c[5] = 6.0 * jump - 3.0 * a[1] - 3.0 * b[1] - 0.5 * a[2] + 0.5 * b[2];
}

// Appends W (or W^T) for outputs or inputs first .. last - 1 in groups of `group` outputs, each (n_in,
// group).
template <typename Real>
void append_packed(const DenseLayer &layer, bool backward, int first, int last, int group, Buffer<Real> &to) {
  const int n_out = backward ? last - first : layer.n_out;
  const int n_in = backward ? layer.n_out : last - first;
  for (int start = 0; start < n_out; start += group)
    for (int k = 0; k < n_in; k++)
      for (int h = start; h < start + group; h++) {
        const int64_t row = backward ? k : h, column = first + (backward ? h : k);
        to.push_back(h < n_out ? static_cast<Real>(layer.weight[row * layer.n_in + column]) : Real(0));
      }
}

}  // namespace

template <typename Real>
Member<Real>::Member(const Model &given, const Stages<Real> &stages)
    : model(given), padded_width(padded_to(given.width, stages.lanes)) {
  tabulate();
  pack(stages);
  if (!model.minimum.empty()) lay_out_ranges();
}

template <typename Real>
void Member<Real>::tabulate() {
  const int n = model.n_types, width = model.width;
  std::vector<double> value(2 * width), first(2 * width), second(2 * width);
  for (size_t net = 0; net < model.embeddings.size(); net++) {
    const Grid &grid = model.grids[net];
    memory.emplace_back(grid.n_intervals * 6 * padded_width, Real(0));
    Real *to = memory.back().data();
    for (int64_t i = 0; i <= grid.n_intervals; i++) {
      double *const a = &value[i % 2 * width], *const b = &first[i % 2 * width],
                    *const c = &second[i % 2 * width];
      embedding_at(model.embeddings[net], grid.start + grid.spacing * static_cast<double>(i), a, b, c);
      if (i == 0) continue;
      const int before = (i + 1) % 2 * width;
      const double h = grid.spacing;
      for (int m = 0; m < width; m++) {
        const double left[3] = {value[before + m], h * first[before + m], h * h * second[before + m]};
        const double right[3] = {a[m], h * b[m], h * h * c[m]};
        double coefficients[6];
        quintic(left, right, coefficients);
        for (int k = 0; k < 6; k++) to[k * padded_width + m] = static_cast<Real>(coefficients[k]);
      }
      to += 6 * padded_width;
    }
    tables.push_back({memory.back().data(), padded_width, grid.n_intervals, grid.start, 1.0 / grid.spacing});
  }
  absent_neighbors.assign(static_cast<size_t>(n) * n * padded_width, Real(0));
  for (int c = 0; c < n; c++)
    for (int t = 0; t < n; t++) {
      embedding_at(model.embeddings[model.embedding_of(c, t)], model.absent(c), value.data(), nullptr,
                   nullptr);
      for (int m = 0; m < width; m++)
        absent_neighbors[(c * n + t) * padded_width + m] = static_cast<Real>(value[m] * model.absent(c));
    }
}

template <typename Real>
const Real *Member<Real>::keep(const std::vector<double> &values) {
  memory.emplace_back(values.begin(), values.end());
  return memory.back().data();
}

template <typename Real>
void Member<Real>::pack(const Stages<Real> &stages) {
  const int n_features = model.width * model.axis;
  for (int t = 0; t < model.n_types; t++) {
    const Network &network = model.fitting[t];
    Fitting<Real> net{};
    net.width = model.width;
    net.axis = model.axis;
    net.padded_width = padded_width;
    net.panel_rows = std::max(1, PANEL / model.axis);
    net.normalisation = static_cast<Real>(1.0 / model.normalisation(t));
    if (model.scaled) {
      const auto part = [&](const std::vector<double> &all) {
        return keep({all.begin() + t * n_features, all.begin() + (t + 1) * n_features});
      };
      net.factor = part(model.factor);
      net.offset = part(model.offset);
    }
    layers.emplace_back();
    for (const DenseLayer &layer : network.layers) {
      Layer<Real> view{};
      view.n_in = layer.n_in;
      view.n_out = layer.n_out;
      view.copies = layer.copies;
      view.activation = layer.activation;
      view.bias = keep(layer.bias);
      view.timestep = layer.timestep.empty() ? nullptr : keep(layer.timestep);
      const int panel = layers.back().empty() ? net.panel_rows * model.axis : layer.n_in;
      for (const bool backward : {false, true}) {
        memory.emplace_back();
        for (int first = 0; first < layer.n_in; first += panel)
          append_packed(layer, backward, first, std::min(layer.n_in, first + panel), stages.group,
                        memory.back());
        (backward ? view.backward : view.forward) = memory.back().data();
      }
      layers.back().push_back(view);
    }
    std::vector<double> output = network.output;
    for (double &weight : output) weight *= model.energy_scale;
    net.output = keep(output);
    net.output_bias = network.output_bias * model.energy_scale + model.reference_energies[t];
    net.n_layers = static_cast<int>(layers.back().size());
    net.layers = layers.back().data();
    workspace = std::max(workspace, stages.fit_workspace(net));
    fitting.push_back(net);
  }
}

// Element by element, the second index of a feature first.
template <typename Real>
void Member<Real>::lay_out_ranges() {
  const double unbounded = std::numeric_limits<double>::infinity();
  for (int t = 0; t < model.n_types; t++) {
    std::vector<double> low(static_cast<size_t>(model.axis) * padded_width, -unbounded),
        high(low.size(), unbounded);
    for (int m = 0; m < model.width; m++)
      for (int a = 0; a < model.axis; a++) {
        const size_t feature = (static_cast<size_t>(t) * model.width + m) * model.axis + a;
        low[a * padded_width + m] = model.minimum[feature];
        high[a * padded_width + m] = model.maximum[feature];
      }
    ranges.push_back({keep(low), keep(high)});
  }
}

template class Member<double>;
template class Member<float>;

}  // namespace deep
}  // namespace nnpkit
