// What a run is watched for: when a frame is worth keeping, and when the run has to end.

#ifndef NNPKIT_WATCH_H
#define NNPKIT_WATCH_H

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace nnpkit {

// Elements of the vector that compute pair shows, in LAMMPS' units; the first QUANTITIES can be watched.
enum Observable {
  FORCE_STD_MAX,
  FORCE_STD_MEAN,
  FORCE_STD_PERCENTILE,
  ENERGY_STD,
  EXTRAPOLATIONS,
  EXTRAPOLATIONS_OF_RUN,
  CLOSEST,
  LARGEST_FORCE,
  FRAMES,
  ENDED,
  OBSERVABLES
};
constexpr int QUANTITIES = EXTRAPOLATIONS + 1;
extern const std::array<const char *, OBSERVABLES> OBSERVABLE_NAMES;
using Observed = std::array<double, OBSERVABLES>;

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
  bool caps() const { return min_distance > 0.0 || max_force < std::numeric_limits<double>::infinity(); }
};

class Watch {
 public:
  WatchSettings settings;

  void begin_run();
  // Why the run has to end at this step; empty if it may go on. Once there is a reason it stays.
  const std::string &judge(const Observed &now, int64_t extrapolations_since_reset, int64_t most);
  const std::string &ended() const { return reason; }
  // The first lower bound that this step has reached, "force_std_max 0.21"; empty if the frame is not wanted.
  std::string wanted(const Observed &now, int64_t step) const;
  void collected(int64_t step);
  int64_t n_frames() const { return frames_of_run; }

 private:
  std::string reason;
  int64_t frames_of_run = 0;
  int64_t last_frame = std::numeric_limits<int64_t>::min();  // none yet
};

}  // namespace nnpkit

#endif
