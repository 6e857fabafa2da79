#include "watch.h"

#include <cstdio>

namespace nnpkit {

const std::array<const char *, OBSERVABLES> OBSERVABLE_NAMES = {
    "force_std_max",         "force_std_mean",    "force_std_percentile", "energy_std",     "extrapolations",
    "extrapolations_of_run", "shortest_distance", "largest_force",        "frames_written", "ended"};

namespace {

constexpr int64_t NEVER = std::numeric_limits<int64_t>::min();

std::string number(double value) {
  char text[32];
  snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

}  // namespace

void Watch::begin(bool rerun) {
  frames_of_run = 0;
  if (rerun) last_frame = NEVER;
}

std::string Watch::judge(const Observed &now, int64_t extrapolations) const {
  for (const auto &[quantity, lower, upper] : settings.bounds)
    if (now[quantity] > upper)
      return std::string(OBSERVABLE_NAMES[quantity]) + " is " + number(now[quantity]) +
             ", above its upper bound " + number(upper);
  if (now[CLOSEST] < settings.min_distance)
    return "two atoms are " + number(now[CLOSEST]) + " A apart, closer than min_distance " +
           number(settings.min_distance);
  if (now[LARGEST_FORCE] > settings.max_force)
    return "the force on an atom is " + number(now[LARGEST_FORCE]) + ", above max_force " +
           number(settings.max_force);
  if (settings.most > 0 && extrapolations > settings.most)
    return std::to_string(extrapolations) + " extrapolations, more than maxew " +
           std::to_string(settings.most);
  return "";
}

const Bounds *Watch::wanted(const Observed &now, int64_t step) const {
  if (settings.frames.empty() || frames_of_run >= settings.limit) return nullptr;
  if (last_frame != NEVER && step >= last_frame && step < last_frame + settings.interval) return nullptr;
  for (const Bounds &bounds : settings.bounds)
    if (now[bounds.quantity] >= bounds.lower) return &bounds;
  return nullptr;
}

void Watch::collected(int64_t step) {
  last_frame = step;
  frames_of_run++;
}

}  // namespace nnpkit
