#include "cluster_rows.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

namespace nnpkit {
namespace cluster {

namespace {

constexpr const char *CUTOFFS[] = {"cosine", "poly2", "poly3"};
constexpr int MOST = 1 << 12;  // anything above is a mistake

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("expansion: " + what);
}

template <size_t N>
int position(const char *const (&names)[N], const std::string &wanted) {
  const auto found = std::find(std::begin(names), std::end(names), wanted);
  if (found == std::end(names)) fail("unknown " + wanted);
  return static_cast<int>(found - std::begin(names));
}

int count(const Json &json, const std::string &key) {
  const long n = json.at(key).integer();
  if (n < 1 || n > MOST) fail(key + " of " + std::to_string(n));
  return static_cast<int>(n);
}

// Of the harmonic l, m, as in harmonics.py.
double norm(int l, int m) {
  double value = (2.0 * l + 1.0) / (4.0 * M_PI);
  for (int n = l - m + 1; n <= l + m; n++) value /= n;
  return std::sqrt(m == 0 ? value : 2.0 * value);
}

using Factors = std::vector<int>;
using Sums = std::map<Factors, double>;

Factors without(const Factors &factors, size_t position) {
  Factors others = factors;
  others.erase(others.begin() + static_cast<std::ptrdiff_t>(position));
  return others;
}

void plan_first(const std::vector<std::map<int, Sums>> &derivatives, const std::vector<int> &degrees,
                int wide, RowsPlan &plan, acsf::Storage &storage) {
  std::vector<Invariant<double>> invariants;
  std::vector<std::vector<std::pair<int, int>>> columns(plan.n_harmonics);
  int n_derivatives = 0;
  for (size_t p = 0; p < derivatives.size(); p++) {
    std::vector<int> rows, first{0};
    std::vector<Monomial<double>> monomials;
    for (const auto &[row, sums] : derivatives[p]) {
      rows.push_back(row * wide);
      columns[row].emplace_back(static_cast<int>(p), n_derivatives++);
      for (const auto &[factors, coefficient] : sums) {
        Monomial<double> monomial{coefficient, {}};
        for (size_t f = 0; f < factors.size(); f++) monomial.factor[f] = factors[f] * wide;
        monomials.push_back(monomial);
      }
      first.push_back(static_cast<int>(monomials.size()));
    }
    invariants.push_back({degrees[p], static_cast<int>(rows.size()), storage.keep<int>(rows),
                          storage.keep<int>(first), storage.keep_all(monomials)});
  }
  plan.invariants = {static_cast<int>(invariants.size()), n_derivatives, storage.keep_all(invariants)};
  std::vector<int> first{0}, invariant, derivative;
  for (const auto &column : columns) {
    for (const auto &[p, n] : column) {
      invariant.push_back(p);
      derivative.push_back(n);
    }
    first.push_back(static_cast<int>(invariant.size()));
  }
  plan.column_first = storage.keep<int>(first);
  plan.column_invariant = storage.keep<int>(invariant);
  plan.column_derivative = storage.keep<int>(derivative);
}

// By pairs of coefficients k >= m, and of these by invariant.
using Curvatures = std::map<std::pair<int, int>, std::map<int, Sums>>;

void plan_second(const Curvatures &found, int wide, RowsPlan &plan, acsf::Storage &storage) {
  std::vector<int> group_first{0}, invariant, term_first{0};
  std::vector<SecondTerm> terms;
  std::vector<std::vector<std::pair<int, int>>> rows(plan.n_harmonics);
  const int ones = plan.n_harmonics * wide;
  int n = 0;
  for (const auto &[pair, groups] : found) {
    const auto [k, m] = pair;
    rows[k].emplace_back(m, n);
    if (k != m) rows[m].emplace_back(k, n);
    n++;
    for (const auto &[p, sums] : groups) {
      invariant.push_back(p);
      for (const auto &[factors, coefficient] : sums) {
        SecondTerm term{coefficient, {ones, ones}};
        for (size_t f = 0; f < factors.size(); f++) term.factor[f] = factors[f] * wide;
        terms.push_back(term);
      }
      term_first.push_back(static_cast<int>(terms.size()));
    }
    group_first.push_back(static_cast<int>(invariant.size()));
  }
  plan.n_curvatures = n;
  plan.group_first = storage.keep<int>(group_first);
  plan.group_invariant = storage.keep<int>(invariant);
  plan.term_first = storage.keep<int>(term_first);
  plan.terms = storage.keep_all(terms);
  std::vector<int> first{0}, row, value;
  for (const auto &entries : rows) {
    for (const auto &[other, index] : entries) {
      row.push_back(other * wide);
      value.push_back(index);
    }
    first.push_back(static_cast<int>(row.size()));
  }
  plan.curvature_first = storage.keep<int>(first);
  plan.curvature_row = storage.keep<int>(row);
  plan.curvature_value = storage.keep<int>(value);
}

std::vector<Term> read_terms(const Json &spec, int n_harmonics, int n_invariants) {
  std::vector<Term> terms;
  for (const Json &json : spec.at("terms").array()) {
    const std::vector<double> row = json.numbers();
    if (row.size() < 4 || row.size() > 2 + MAX_FACTORS) fail("a term of " + std::to_string(row.size()));
    Term term{static_cast<int>(row[0]), row[1], {}};
    for (size_t f = 2; f < row.size(); f++) {
      if (!(row[f] >= 0 && row[f] < n_harmonics)) fail("a term with an unknown harmonic");
      term.factors.push_back(static_cast<int>(row[f]));
    }
    if (term.invariant < 0 || term.invariant >= n_invariants) fail("a term of no invariant");
    std::sort(term.factors.begin(), term.factors.end());
    terms.push_back(term);
  }
  return terms;
}

}  // namespace

void plan_derivatives(const std::vector<Term> &terms, int n_invariants, RowsPlan &plan,
                      acsf::Storage &storage) {
  const int wide = plan.angular.by_channel();
  std::vector<std::map<int, Sums>> first(n_invariants);
  std::vector<int> degrees(n_invariants, 0);
  Curvatures second;
  for (const Term &term : terms) {
    int &degree = degrees[term.invariant];
    const int n = static_cast<int>(term.factors.size());
    if (degree != 0 && n != degree) fail("an invariant with terms of several degrees");
    degree = n;
    for (size_t f = 0; f < term.factors.size(); f++) {
      const int k = term.factors[f];
      const Factors others = without(term.factors, f);
      first[term.invariant][k][others] += term.coefficient;
      for (size_t g = 0; g < others.size(); g++)
        if (others[g] <= k) second[{k, others[g]}][term.invariant][without(others, g)] += term.coefficient;
    }
  }
  if (std::find(degrees.begin(), degrees.end(), 0) != degrees.end()) fail("an invariant without terms");
  plan_first(first, degrees, wide, plan, storage);
  plan_second(second, wide, plan, storage);
}

RowsDescription::RowsDescription(const Json &spec) {
  plan.n_types = count(spec, "n_types");
  plan.l_max = count(spec, "l_max");
  if (plan.l_max > MAX_L) fail("harmonics of a high degree");
  plan.n_harmonics = (plan.l_max + 1) * (plan.l_max + 1) - 1;
  plan.n_rows = padded(plan.n_harmonics);
  plan.radial = read_radial(spec, "radial");
  plan.angular = read_radial(spec, "angular");
  std::vector<double> norms;
  for (int l = 0; l <= plan.l_max; l++)
    for (int m = 0; m <= plan.l_max; m++) norms.push_back(m <= l ? norm(l, m) : 0.0);
  plan.norms = storage.keep<double>(norms);
  const int n_invariants = count(spec, "n_invariants");
  plan_derivatives(read_terms(spec, plan.n_harmonics, n_invariants), n_invariants, plan, storage);
  plan.n_features = plan.radial.n_channels + n_invariants * plan.angular.n_channels;
  read_networks(spec);
}

Radial RowsDescription::read_radial(const Json &spec, const std::string &which) {
  const Json &json = spec.at(which);
  const double cutoff = json.at("cutoff").number();
  if (!(cutoff > 0.0 && cutoff < 1.0e3)) fail("the " + which + " cutoff");
  const CutoffKind kind = static_cast<CutoffKind>(position(CUTOFFS, spec.at("cutoff_kind").string()));
  const int n = count(json, "basis");
  const std::vector<double> combinations = json.at("combinations").numbers();
  if (combinations.size() != static_cast<size_t>(n) * n) fail("the " + which + " combinations");
  const int channels = count(json, "channels");
  n_parameters += static_cast<int64_t>(plan.n_types) * plan.n_types * channels * n;
  return {{n, kind, cutoff, 1.0}, storage.keep<double>(combinations), channels};
}

void RowsDescription::read_networks(const Json &spec) {
  widest = padded(plan.n_features);
  if (!spec.find("networks")) return;
  for (const Json &json : spec.at("networks").array()) {
    const std::vector<double> sizes = json.at("sizes").numbers();
    const std::vector<std::string> activations = json.at("activations").strings();
    if (sizes.size() != activations.size() + 1 || sizes.size() < 2 || sizes[0] != plan.n_features ||
        sizes.back() != 1)
      fail("a network that does not fit");
    std::vector<Layer> layers;
    int nodes = 0;
    for (size_t l = 0; l < activations.size(); l++) {
      if (!(sizes[l + 1] >= 1 && sizes[l + 1] < MOST)) fail("a layer of that size");
      const Layer layer{static_cast<int>(sizes[l]), static_cast<int>(sizes[l + 1]),
                        static_cast<Activation>(position(ACTIVATION_NAMES, activations[l]))};
      layers.push_back(layer);
      nodes += padded(layer.n_out);
      widest = std::max(widest, padded(layer.n_out));
      n_parameters += static_cast<int64_t>(layer.n_out) * (layer.n_in + 1);
    }
    most_nodes = std::max(most_nodes, nodes);
    networks.push_back(layers);
  }
  if (networks.size() != static_cast<size_t>(plan.n_types)) fail("a network for each element");
}

}  // namespace cluster
}  // namespace nnpkit
