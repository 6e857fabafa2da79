// The walls of all members of a committee on the processor.

#ifndef NNPKIT_WALLS_H
#define NNPKIT_WALLS_H

#include "wall.h"

#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

// Equal ones are evaluated once.
class Walls {
 public:
  explicit Walls(Isa isa);
  ~Walls();
  void push_back(const std::string &metadata);
  // Adds energies and gradients to the row of each member, or to the one row of their mean.
  void add(const Edges &edges, bool mean_only, const Results &results);
  // Those of one atom, best while its edges are at hand.
  void add_atom(int64_t i, const Edges &edges, bool mean_only, const Results &results);

 private:
  struct Group {
    Wall wall;
    std::vector<int> members;
  };

  void add_group(const Group &group, int64_t i, const Edges &edges, bool mean_only, const Results &results);

  class ClosePairs;
  const std::unique_ptr<ClosePairs> close;  // of the atom that is looked at
  std::vector<Group> groups;
  int n_members = 0;
};

}  // namespace nnpkit

#endif
