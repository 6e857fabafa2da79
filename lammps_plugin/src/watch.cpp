#include "watch.h"

#include <cstdio>

namespace nnpkit {

const std::array<const char *, OBSERVABLES> OBSERVABLE_NAMES = {
    "force_std_max",         "force_std_mean",    "force_std_percentile", "energy_std",     "extrapolations",
    "extrapolations_of_run", "shortest_distance", "largest_force",        "frames_written", "ended"};

namespace {

std::string number(double value) {
  char text[32];
  snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

}  // namespace

void Watch::begin_run() {
  reason.clear();
  frames_of_run = 0;
}

const std::string &Watch::judge(const Observed &now, int64_t extrapolations_since_reset, int64_t most) {
  if (!reason.empty()) return reason;
  for (const auto &[quantity, lower, upper] : settings.bounds)
    if (now[quantity] > upper) {
      reason = std::string(OBSERVABLE_NAMES[quantity]) + " is " + number(now[quantity]) +
               ", above its upper bound " + number(upper);
      return reason;
    }
  if (now[CLOSEST] < settings.min_distance)
    reason = "two atoms are " + number(now[CLOSEST]) + " A apart, closer than min_distance " +
             number(settings.min_distance);
  else if (now[LARGEST_FORCE] > settings.max_force)
    reason = "the force on an atom is " + number(now[LARGEST_FORCE]) + ", above max_force " +
             number(settings.max_force);
  else if (most > 0 && extrapolations_since_reset > most)
    reason = std::to_string(extrapolations_since_reset) + " extrapolations, more than maxew " +
             std::to_string(most);
  return reason;
}

std::string Watch::wanted(const Observed &now, int64_t step) const {
  if (!reason.empty() || settings.frames.empty() || frames_of_run >= settings.limit) return "";
  if (last_frame != std::numeric_limits<int64_t>::min() && step >= last_frame &&
      step < last_frame + settings.interval)
    return "";
  for (const auto &[quantity, lower, upper] : settings.bounds)
    if (now[quantity] >= lower) return std::string(OBSERVABLE_NAMES[quantity]) + " " + number(now[quantity]);
  return "";
}

void Watch::collected(int64_t step) {
  last_frame = step;
  frames_of_run++;
}

}  // namespace nnpkit
