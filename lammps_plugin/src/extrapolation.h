// Features outside the range of the training data: counted by element and function over the steps of a run.

#ifndef NNPKIT_EXTRAPOLATION_H
#define NNPKIT_EXTRAPOLATION_H

#include "model.h"

#include <mpi.h>
#include <cstdint>
#include <string>
#include <vector>

namespace nnpkit {

class Extrapolation {
 public:
  // A run begins: everything counts from zero.
  void begin_run(const ModelInfo &info);
  // What this rank has counted in a step, (elements, n_functions), and the total over all ranks.
  void add(const std::vector<int64_t> &by_function, int64_t total);

  int64_t of_step() const { return step_total; }  // over all ranks
  int64_t of_run() const { return run_total; }

  // "H function 5: 12, O function 11: 1, ..." of the step or of the run, over all ranks; on the first rank.
  std::string describe(bool whole_run, MPI_Comm world) const;

 private:
  std::vector<std::string> elements;
  int n_functions = 0;
  std::vector<int64_t> step_counts, run_counts;  // of this rank
  int64_t step_total = 0, run_total = 0;
};

}  // namespace nnpkit

#endif
