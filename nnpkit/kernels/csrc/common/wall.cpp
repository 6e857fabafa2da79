#include "wall.h"

#include "json.h"
#include "zbl.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace nnpkit {

namespace {

const char *const SYMBOLS[] = {
    "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",  "Cl",
    "Ar", "K",  "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se",
    "Br", "Kr", "Rb", "Sr", "Y",  "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb",
    "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er",
    "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At",
    "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No",
    "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};

double atomic_number(const std::string &symbol) {
  const auto found = std::find(std::begin(SYMBOLS), std::end(SYMBOLS), symbol);
  if (found == std::end(SYMBOLS)) throw std::runtime_error("'" + symbol + "' is no chemical element");
  return static_cast<double>(found - std::begin(SYMBOLS) + 1);
}

int type_of(const std::vector<std::string> &elements, const std::string &symbol) {
  const auto found = std::find(elements.begin(), elements.end(), symbol);
  if (found == elements.end()) throw std::runtime_error("a wall for '" + symbol + "', not in the model");
  return static_cast<int>(found - elements.begin());
}

}  // namespace

Wall::Wall(const std::string &text) {
  const Json metadata = Json::parse(text);
  const Json *const pairs = metadata.at("spec").find("wall");
  if (!pairs || pairs->object().empty()) return;
  const std::vector<std::string> elements = metadata.at("elements").strings();
  n_types = static_cast<int>(elements.size());
  outer.assign(static_cast<size_t>(n_types) * n_types, 0.0);
  for (const std::string &element : elements) {
    charge.push_back(atomic_number(element));
    power.push_back(std::pow(charge.back(), 0.23));
  }
  for (const auto &[pair, distance] : pairs->object()) {
    const size_t dash = pair.find('-');
    if (dash == std::string::npos) throw std::runtime_error("a wall for '" + pair + "', which is no pair");
    const int a = type_of(elements, pair.substr(0, dash)), b = type_of(elements, pair.substr(dash + 1));
    set_pair(a, b, pair, distance);
  }
  if (!table.empty() && n_tabulated != pairs->object().size())
    throw std::runtime_error("the walls of some pairs are distances and those of others tables");
  if (!table.empty()) set_curves();
}

void Wall::set_curves() {
  curve_of.assign(static_cast<size_t>(n_types) * n_types, -1);
  for (int a = 0; a < n_types; a++)
    for (int b = a; b < n_types; b++) {
      const double *const row = table.data() + (a * n_types + b) * TABLE_ROW;
      if (!(row[1] > 0.0 && row[0] < row[1])) continue;
      curve_of[a * n_types + b] = curve_of[b * n_types + a] = static_cast<int>(curves.size());
      curves.emplace_back(row, charge[a] * charge[b], power[a] + power[b]);
    }
}

WallCurve::WallCurve(const double *row, double charges, double powers) : end(row[1]) {
  begin = std::max(0.5 * row[0], 0.25 * row[1]);
  middle = std::max(begin, row[0]);
  if (begin < middle) inside = part(row, charges, powers, begin, middle, false);
  switched = part(row, charges, powers, middle, end, true);
}

WallCurve::Part WallCurve::part(const double *row, double charges, double powers, double from, double to,
                                bool switching) {
  constexpr int STEPS = 256;  // errors of fifth degree are below 1e-11 then
  const double step = (to - from) / STEPS;
  Part part{from, 1.0 / step, std::vector<double>(6 * STEPS)};
  double left[3] = {}, right[3] = {};
  for (int k = 0; k <= STEPS; k++) {
    double r = k == STEPS ? to : from + k * step;
    if (k == 0 && switching) r = std::nextafter(r, to);  // the second derivative of this side
    std::copy(right, right + 3, left);
    right[0] = tabulated_repulsion(row, charges, powers, r, right[1], right[2]);
    right[1] *= step;
    right[2] *= 0.5 * step * step;
    if (k == 0) continue;
    double *const c = part.coefficients.data() + 6 * static_cast<std::ptrdiff_t>(k - 1);
    std::copy(left, left + 3, c);
    // what is missing to value, slope and half the curvature at the other end
    const double value = right[0] - left[0] - left[1] - left[2], slope = right[1] - left[1] - 2.0 * left[2],
                 half = right[2] - left[2];
    c[3] = 10.0 * value - 4.0 * slope + half;
    c[4] = -15.0 * value + 7.0 * slope - 2.0 * half;
    c[5] = 6.0 * value - 3.0 * slope + half;
  }
  return part;
}

double WallCurve::energy(double r, double &slope) const {
  const Part &part = r < middle ? inside : switched;
  const double at = (r - part.begin) * part.inverse_step;
  const int last = static_cast<int>(part.coefficients.size()) / 6 - 1;
  const int k = std::min(static_cast<int>(at), last);  // rounding may reach beyond
  const double u = at - k, *const c = part.coefficients.data() + 6 * static_cast<std::ptrdiff_t>(k);
  slope = (((5.0 * c[5] * u + 4.0 * c[4]) * u + 3.0 * c[3]) * u + 2.0 * c[2]) * u + c[1];
  slope *= part.inverse_step;
  return ((((c[5] * u + c[4]) * u + c[3]) * u + c[2]) * u + c[1]) * u + c[0];
}

void Wall::set_pair(int a, int b, const std::string &pair, const Json &value) {
  double r;
  if (value.is_array()) {
    const std::vector<double> row = value.numbers();
    if (row.size() != TABLE_ROW) throw std::runtime_error("the wall of " + pair + " has no ten numbers");
    table.resize(static_cast<size_t>(n_types) * n_types * TABLE_ROW, 0.0);
    for (const int to : {a * n_types + b, b * n_types + a})
      std::copy(row.begin(), row.end(), table.begin() + static_cast<std::ptrdiff_t>(to) * TABLE_ROW);
    r = row[1];
    n_tabulated++;
  } else {
    r = value.number();
  }
  if (!(r > 0.0)) throw std::runtime_error("the wall of " + pair + " ends nowhere");
  outer[a * n_types + b] = outer[b * n_types + a] = r;
  longest = std::max(longest, r);
}

double Wall::energy(int64_t a, int64_t b, double r, double &slope) const {
  const double charges = charge[a] * charge[b], powers = power[a] + power[b];
  if (table.empty()) return zbl_repulsion(charges, powers, outer_distance(a, b), r, slope);
  const int curve = curve_of[a * n_types + b];
  if (curve >= 0 && curves[curve].holds(r)) return curves[curve].energy(r, slope);
  double curvature;
  return tabulated_repulsion(table.data() + (a * n_types + b) * TABLE_ROW, charges, powers, r, slope,
                             curvature);
}

void Walls::push_back(const std::string &metadata) {
  Wall wall(metadata);
  const int member = n_members++;
  for (Group &group : groups)
    if (group.wall == wall) {
      group.members.push_back(member);
      return;
    }
  if (!wall.empty()) groups.push_back({std::move(wall), {member}});
}

void Walls::add(const Edges &edges, bool mean_only, const Results &results) const {
  for (int64_t i = 0; i < edges.n_atoms; i++) add_atom(i, edges, mean_only, results);
}

void Walls::add_atom(int64_t i, const Edges &edges, bool mean_only, const Results &results) const {
  for (const Group &group : groups) add_group(group, i, edges, mean_only, results);
}

void Walls::add_group(const Group &group, int64_t i, const Edges &edges, bool mean_only,
                      const Results &results) const {
  static const std::vector<int> FIRST(1, 0);
  static thread_local std::vector<int64_t> close;
  const Wall &wall = group.wall;
  const int n_rows = mean_only ? 1 : n_members;
  const double share = mean_only ? static_cast<double>(group.members.size()) / n_members : 1.0;
  const std::vector<int> &rows = mean_only ? FIRST : group.members;
  const int64_t a = edges.types[i], first = edges.offsets[i], last = edges.offsets[i + 1];
  if (a < 0) return;
  if (static_cast<int64_t>(close.size()) < last - first) close.resize(last - first);
  int64_t n = 0;  // found without branches: which pairs are close cannot be foretold
  for (int64_t e = first; e < last; e++) {
    const double *const v = edges.edge_vec + 3 * e;
    const double r2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
    close[n] = e;
    n += r2 < wall.outer_square(a, edges.neighbor_type[e]);
  }
  double sum = 0.0;
  for (int64_t k = 0; k < n; k++) {
    const int64_t e = close[k];
    const double *const v = edges.edge_vec + 3 * e;
    const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
    double slope;
    sum += wall.energy(a, edges.neighbor_type[e], r, slope);
    const double along = share * slope / r;
    double *const to = results.gradient + 3 * (e - edges.offsets[0]) * n_rows;
    for (const int row : rows)
      for (int c = 0; c < 3; c++) to[c * n_rows + row] += along * v[c];
  }
  for (const int row : rows) results.atomic_energy[i * n_rows + row] += share * sum;
}

}  // namespace nnpkit
