// Atoms that neigh_modify exclude has taken out of the system, as fix gcmc and fix widom do with a molecule.

#ifndef NNPKIT_EXCLUSIONS_H
#define NNPKIT_EXCLUSIONS_H

#include "pointers.h"

#include <string>
#include <vector>

namespace nnpkit {

// An atom whose pairs with all atoms of the model are excluded is gone: it is neither centre nor neighbour.
// What excludes some pairs of an atom and leaves others has no meaning for a many-body model.
class Exclusions : protected LAMMPS_NS::Pointers {
 public:
  Exclusions(LAMMPS_NS::LAMMPS *lmp) : Pointers(lmp) {}

  // The types of all atoms as the model has to see them now: 0, which no model has, for those that are gone.
  // element: model index per type, negative for NULL. `problem` is filled, the same on all ranks, if pairs of
  // the model are excluded in part.
  const int *types(const std::vector<int> &element, std::string &problem);

 private:
  std::vector<int> seen;

  std::string by_group(const std::vector<int> &element);
  std::string by_type(const std::vector<int> &element) const;
  std::string by_molecule(const std::vector<int> &element) const;
  bool anywhere(const std::vector<int> &element, int bit) const;
};

}  // namespace nnpkit

#endif
