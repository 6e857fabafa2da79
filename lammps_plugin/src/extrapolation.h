// Features outside the range of the training data: counted by element and function, over all ranks.

#ifndef NNPKIT_EXTRAPOLATION_H
#define NNPKIT_EXTRAPOLATION_H

#include "model.h"

#include <mpi.h>
#include <cstdint>
#include <string>
#include <vector>

namespace nnpkit {

// The keywords of n2p2's pair style, with thresholds that are global.
struct ExtrapolationSettings {
  bool show = false;             // showew: a line for every step with extrapolations
  int64_t summary = 0;           // showewsum: steps between summaries
  int64_t most = 0;              // maxew: the run ends after more; 0: never
  bool reset_each_step = false;  // resetew: maxew counts from zero at every step
};

class Extrapolation {
 public:
  // A run begins: everything counts from zero.
  void begin_run(const ModelInfo &info);
  bool known() const { return n_functions > 0; }

  // Before and after the atoms of a step; where the model adds to, (elements, n_functions) of this rank.
  void begin_step(bool reset);
  std::vector<int64_t> &counts() { return step_counts; }
  double of_rank() const;        // in this step
  void end_step(int64_t total);  // over all ranks

  int64_t of_step() const { return step_total; }  // over all ranks
  int64_t of_run() const { return run_total; }
  int64_t since_reset() const { return reset_total; }

  // "H function 5: 12, O function 11: 1, ..." of the step or of the run, over all ranks; on the first rank.
  std::string describe(bool whole_run, MPI_Comm world) const;

 private:
  std::vector<std::string> elements;
  int n_functions = 0;
  std::vector<int64_t> step_counts, run_counts;  // of this rank
  int64_t step_total = 0, run_total = 0, reset_total = 0;
};

}  // namespace nnpkit

#endif
