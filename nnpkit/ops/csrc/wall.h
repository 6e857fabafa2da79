// The screened nuclear repulsion that models may have as a wall (nnpkit.models.short_range.ZblRepulsion).

#ifndef NNPKIT_WALL_H
#define NNPKIT_WALL_H

#include "kernel.h"

#include <string>
#include <vector>

namespace nnpkit {

class Wall {
 public:
  // From the text of metadata.json; a model without a wall has one that does nothing. Throws
  // std::runtime_error if it names elements that the model does not have.
  explicit Wall(const std::string &metadata);

  bool empty() const { return longest == 0.0; }
  double cutoff() const { return longest; }  // angstrom
  const std::vector<double> &outer_distances() const { return outer; }
  const std::vector<double> &charges() const { return charge; }
  const std::vector<double> &charge_powers() const { return power; }

  // Adds `share` times its energies and gradients to row `row` of the results, which have `n_rows`.
  void add(const Edges &edges, int row, int n_rows, double share, const Results &results) const;

 private:
  int n_types = 0;
  double longest = 0.0;
  std::vector<double> outer;          // (n_types, n_types) angstrom, 0: no wall
  std::vector<double> charge, power;  // Z, Z^0.23
};

}  // namespace nnpkit

#endif
