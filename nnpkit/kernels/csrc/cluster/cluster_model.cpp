#include "cluster_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>

namespace nnpkit {
namespace cluster {

namespace {

constexpr const char *CUTOFFS[] = {"cosine", "poly2", "poly3"};
constexpr int MOST_FUNCTIONS = 1 << 10;  // anything above is a damaged file

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("model: " + what);
}

int count(const Json &json, const std::string &key) {
  const long n = json.at(key).integer();
  if (n < 1 || n > MOST_FUNCTIONS) fail(key + " of " + std::to_string(n));
  return static_cast<int>(n);
}

// Angstrom: hardly any neighbours are nearer, as a repulsion begins here; 0: unknown.
double nearest_neighbors(const Json &spec) {
  double nearest = std::numeric_limits<double>::infinity();
  const Json *const wall = spec.find("wall");
  if (!wall || wall->object().empty()) return 0.0;
  for (const auto &[pair, value] : wall->object())
    nearest = std::min(nearest, value.is_array() ? value.numbers().at(0) : 0.5 * value.number());
  return 0.9 * std::max(nearest, 0.0);
}

// (functions, functions): row k has the coefficients of f_k in functions of a stretched argument, from its
// values where Chebyshev polynomials are orthogonal.
std::vector<long double> stretched_functions(int n, double stretch) {
  std::vector<long double> rows(static_cast<size_t>(n) * n);
  for (int node = 0; node < n; node++) {
    const long double angle = std::acos(-1.0L) * (node + 0.5L) / n,
                      x = (std::cos(angle) + 1.0L) / stretch - 1.0L;
    long double last = 1.0L, value = x;
    for (int k = 0; k < n; k++) {
      for (int j = 0; j < n; j++)
        rows[k * n + j] += (last + 1.0L) * std::cos(j * angle) / n * (j ? 2.0L : 0.5L);
      const long double next = 2.0L * x * value - last;
      last = value;
      value = next;
    }
  }
  for (int k = 0; k < n; k++)  // of polynomials: now of half of polynomial and one
    for (int j = 1; j < n; j++) rows[k * n] -= 0.5L * rows[k * n + j];
  return rows;
}

// "radial" or "angular"
Channels read_channels(const KernelInput &input, const Json &json, const std::string &which, int n_types,
                       double nearest) {
  Channels channels;
  channels.cutoff = json.at(which + "_cutoff").number();
  if (!(channels.cutoff > 0.0 && channels.cutoff < 1.0e3)) fail("the " + which + " cutoff");
  const int n = channels.n_channels = count(json, which + "_channels");
  const int functions = channels.n_functions = count(json, which + "_basis");
  const std::string name = "descriptor." + which;
  const auto &weights = acsf::tensor_of(input, name + "_weights", {n_types, n_types, n, functions}).values;
  const auto &rows = acsf::tensor_of(input, name + "_combinations", {functions, functions}).values;
  const double near = std::min(nearest > 0.0 ? nearest / channels.cutoff : 0.25, 0.45);
  if (functions <= 32)
    channels.stretch = 1.0 / ((1.0 - near) * (1.0 - near));  // more grow too fast beyond it
  const std::vector<long double> stretched = stretched_functions(functions, channels.stretch);
  channels.coefficients.assign(weights.size(), 0.0);
  std::vector<long double> sums(functions), mixed(functions);
  for (size_t first = 0; first < weights.size(); first += functions) {
    sums.assign(functions, 0.0L);
    mixed.assign(functions, 0.0L);
    for (int q = 0; q < functions; q++)
      for (int k = 0; k < functions; k++)
        sums[k] += static_cast<long double>(weights[first + q]) * rows[q * functions + k];
    for (int k = 0; k < functions; k++)
      for (int j = 0; j < functions; j++) mixed[j] += sums[k] * stretched[k * functions + j];
    std::copy(mixed.begin(), mixed.end(), channels.coefficients.begin() + static_cast<std::ptrdiff_t>(first));
  }
  return channels;
}

// What a harmonic of the kernel has to be multiplied with to be orthonormal.
double norm(int l, int m) {
  double square = (2.0 * l + 1.0) / (4.0 * M_PI) * (m == 0 ? 1.0 : 2.0);
  for (int n = l - m + 1; n <= l + m; n++) square /= n;
  double leading = 1.0;  // of the m-th derivative of Legendre's polynomial: (2 l)! / (2^l l! (l - m)!)
  for (int n = 1; n <= 2 * l; n++) leading *= n;
  for (int n = 1; n <= l; n++) leading /= 2.0 * n;
  for (int n = 1; n <= l - m; n++) leading /= n;
  return std::sqrt(square) * leading;
}

// l, m of a component: degree by degree from l = 1, in the order m = 0, cos 1, sin 1, ...; m < 0 for sines
void degree_and_order(int component, int &l, int &m) {
  l = static_cast<int>(std::sqrt(component + 1.0));
  const int within = component + 1 - l * l;
  m = (within + 1) / 2 * (within > 0 && within % 2 == 0 ? -1 : 1);
}

void read_terms(const KernelInput &input, Description &description) {
  constexpr int WIDTH = 2 + MAX_FACTORS;
  const auto found = input.tensors.find("descriptor.polynomials.terms");
  if (found == input.tensors.end()) fail("tensor descriptor.polynomials.terms is missing");
  const Array &table = found->second;
  if (table.shape.size() != 2 || table.shape[1] != WIDTH)
    fail("tensor descriptor.polynomials.terms has the wrong shape");
  std::vector<int> orders;
  for (size_t at = 0; at + WIDTH <= table.values.size(); at += WIDTH) {
    const double *const row = table.values.data() + at;
    Product term{static_cast<int>(row[0]), row[1], {}};
    if (!(row[0] >= 0 && row[0] < description.n_invariants)) fail("a term of no invariant");
    for (int f = 0; f < MAX_FACTORS && row[2 + f] >= 0; f++) {
      int l, m;
      if (!(row[2 + f] < n_harmonics(MAX_L) - 1)) fail("a term with a harmonic of a high degree");
      degree_and_order(static_cast<int>(row[2 + f]), l, m);
      description.l_max = std::max(description.l_max, l);
      term.coefficient *= norm(l, std::abs(m));
      term.factors.push_back(static_cast<int>(row[2 + f]));
    }
    if (term.factors.size() < 2) fail("a term with fewer than two factors");
    description.terms.push_back(term);
  }
  for (Product &term : description.terms) {
    for (int &factor : term.factors) {
      int l, m;
      degree_and_order(factor, l, m);
      factor = row_of_harmonic(description.l_max, l, m);
    }
    std::sort(term.factors.begin(), term.factors.end());
  }
  std::stable_sort(description.terms.begin(), description.terms.end(),
                   [](const Product &a, const Product &b) { return a.invariant < b.invariant; });
}

template <typename T>
Mixing<T> plan_mixing(const Channels &channels, int n_types, int type, acsf::Storage &storage) {
  const size_t n = channels.n_channels, k = channels.n_functions, wide_n = padded(channels.n_channels),
               wide_k = padded(channels.n_functions);
  std::vector<double> forward(n_types * k * wide_n), backward(n_types * n * wide_k);
  for (int t = 0; t < n_types; t++)
    for (size_t channel = 0; channel < n; channel++)
      for (size_t f = 0; f < k; f++)
        forward[(t * k + f) * wide_n + channel] = backward[(t * n + channel) * wide_k + f] =
            channels.coefficients[((static_cast<size_t>(type) * n_types + t) * n + channel) * k + f];
  return {channels.n_channels, storage.keep<T>(forward), storage.keep<T>(backward)};
}

// Derivatives of one invariant: by each row of its harmonics, monomials with equal factors added up.
template <typename T>
Invariant<T> plan_invariant(const Description &description, int p, acsf::Storage &storage) {
  std::map<int, std::map<std::vector<int>, double>> derivatives;
  int degree = 0;
  for (const Product &term : description.terms) {
    if (term.invariant != p) continue;
    const int n = static_cast<int>(term.factors.size());
    if (degree != 0 && n != degree) fail("an invariant with terms of several degrees");
    degree = n;
    for (int f = 0; f < n; f++) {
      std::vector<int> others = term.factors;
      others.erase(others.begin() + f);
      derivatives[term.factors[f]][others] += term.coefficient;
    }
  }
  if (degree == 0) fail("an invariant without terms");
  // rows with equally many monomials together, so that the processor can predict where their loops end
  std::vector<std::pair<size_t, int>> order;
  for (const auto &[row, sums] : derivatives) order.emplace_back(sums.size(), row);
  std::sort(order.begin(), order.end());
  const int wide = padded(description.angular.n_channels);
  std::vector<int> rows, first_monomial{0};
  std::vector<Monomial<T>> monomials;
  for (const auto &[n_monomials, row] : order) {
    rows.push_back(row * wide);
    for (const auto &[factors, coefficient] : derivatives[row]) {
      Monomial<T> monomial{static_cast<T>(coefficient), {}};
      for (size_t f = 0; f < factors.size(); f++) monomial.factor[f] = factors[f] * wide;
      monomials.push_back(monomial);
    }
    first_monomial.push_back(first_monomial.back() + static_cast<int>(n_monomials));
  }
  return {degree, static_cast<int>(rows.size()), storage.keep<int>(rows), storage.keep<int>(first_monomial),
          storage.keep_all(monomials)};
}

}  // namespace

bool Description::same_expansion(const Description &other) const {
  const auto same = [](const Channels &a, const Channels &b) {
    return a.cutoff == b.cutoff && a.stretch == b.stretch && a.n_functions == b.n_functions;
  };
  return n_types == other.n_types && l_max == other.l_max && cutoff_kind == other.cutoff_kind &&
         same(radial, other.radial) && same(angular, other.angular);
}

bool read_model(const KernelInput &input, Description &description, std::vector<acsf::ElementModel> &elements,
                std::string &reason) {
  const Json metadata = Json::parse(input.metadata);
  const Json &spec = metadata.at("spec"), &json = spec.at("descriptor");
  const std::vector<std::string> names = metadata.at("elements").strings();
  if (names.empty() || spec.at("elements").strings() != names) fail("elements that contradict each other");
  description.n_types = static_cast<int>(names.size());
  const std::string kind = json.at("cutoff_kind").string();
  const auto cutoff = std::find(std::begin(CUTOFFS), std::end(CUTOFFS), kind);
  if (cutoff == std::end(CUTOFFS)) {
    reason = "cutoff function " + kind;
    return false;
  }
  description.cutoff_kind = static_cast<CutoffKind>(cutoff - std::begin(CUTOFFS));
  const double nearest = nearest_neighbors(spec);
  description.radial = read_channels(input, json, "radial", description.n_types, nearest);
  description.angular = read_channels(input, json, "angular", description.n_types, nearest);
  description.n_invariants = static_cast<int>(json.at("invariants").array().size());
  read_terms(input, description);
  const std::vector<int> n_features(names.size(), description.n_features());
  return acsf::read_elements(input, metadata, n_features, elements, reason);
}

template <typename T>
Expansion<T> plan_expansion(const Description &description) {
  const auto basis = [&](const Channels &channels) -> Basis<T> {
    return {channels.n_functions, description.cutoff_kind, static_cast<T>(channels.cutoff),
            static_cast<T>(channels.stretch)};
  };
  return {description.n_types, basis(description.radial), basis(description.angular), description.l_max, 1};
}

template <typename T>
Center<T> plan_center(const Description &description, int type, acsf::Storage &storage) {
  const int wide = padded(description.angular.n_channels), n_rows = n_harmonics(description.l_max);
  std::vector<Invariant<T>> invariants;
  std::vector<std::vector<Share>> by_row(n_rows);
  int n_derivatives = 0;
  for (int p = 0; p < description.n_invariants; p++) {
    invariants.push_back(plan_invariant<T>(description, p, storage));
    for (int e = 0; e < invariants.back().n_rows; e++)
      by_row[invariants.back().rows[e] / wide].push_back({p * wide, n_derivatives++ * wide});
  }
  std::vector<Share> shares;
  std::vector<int> first_share{0};
  for (const std::vector<Share> &own : by_row) {
    shares.insert(shares.end(), own.begin(), own.end());
    first_share.push_back(static_cast<int>(shares.size()));
  }
  return {plan_mixing<T>(description.radial, description.n_types, type, storage),
          plan_mixing<T>(description.angular, description.n_types, type, storage),
          {description.n_invariants, n_derivatives, storage.keep_all(invariants),
           storage.keep<int>(first_share), storage.keep_all(shares)}};
}

template <typename T>
acsf::Network<T> plan_network(const acsf::ElementModel &element, acsf::Storage &storage) {
  acsf::ElementModel scaled = element;
  acsf::Dense &first = scaled.layers.front();
  const size_t n_in = first.n_in, n_out = first.n_out;
  std::vector<double> weights(first.weight, first.weight + n_out * n_in),
      biases(first.bias, first.bias + n_out);
  for (size_t o = 0; o < n_out; o++)
    for (size_t f = 0; f < static_cast<size_t>(element.n_features); f++) {
      double &weight = weights[o * n_in + f];
      biases[o] += weight * (element.lower - element.shift[f] * element.factor[f]);
      weight *= element.factor[f];
    }
  first.weight = weights.data();
  first.bias = biases.data();
  return acsf::plan_network<T>({&scaled}, storage);
}

template Expansion<double> plan_expansion(const Description &);
template Expansion<float> plan_expansion(const Description &);
template acsf::Network<double> plan_network(const acsf::ElementModel &, acsf::Storage &);
template acsf::Network<float> plan_network(const acsf::ElementModel &, acsf::Storage &);
template Center<double> plan_center(const Description &, int, acsf::Storage &);
template Center<float> plan_center(const Description &, int, acsf::Storage &);

}  // namespace cluster
}  // namespace nnpkit
