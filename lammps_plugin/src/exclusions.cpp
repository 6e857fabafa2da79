#include "exclusions.h"

#include "atom.h"
#include "fmt/format.h"
#include "group.h"
#include "neighbor.h"
#include "update.h"

using namespace LAMMPS_NS;

namespace nnpkit {

static constexpr int ALL = 1;  // bit of the group all

const int *Exclusions::types(const std::vector<int> &element, std::string &problem) {
  if (neighbor->nex_type + neighbor->nex_group + neighbor->nex_mol == 0) return atom->type;
  seen.assign(atom->type, atom->type + atom->nlocal + atom->nghost);
  problem = by_group(element);
  if (problem.empty()) problem = by_type(element);
  if (problem.empty()) problem = by_molecule(element);
  if (!problem.empty())
    problem += fmt::format(
        " at step {}: a model of many bodies has no meaning without some of the pairs. Only exclusions from "
        "all other atoms can be taken into account, as 'neigh_modify exclude group GONE all'",
        update->ntimestep);
  return seen.data();
}

// If one of the two groups holds all atoms of the model, those of the other have no pairs left: they are
// gone.
std::string Exclusions::by_group(const std::vector<int> &element) {
  const int n = neighbor->nex_group;
  const int *const mask = atom->mask;
  for (int pass = 0; pass < 2; pass++)  // who is gone first, because then the others may be all that is left
    for (int k = 0; k < n; k++) {
      const int bits[2] = {neighbor->ex1_bit[k], neighbor->ex2_bit[k]};
      bigint counts[3] = {0, 0, 0};
      for (int i = 0; i < atom->nlocal; i++) {
        if (element[seen[i]] < 0) continue;
        counts[0]++;
        for (int side = 0; side < 2; side++)
          if (mask[i] & bits[side]) counts[1 + side]++;
      }
      MPI_Allreduce(MPI_IN_PLACE, counts, 3, MPI_LMP_BIGINT, MPI_SUM, world);
      if ((counts[1] == 0 && bits[0] != ALL) || (counts[2] == 0 && bits[1] != ALL)) continue;
      const bool all[2] = {bits[0] == ALL || counts[1] == counts[0],
                           bits[1] == ALL || counts[2] == counts[0]};
      if (!all[0] && !all[1]) {
        if (pass == 0) continue;
        return fmt::format("neigh_modify exclude group {} {} removes pairs of the model",
                           group->names[neighbor->ex1_group[k]], group->names[neighbor->ex2_group[k]]);
      }
      const int gone = (all[0] ? bits[1] : 0) | (all[1] ? bits[0] : 0);
      for (int i = 0; i < atom->nlocal + atom->nghost; i++)
        if (mask[i] & gone) seen[i] = 0;
    }
  return "";
}

std::string Exclusions::by_type(const std::vector<int> &element) const {
  for (int k = 0; k < neighbor->nex_type; k++) {
    const int pair[2] = {neighbor->ex1_type[k], neighbor->ex2_type[k]};
    if (element[pair[0]] < 0 || element[pair[1]] < 0) continue;
    int there[2] = {0, 0};  // gone atoms have no type
    for (int i = 0; i < atom->nlocal; i++)
      for (int side = 0; side < 2; side++)
        if (seen[i] == pair[side]) there[side] = 1;
    MPI_Allreduce(MPI_IN_PLACE, there, 2, MPI_INT, MPI_MAX, world);
    if (there[0] && there[1])
      return fmt::format("neigh_modify exclude type {} {} removes pairs of the model", pair[0], pair[1]);
  }
  return "";
}

std::string Exclusions::by_molecule(const std::vector<int> &element) const {
  for (int k = 0; k < neighbor->nex_mol; k++)
    if (anywhere(element, neighbor->ex_mol_bit[k]))
      return fmt::format("neigh_modify exclude molecule/{} {} removes pairs of the model",
                         neighbor->ex_mol_intra[k] ? "intra" : "inter",
                         group->names[neighbor->ex_mol_group[k]]);
  return "";
}

bool Exclusions::anywhere(const std::vector<int> &element, int bit) const {
  int found = 0;
  for (int i = 0; i < atom->nlocal && !found; i++)
    if (element[seen[i]] >= 0 && (atom->mask[i] & bit)) found = 1;
  MPI_Allreduce(MPI_IN_PLACE, &found, 1, MPI_INT, MPI_MAX, world);
  return found;
}

}  // namespace nnpkit
