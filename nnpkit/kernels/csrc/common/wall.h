// The screened nuclear repulsion that models may have as a wall (nnpkit.models.short_range.ZblRepulsion or
// nnpkit.models.tabulated_zbl.TabulatedZbl).

#ifndef NNPKIT_WALL_H
#define NNPKIT_WALL_H

#include "json.h"
#include "kernel.h"

#include <string>
#include <vector>

namespace nnpkit {

// The tabulated repulsion of one pair of elements as polynomials of fifth degree, which agree with it to
// rounding at the distances where it is evaluated often.
class WallCurve {
 public:
  // row, charges and powers as of tabulated_repulsion
  WallCurve(const double *row, double charges, double powers);
  bool holds(double r) const { return r >= begin && r < end; }
  double energy(double r, double &slope) const;

 private:
  // up to and from the distance where the switch begins: its second derivative jumps there
  struct Part {
    double begin = 0.0, inverse_step = 0.0;
    std::vector<double> coefficients;  // (steps, 6)
  };
  static Part part(const double *row, double charges, double powers, double from, double to, bool switching);

  double begin, middle, end;
  Part inside, switched;
};

class Wall {
 public:
  // From the text of metadata.json; a model without a wall has one that does nothing. Throws
  // std::runtime_error if it names elements that the model does not have.
  explicit Wall(const std::string &metadata);

  bool empty() const { return longest == 0.0; }
  double cutoff() const { return longest; }  // angstrom
  const std::vector<double> &outer_distances() const { return outer; }
  const std::vector<double> &tables() const { return table; }
  const std::vector<double> &charges() const { return charge; }
  const std::vector<double> &charge_powers() const { return power; }

  double outer_distance(int64_t a, int64_t b) const { return outer[a * n_types + b]; }
  double outer_square(int64_t a, int64_t b) const { return outer_distance(a, b) * outer_distance(a, b); }
  // The repulsion of a pair of these types at a distance below the outer one, and its derivative.
  double energy(int64_t a, int64_t b, double r, double &slope) const;
  bool operator==(const Wall &other) const {
    return charge == other.charge && outer == other.outer && table == other.table;
  }

 private:
  void set_pair(int a, int b, const std::string &pair, const Json &value);
  void set_curves();

  static constexpr int TABLE_ROW = 10;

  int n_types = 0;
  size_t n_tabulated = 0;
  double longest = 0.0;
  std::vector<double> outer;          // (n_types, n_types) angstrom, 0: no wall
  std::vector<double> table;          // (n_types, n_types, 10), or empty: the screening of all pairs
  std::vector<double> charge, power;  // Z, Z^0.23
  std::vector<WallCurve> curves;      // of pairs with a table
  std::vector<int> curve_of;          // (n_types, n_types) which of these, -1: none
};

// Those of all members of a committee; equal ones are evaluated once.
class Walls {
 public:
  void push_back(const std::string &metadata);
  // Adds energies and gradients to the row of each member, or to the one row of their mean.
  void add(const Edges &edges, bool mean_only, const Results &results) const;
  // Those of one atom, best while its edges are at hand.
  void add_atom(int64_t i, const Edges &edges, bool mean_only, const Results &results) const;

 private:
  struct Group {
    Wall wall;
    std::vector<int> members;
  };

  void add_group(const Group &group, int64_t i, const Edges &edges, bool mean_only,
                 const Results &results) const;

  std::vector<Group> groups;
  int n_members = 0;
};

}  // namespace nnpkit

#endif
