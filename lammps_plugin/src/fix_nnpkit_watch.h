// fix nnpkit/watch: judges the steps of a run, keeps frames and ends runs. See docs/pair_nnpkit.md.

#ifndef LMP_FIX_NNPKIT_WATCH_H
#define LMP_FIX_NNPKIT_WATCH_H

#include "fix.h"

#include "extrapolation.h"
#include "watch.h"
#include "watch_frames.h"

#include <deque>
#include <string>
#include <vector>

namespace LAMMPS_NS {

// A step is what the integrator or the minimiser has accepted, or a frame of a rerun. Forces are evaluated
// for trial moves and displacements as well, by fixes and line searches: those are not seen here.
//   dynamics, rerun   setup() and end_of_step()
//   minimisation      min_setup() and, because no hook of a fix tells accepted iterations, the output of
//   LAMMPS: a
//                     dump to nowhere asks compute NNPKIT/ACCEPTED, which calls accepted()
// The observations belong to the evaluation after which LAMMPS summed up the forces of a step (pre_reverse).
class FixNNPKitWatch : public Fix {
 public:
  FixNNPKitWatch(class LAMMPS *, int, char **);
  ~FixNNPKitWatch() override;

  int setmask() override;
  void init() override;
  void setup(int) override { judge(); }
  void min_setup(int) override { judge(); }
  void setup_pre_force(int) override;
  void pre_force(int) override;
  void min_pre_force(int) override { pre_force(0); }
  void setup_pre_reverse(int, int) override { pre_reverse(0, 0); }
  void pre_reverse(int, int) override;
  void min_pre_reverse(int, int) override { pre_reverse(0, 0); }
  void end_of_step() override;
  void accepted() { end_of_step(); }
  void post_run() override;
  double compute_vector(int) override;
  double memory_usage() override;

 private:
  nnpkit::Watch watch;
  int instance;                      // of pair style nnpkit in pair style hybrid; 0: there is one
  class PairNNPKit *pair;            // null before init
  bool of_pair;                      // made by the pair style
  std::string accepted_id;           // of the compute and the dump that tell of accepted iterations
  std::vector<std::string> species;  // of each type, from 1

  nnpkit::Extrapolation extrapolation;
  int64_t command;     // of the pair style, in which this began to count
  bigint judged_step;  // -1: none in this command
  int64_t judged_evaluation;
  bool rerun;
  bigint ended_step;  // -1: the run was not ended
  std::string reason;
  bigint n_beyond, first_beyond;  // frames of a rerun beyond a bound

  // The last frames before this one.
  std::deque<nnpkit::Frame> context;
  bigint n_context;  // frames of context written in this command

  void check_what_is_watched();
  void name_species();
  std::string of_partition(const std::string &name);
  void judge();
  double not_judged_yet() const;
  void end(const std::string &why);
  void log_extrapolations(bool whole_run);

  // fix_nnpkit_watch_files.cpp
  nnpkit::Frame frame_of_step() const;
  void write_frame(const nnpkit::Frame &frame, const std::string &reason, bool of_context);
  void collect_frame(const nnpkit::Bounds &reached);
  void keep_context(bool collected);
  void write_context(bigint end, const std::string &why);
  void write_end();
  std::string selection() const;
  std::string bounds_of_forces() const;
};

}  // namespace LAMMPS_NS

#endif
