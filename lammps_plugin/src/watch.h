// What a run is watched for: when a frame is worth keeping, and when the run has to end.

#ifndef NNPKIT_WATCH_H
#define NNPKIT_WATCH_H

#include "observation.h"

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace nnpkit {

struct Bounds {
  Observable quantity;
  double lower, upper;
};

struct WatchSettings {
  std::vector<Bounds> bounds;
  double min_distance = 0.0;
  double max_force = std::numeric_limits<double>::infinity();
  std::string frames = "watch.extxyz";    // empty: none
  std::string restart = "watch.restart";  // empty: none
  int64_t interval = 100, limit = 100;
  std::vector<std::string> species;  // of each atom type in the frames; empty: from the model and the masses
  int context = 0;                   // frames before the end of a run that are kept in memory for it
  int64_t context_interval = 1;      // least number of steps between two of them
  // The keywords of n2p2's pair style, with thresholds that are global.
  bool show = false;             // showew: a line for every step with extrapolations
  int64_t summary = 0;           // showewsum: steps between summaries
  int64_t most = 0;              // maxew: the run ends after more; 0: never
  bool reset_each_step = false;  // resetew: maxew counts from zero at every step

  bool caps_force() const { return max_force < std::numeric_limits<double>::infinity(); }
  bool collects() const { return !bounds.empty() && !frames.empty() && limit > 0; }
  bool writes_frames() const { return collects() || context > 0; }
};

class Watch {
 public:
  WatchSettings settings;

  // A command begins: it counts its own frames, and a rerun shares no time axis with what was before.
  void begin(bool rerun);
  // Why a run must not go on from here; empty if it may. `extrapolations` are those that maxew counts.
  std::string judge(const Observed &now, int64_t extrapolations) const;
  // The first lower bound that this step has reached; empty if the frame is not wanted.
  const Bounds *wanted(const Observed &now, int64_t step) const;
  void collected(int64_t step);
  int64_t n_frames() const { return frames_of_run; }

 private:
  int64_t frames_of_run = 0;
  int64_t last_frame = std::numeric_limits<int64_t>::min();  // none yet
};

}  // namespace nnpkit

#endif
