// compute nnpkit: disagreement and extrapolation, global and per atom. See docs/pair_nnpkit.md.

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
  std::vector<nnpkit::Observable> quantities;  // of the vector
  std::vector<bool> columns;                   // per atom: whether a column is force_std, else extrapolations
  int instance;
  class PairNNPKit *pair;
  int n_max;

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
