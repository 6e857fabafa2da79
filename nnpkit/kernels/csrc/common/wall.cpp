#include "wall.h"

#include "json.h"
#include "zbl.h"

#include <algorithm>
#include <cmath>
#include <limits>
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
  for (const double distance : outer) squares.push_back(distance * distance);
  if (!table.empty() && n_tabulated != pairs->object().size())
    throw std::runtime_error("the walls of some pairs are distances and those of others tables");
  if (!table.empty()) set_curves();
}

void Wall::set_curves() {
  curve_of.assign(static_cast<size_t>(n_types) * n_types, 0);
  curves.push_back({std::numeric_limits<double>::infinity(), 0.0, 0});
  for (int a = 0; a < n_types; a++)
    for (int b = a; b < n_types; b++) {
      const double *const row = table.data() + (a * n_types + b) * TABLE_ROW;
      if (!(row[1] > 0.0 && row[0] < row[1])) continue;
      curve_of[a * n_types + b] = curve_of[b * n_types + a] = static_cast<int>(curves.size());
      curves.push_back(tabulate(row, charge[a] * charge[b], power[a] + power[b]));
    }
}

// Where the switch begins the second derivative jumps, so that one step ends and another begins there.
WallCurve Wall::tabulate(const double *row, double charges, double powers) {
  const double shortest = std::max(0.5 * row[0], 0.35 * row[1]), middle = std::max(shortest, row[0]);
  const double step = (row[1] * row[1] - middle * middle) / CURVE_STEPS;
  const double wanted = (middle * middle - shortest * shortest) / step;
  const int before = static_cast<int>(std::min<double>(wanted, CURVE_STEPS));
  const WallCurve curve{middle * middle - before * step, 1.0 / step, static_cast<int>(coefficients.size())};
  // value, slope and half the curvature by the place in a step
  const auto knot = [&](double r, double (&at)[3]) {
    double by_r, curvature;
    at[0] = tabulated_repulsion(row, charges, powers, r, by_r, curvature);
    at[1] = step * by_r / (2.0 * r);
    at[2] = 0.5 * step * step * (curvature - by_r / r) / (4.0 * r * r);
  };
  for (int k = -before; k < CURVE_STEPS; k++) {
    const double from = k == 0 ? std::nextafter(middle, row[1]) : std::sqrt(middle * middle + k * step),
                 to = k == -1                ? middle
                      : k == CURVE_STEPS - 1 ? row[1]
                                             : std::sqrt(middle * middle + (k + 1) * step);
    double left[3], right[3];
    knot(from, left);
    knot(to, right);
    // what is missing to those of the other end
    const double value = right[0] - left[0] - left[1] - left[2], slope = right[1] - left[1] - 2.0 * left[2],
                 half = right[2] - left[2];
    coefficients.insert(coefficients.end(), left, left + 3);
    coefficients.push_back(10.0 * value - 4.0 * slope + half);
    coefficients.push_back(-15.0 * value + 7.0 * slope - 2.0 * half);
    coefficients.push_back(6.0 * value - 3.0 * slope + half);
  }
  coefficients.insert(coefficients.end(), 6, 0.0);  // rounding may reach the end
  return curve;
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

double Wall::energy(int64_t a, int64_t b, double square, double &slope) const {
  const double charges = charge[a] * charge[b], powers = power[a] + power[b], r = std::sqrt(square);
  double curvature;
  const double energy = table.empty() ? zbl_repulsion(charges, powers, outer_distance(a, b), r, slope)
                                      : tabulated_repulsion(table.data() + (a * n_types + b) * TABLE_ROW,
                                                            charges, powers, r, slope, curvature);
  slope /= 2.0 * r;
  return energy;
}

}  // namespace nnpkit
