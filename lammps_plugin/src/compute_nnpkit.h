// compute nnpkit: disagreement, extrapolation, member energies and features, global and per atom. See
// docs/pair_nnpkit.md.

#ifndef LMP_COMPUTE_NNPKIT_H
#define LMP_COMPUTE_NNPKIT_H

#include "compute.h"

#include "observation.h"

#include <string>
#include <vector>

namespace LAMMPS_NS {

class ComputeNNPKit : public Compute {
 public:
  ComputeNNPKit(class LAMMPS *, int, char **);
  ~ComputeNNPKit() override;
  void init() override;
  void compute_vector() override;
  void compute_peratom() override;
  double memory_usage() override;

 private:
  enum PerAtom { SPREAD, CHARGES, OUTSIDE, FEATURES };

  std::vector<nnpkit::Observable> quantities;  // of the vector; OBSERVABLES: the energies of all members
  std::vector<PerAtom> columns;                // per atom; FEATURES: as many as the model has
  int instance;
  class PairNNPKit *pair;
  int n_members, n_features;  // that the sizes are made for; 0: not asked for
  int n_max;

  void count_members_and_features();
  void make_room();
  const nnpkit::Observation &evaluated();
};

// Per atom zeros; a fix nnpkit/watch is told that a dump has asked for them.
class ComputeNNPKitAccepted : public Compute {
 public:
  ComputeNNPKitAccepted(class LAMMPS *, int, char **);
  ~ComputeNNPKitAccepted() override;
  void init() override {}
  void compute_peratom() override;

 private:
  std::string watch;
  int n_max;
};

}  // namespace LAMMPS_NS

#endif
