#include "watch_keywords.h"

#include "species.h"

#include "fmt/format.h"

#include <algorithm>

using namespace LAMMPS_NS;

namespace {

using nnpkit::WatchSettings;

void read_bounds(Words &words, WatchSettings &wanted) {
  const std::string name = words.value();
  const auto *const begin = nnpkit::OBSERVABLE_NAMES.begin(), *const end = begin + nnpkit::QUANTITIES;
  const auto *const found = std::find(begin, end, name);
  if (found == end)
    words.refuse(name, "force_std_max, force_std_mean, force_std_percentile, energy_std or extrapolations");
  const double lower = words.number(0.0, "a lower bound");
  const double upper = words.number(lower, "an upper bound that is not below the lower one, or INF");
  wanted.bounds.push_back({static_cast<nnpkit::Observable>(found - begin), lower, upper});
}

// One word with commas, because the number of atom types may not be known yet.
void read_species(Words &words, WatchSettings &wanted) {
  const std::string text = words.value();
  wanted.species.clear();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = text.substr(begin, end - begin);
    if (!nnpkit::is_element(name)) words.refuse(text, "an element for each atom type, as H,O,Ar");
    wanted.species.push_back(name);
    begin = end + 1;
  }
}

// Every frame is a copy of all atoms, so that there is a limit.
void read_context(Words &words, WatchSettings &wanted) {
  constexpr int most = 1000;
  const std::string expected = fmt::format("a number of frames, at most {}", most);
  wanted.context = words.whole_int(0, expected);
  if (wanted.context > most) words.refuse(std::to_string(wanted.context), expected);
  wanted.context_interval = words.whole(1, "a number of steps between two frames of context");
}

}  // namespace

const Keywords<WatchSettings> &LAMMPS_NS::watch_keywords() {
  static const Keywords<WatchSettings> keywords = {
      {"watch", read_bounds},
      {"min_distance", [](Words &w, WatchSettings &s) { s.min_distance = w.number(0.0, "a distance"); }},
      {"max_force", [](Words &w, WatchSettings &s) { s.max_force = w.number(0.0, "a force"); }},
      {"frames", [](Words &w, WatchSettings &s) { s.frames = w.file(); }},
      {"restart", [](Words &w, WatchSettings &s) { s.restart = w.file(); }},
      {"interval", [](Words &w, WatchSettings &s) { s.interval = w.whole(1, "a number of steps"); }},
      {"limit", [](Words &w, WatchSettings &s) { s.limit = w.whole(0, "a number of frames"); }},
      {"species", read_species},
      {"context", read_context},
      {"showew", [](Words &w, WatchSettings &s) { s.show = w.yes(); }},
      {"showewsum", [](Words &w, WatchSettings &s) { s.summary = w.whole(0, "a number of steps, or 0"); }},
      {"maxew", [](Words &w, WatchSettings &s) { s.most = w.whole(0, "a number of extrapolations, or 0"); }},
      {"resetew", [](Words &w, WatchSettings &s) { s.reset_each_step = w.yes(); }},
  };
  return keywords;
}
