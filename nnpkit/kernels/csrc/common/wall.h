// The screened nuclear repulsion that models may have as a wall (nnpkit.models.short_range.ZblRepulsion or
// nnpkit.models.tabulated_zbl.TabulatedZbl).

#ifndef NNPKIT_WALL_H
#define NNPKIT_WALL_H

#include "json.h"
#include "kernel.h"
#include "wall_curves.h"

#include <string>
#include <vector>

namespace nnpkit {

// The tabulated repulsion of one pair of elements as polynomials of fifth degree in the square of the
// distance, which needs no root; they agree with it to rounding at the distances where it is evaluated often,
// which are all from `begin` to the outer one.
struct WallCurve {
  double begin, inverse_step;  // angstrom^2, angstrom^-2
  int first;                   // of its coefficients in those of all curves
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
  int n_elements() const { return n_types; }
  // Squares of the outer distances of a type to all types.
  const double *outer_squares(int64_t a) const { return squares.data() + a * n_types; }
  // The repulsion of a pair of these types at a squared distance below that of the outer one, and its
  // derivative by this square.
  double energy(int64_t a, int64_t b, double square, double &slope) const;
  // Which of the curves are those of pairs of a type with all types, null: there are none.
  const int *curves_of(int64_t a) const { return curves.empty() ? nullptr : curve_of.data() + a * n_types; }
  const WallCurve *all_curves() const { return curves.data(); }
  const double *curve_coefficients() const { return coefficients.data(); }
  bool operator==(const Wall &other) const {
    return charge == other.charge && outer == other.outer && table == other.table;
  }

 private:
  void set_pair(int a, int b, const std::string &pair, const Json &value);
  void set_curves();
  WallCurve tabulate(const double *row, double charges, double powers);

  static constexpr int TABLE_ROW = 10;

  int n_types = 0;
  size_t n_tabulated = 0;
  double longest = 0.0;
  std::vector<double> outer;          // (n_types, n_types) angstrom, 0: no wall
  std::vector<double> squares;        // of these
  std::vector<double> table;          // (n_types, n_types, 10), or empty: the screening of all pairs
  std::vector<double> charge, power;  // Z, Z^0.23
  std::vector<WallCurve> curves;      // of pairs with a table; the first one begins nowhere
  std::vector<int> curve_of;          // (n_types, n_types) which of these
  std::vector<double> coefficients;   // of all curves
};

}  // namespace nnpkit

#endif
