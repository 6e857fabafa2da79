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
  if (!table.empty())
    return tabulated_repulsion(table.data() + (a * n_types + b) * TABLE_ROW, charge[a] * charge[b],
                               power[a] + power[b], r, slope);
  return zbl_repulsion(charge[a] * charge[b], power[a] + power[b], outer_distance(a, b), r, slope);
}

void Walls::push_back(const std::string &metadata) {
  Wall wall(metadata);
  const int member = n_members++;
  longest = std::max(longest, wall.cutoff());
  for (Group &group : groups)
    if (group.wall == wall) {
      group.members.push_back(member);
      return;
    }
  if (!wall.empty()) groups.push_back({std::move(wall), {member}});
}

void Walls::add(const Edges &edges, bool mean_only, const Results &results) const {
  if (groups.empty()) return;
  const int64_t begin = edges.offsets[0];
  for (int64_t i = 0; i < edges.n_atoms; i++)
    for (int64_t e = edges.offsets[i]; e < edges.offsets[i + 1]; e++) {
      const double *const v = edges.edge_vec + 3 * e;
      const double r2 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
      if (r2 < longest * longest) add_pair(edges, i, e - begin, v, std::sqrt(r2), mean_only, results);
    }
}

void Walls::add_pair(const Edges &edges, int64_t i, int64_t e, const double *v, double r, bool mean_only,
                     const Results &results) const {
  const int64_t a = edges.types[i], b = edges.neighbor_type[edges.offsets[0] + e];
  const int n_rows = mean_only ? 1 : n_members;
  const auto add_row = [&](int row, double energy, double slope) {
    results.atomic_energy[i * n_rows + row] += energy;
    for (int c = 0; c < 3; c++) results.gradient[(3 * e + c) * n_rows + row] += slope / r * v[c];
  };
  for (const Group &group : groups) {
    if (!(r < group.wall.outer_distance(a, b))) continue;
    double slope;
    const double energy = group.wall.energy(a, b, r, slope);
    if (mean_only) {
      const double share = static_cast<double>(group.members.size()) / n_members;
      add_row(0, share * energy, share * slope);
    } else {
      for (const int member : group.members) add_row(member, energy, slope);
    }
  }
}

}  // namespace nnpkit
