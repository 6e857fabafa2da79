// Models of kind "acsf" as the arrays that the stages read: functions in groups that share their work,
// weights padded to whole vectors.

#include "acsf_model.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <new>
#include <tuple>

namespace nnpkit {
namespace acsf {

namespace {

constexpr std::align_val_t LINE{64};

template <typename Value>
int position_of(std::vector<Value> &values, const Value &wanted) {  // appended if it is new
  const auto found = std::find(values.begin(), values.end(), wanted);
  if (found == values.end()) values.push_back(wanted);
  return static_cast<int>(std::find(values.begin(), values.end(), wanted) - values.begin());
}

using RadialPart = std::pair<double, double>;   // eta, shift
using AngularPart = std::pair<double, double>;  // lambda, zeta

// Finds exp(-eta R) as a product of up to MAX_FACTORS of those before it: 0.03 = 3 x 0.01.
bool find_factors(const std::vector<RadialPart> &parts, int n, double rest, int depth, int *factors) {
  const double eta = parts[n].first;
  if (depth > 0 && std::abs(rest) <= 4.0e-16 * eta) return true;
  if (depth == MAX_FACTORS || rest <= 0.0) return false;
  for (int p = n - 1; p >= 0; p--) {
    if (parts[p].first <= 0.0 || parts[p].first > rest * (1.0 + 1.0e-15)) continue;
    factors[depth] = p;
    if (find_factors(parts, n, rest - parts[p].first, depth + 1, factors)) return true;
    factors[depth] = -1;
  }
  return false;
}

// 2 (1/2 + lambda/2 x)^zeta as polynomials of x, where all are.
template <typename T>
void plan_polynomials(AngularGroup<T> &group, const std::vector<int> &angular, Storage &storage) {
  std::vector<int> degrees(group.n_radial, 0);
  std::vector<double> polynomials(static_cast<size_t>(group.n_functions) * (MAX_DEGREE + 1), 0.0);
  for (int p = 0; p < group.n_radial; p++)
    for (int f = group.first_function[p]; f < group.first_function[p + 1]; f++) {
      const int zeta = group.power[angular[f]];
      const double lambda = static_cast<double>(group.lambda[angular[f]]);
      if (zeta < 1 || zeta > MAX_DEGREE || std::abs(lambda) > 1.0) return;
      double *const c = polynomials.data() + static_cast<size_t>(f) * (MAX_DEGREE + 1);
      c[0] = 2.0;
      for (int n = 0; n < zeta; n++)
        for (int k = n + 1; k >= 0; k--) c[k] = 0.5 * (c[k] + (k > 0 ? lambda * c[k - 1] : 0.0));
      degrees[p] = std::max(degrees[p], zeta);
    }
  group.degree = *std::max_element(degrees.begin(), degrees.end());
  group.part_degree = storage.keep<int>(degrees);
  group.polynomial = storage.keep<T>(polynomials);
}

template <typename T>
void plan_pieces(AngularGroup<T> &group, const std::vector<double> &eta, const std::vector<double> &shift,
                 const std::vector<int> &angular, const std::vector<int> &columns, Storage &storage) {
  std::vector<Piece<T>> pieces;
  std::vector<int> part_of;
  for (int p = 0; p < group.n_radial; p++)
    part_of.insert(part_of.end(), group.first_function[p + 1] - group.first_function[p], p);
  for (int first = 0; first < group.n_functions; first += PIECE) {
    const int n = std::min(PIECE, group.n_functions - first), lanes = n > 4 ? 8 : 4;
    std::vector<double> eta2(lanes), shifts(lanes);
    std::vector<int> parts(lanes), angles(lanes, group.n_angular), column(n);
    for (int f = 0; f < n; f++) {
      parts[f] = part_of[first + f];
      angles[f] = angular[first + f];
      column[f] = columns[first + f];
      eta2[f] = -2.0 * eta[parts[f]];
      shifts[f] = 2.0 * eta[parts[f]] * shift[parts[f]];
    }
    pieces.push_back({n, lanes, storage.keep<T>(eta2), storage.keep<T>(shifts), storage.keep<int>(parts),
                      storage.keep<int>(angles), storage.keep<int>(column)});
  }
  group.n_pieces = static_cast<int>(pieces.size());
  group.pieces = storage.keep_all(pieces);
}

template <typename T>
AngularGroup<T> plan_group(const std::vector<Function> &functions, int cutoff, Storage &storage) {
  std::vector<RadialPart> radial;
  std::vector<AngularPart> angular;
  AngularGroup<T> group{};
  group.first = functions[0].first;
  group.second = functions[0].second;
  group.cutoff = cutoff;
  group.narrow = functions[0].kind == Function::NARROW;
  for (const Function &f : functions) {
    position_of(radial, {f.eta, f.shift});
    position_of(angular, {f.lambda, f.zeta});
    group.shifted = group.shifted || f.shift != 0.0;
  }
  std::sort(radial.begin(), radial.end());
  group.n_radial = static_cast<int>(radial.size());
  group.n_angular = static_cast<int>(angular.size());
  group.n_functions = static_cast<int>(functions.size());

  std::vector<double> eta, shift, lambda, zeta;
  std::vector<int> factors, power, first_function{0}, parts, columns;
  for (int p = 0; p < group.n_radial; p++) {
    eta.push_back(radial[p].first);
    shift.push_back(radial[p].second);
    int found[MAX_FACTORS] = {-1, -1, -1, -1};
    if (!group.shifted && eta[p] > 0.0) find_factors(radial, p, eta[p], 0, found);
    factors.insert(factors.end(), found, found + MAX_FACTORS);
    for (const Function &f : functions)
      if (RadialPart(f.eta, f.shift) == radial[p]) {
        parts.push_back(position_of(angular, {f.lambda, f.zeta}));
        columns.push_back(f.column);
      }
    first_function.push_back(static_cast<int>(parts.size()));
  }
  for (const AngularPart &part : angular) {
    lambda.push_back(part.first);
    zeta.push_back(part.second);
    const bool whole = part.second == std::floor(part.second) && part.second >= 1.0 && part.second < 1.0e6;
    power.push_back(whole ? static_cast<int>(part.second) : 0);
  }
  group.eta = storage.keep<T>(eta);
  group.shift = storage.keep<T>(shift);
  group.factors = storage.keep<int>(factors);
  group.lambda = storage.keep<T>(lambda);
  group.zeta = storage.keep<T>(zeta);
  group.power = storage.keep<int>(power);
  group.first_function = storage.keep<int>(first_function);
  group.angular = storage.keep<int>(parts);
  group.column = storage.keep<int>(columns);
  plan_polynomials(group, parts, storage);
  plan_pieces(group, eta, shift, parts, columns, storage);
  return group;
}

// Weights of one layer of one member as the stages want them: (n_in, padded n_out), and its transpose.
template <typename T>
Layer<T> plan_layer(const Dense &dense, Storage &storage) {
  const int in = dense.n_in, out = dense.n_out, wide_in = padded_nodes(in), wide_out = padded_nodes(out);
  std::vector<double> weight(static_cast<size_t>(in) * wide_out), bias(wide_out);
  std::vector<double> transposed(static_cast<size_t>(out) * wide_in);
  for (int o = 0; o < out; o++) {
    bias[o] = dense.bias[o];
    for (int i = 0; i < in; i++)
      weight[static_cast<size_t>(i) * wide_out + o] = transposed[static_cast<size_t>(o) * wide_in + i] =
          dense.weight[static_cast<size_t>(o) * in + i];
  }
  return {
      in, out, dense.activation, storage.keep<T>(weight), storage.keep<T>(transposed), storage.keep<T>(bias)};
}

// The same of several members: (n_in, n_out, MEMBERS)
template <typename T>
Layer<T> plan_layers(const std::vector<const ElementModel *> &members, size_t l, Storage &storage) {
  const Dense &first = members[0]->layers[l];
  const size_t in = first.n_in, out = first.n_out;
  std::vector<double> weight(in * out * MEMBERS), bias(out * MEMBERS);
  for (size_t m = 0; m < members.size(); m++) {
    const Dense &dense = members[m]->layers[l];
    for (size_t o = 0; o < out; o++) {
      bias[o * MEMBERS + m] = dense.bias[o];
      for (size_t i = 0; i < in; i++) weight[(i * out + o) * MEMBERS + m] = dense.weight[o * in + i];
    }
  }
  return {first.n_in, first.n_out, first.activation, storage.keep<T>(weight), nullptr, storage.keep<T>(bias)};
}

}  // namespace

void Storage::Free::operator()(char *memory) const {
  ::operator delete[](memory, LINE);
}

char *Storage::room(size_t bytes) {
  char *const memory = static_cast<char *>(::operator new[](bytes, LINE));
  std::fill(memory, memory + bytes, '\0');
  blocks.emplace_back(memory);
  return memory;
}

template <typename T>
Center<T> plan_center(const Description &description, int type, Storage &storage) {
  Center<T> center{};
  std::vector<double> cutoffs;
  std::vector<std::vector<Function>> radial(description.n_types);
  std::map<std::tuple<int, int, int, int>, std::vector<Function>> angular;
  for (const Function &f : description.functions) {
    if (f.center != type) continue;
    const int cutoff = position_of(cutoffs, f.cutoff);
    if (f.kind == Function::RADIAL)
      radial[f.first].push_back(f);
    else
      angular[{cutoff, f.kind, f.first, f.second}].push_back(f);
  }
  center.n_types = description.n_types;
  center.n_features = description.n_features[type];
  center.n_cutoffs = static_cast<int>(cutoffs.size());
  std::vector<Cutoff<T>> rings;
  for (const double radius : cutoffs)
    rings.push_back(
        {description.cutoff_kind, static_cast<T>(radius), static_cast<T>(radius * description.cutoff_inner)});
  center.cutoffs = storage.keep_all(rings);

  std::vector<RadialFunctions<T>> sets;
  for (const auto &functions : radial) {
    std::vector<double> eta, shift;
    std::vector<int> cutoff, column;
    for (const Function &f : functions) {
      eta.push_back(f.eta);
      shift.push_back(f.shift);
      cutoff.push_back(position_of(cutoffs, f.cutoff));
      column.push_back(f.column);
    }
    const int n = static_cast<int>(functions.size());
    sets.push_back({n, storage.keep<T>(eta), storage.keep<T>(shift), storage.keep<int>(cutoff),
                    storage.keep<int>(column)});
    center.n_radial_functions = std::max(center.n_radial_functions, n);
  }
  center.radial = storage.keep_all(sets);

  std::vector<AngularGroup<T>> groups;
  const size_t most = std::min(MAX_RADIAL, MAX_ANGULAR);  // so many functions cannot have more parts than fit
  for (const auto &[key, functions] : angular)
    for (size_t begin = 0; begin < functions.size(); begin += most) {
      const auto from = functions.begin() + begin;
      const std::vector<Function> part(from, from + std::min(most, functions.size() - begin));
      groups.push_back(plan_group<T>(part, std::get<0>(key), storage));
    }
  center.n_groups = static_cast<int>(groups.size());
  for (const auto &group : groups)
    for (int p = 0; p < group.n_pieces; p++) center.n_lanes += group.pieces[p].lanes;
  center.groups = storage.keep_all(groups);
  return center;
}

template <typename T>
Network<T> plan_network(const std::vector<const ElementModel *> &members, Storage &storage) {
  std::vector<Layer<T>> layers;
  const auto &first = members[0]->layers;
  int width = padded_nodes(first.front().n_in);
  for (size_t l = 0; l < first.size(); l++) {
    layers.push_back(members.size() == 1 ? plan_layer<T>(first[l], storage)
                                         : plan_layers<T>(members, l, storage));
    width = std::max(width, padded_nodes(first[l].n_out));
  }
  return {static_cast<int>(layers.size()), storage.keep_all(layers), width};
}

template <typename T>
MemberNetworks<T> plan_member_networks(const std::vector<const ElementModel *> &members, Storage &storage) {
  const size_t n_in = members[0]->layers.front().n_in;
  std::vector<double> shift(n_in * MEMBERS), factor(shift), lower(MEMBERS), scale(lower), reference(lower);
  for (size_t m = 0; m < members.size(); m++) {
    const ElementModel &member = *members[m];
    lower[m] = member.lower;
    scale[m] = member.energy_scale;
    reference[m] = member.reference;
    for (size_t f = 0; f < n_in; f++) {
      const bool scaled = f < static_cast<size_t>(member.n_features);
      shift[f * MEMBERS + m] = scaled ? member.shift[f] : member.lower;
      factor[f * MEMBERS + m] = scaled ? member.factor[f] : 1.0;
    }
  }
  return {plan_network<T>(members, storage), storage.keep<double>(shift), storage.keep<double>(factor),
          storage.keep<double>(lower),       storage.keep<double>(scale), storage.keep<double>(reference)};
}

template Center<double> plan_center<double>(const Description &, int, Storage &);
template Center<float> plan_center<float>(const Description &, int, Storage &);
template Network<double> plan_network<double>(const std::vector<const ElementModel *> &, Storage &);
template Network<float> plan_network<float>(const std::vector<const ElementModel *> &, Storage &);
template MemberNetworks<double> plan_member_networks(const std::vector<const ElementModel *> &, Storage &);
template MemberNetworks<float> plan_member_networks(const std::vector<const ElementModel *> &, Storage &);

}  // namespace acsf
}  // namespace nnpkit
