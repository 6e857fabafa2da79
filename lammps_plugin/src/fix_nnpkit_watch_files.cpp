// What a watch leaves behind: frames, the restart file of a run that was ended, and words in the log.

#include "fix_nnpkit_watch.h"

#include "collective.h"
#include "pair_nnpkit.h"
#include "watch_frames.h"

#include "atom.h"
#include "comm.h"
#include "command.h"
#include "domain.h"
#include "error.h"
#include "fmt/format.h"
#include "input.h"
#include "update.h"
#include "utils.h"
#include "variable.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <memory>
#include <set>
#include <stdexcept>

using namespace LAMMPS_NS;

/* ----------------------------------------------------------------------
   everything in the file is in eV and angstrom
------------------------------------------------------------------------- */

nnpkit::Frame FixNNPKitWatch::frame_of_step() const {
  const nnpkit::Observation &now = pair->kept();
  const double unit = pair->unit_of_energy();
  nnpkit::Frame frame{now.step, std::vector<nnpkit::FrameAtom>(atom->nlocal), species, "", "", false};
  for (int i = 0; i < atom->nlocal; i++) {
    const double *const x = atom->x[i];
    nnpkit::FrameAtom &own = frame.atoms[i];
    own.id = atom->tag ? atom->tag[i] : i + 1;
    own.type = atom->type[i];
    for (int k = 0; k < 3; k++) own.position[k] = x[k] - domain->boxlo[k];
    own.force_std = now.members ? now.force_std[i] / unit : 0.0;
    own.extrapolations = now.extrapolation ? static_cast<int64_t>(now.extrapolations[i]) : 0;
  }
  if (comm->me != 0) return frame;
  const double *const h = domain->h;  // xx yy zz yz xz xy
  const auto edge = [](double x, double y, double z) {
    return fmt::format("{:.10g} {:.10g} {:.10g}", x, y, z);
  };
  const auto periodic = [&](int k) { return domain->periodicity[k] ? "T" : "F"; };
  frame.cell = fmt::format(
      "Lattice=\"{} {} {}\" Properties=species:S:1:pos:R:3:force_std:R:1:extrapolation:I:1 pbc=\"{} {} {}\"",
      edge(h[0], 0.0, 0.0), edge(h[5], h[1], 0.0), edge(h[4], h[3], h[2]), periodic(0), periodic(1),
      periodic(2));
  frame.numbers = fmt::format("force_std_max={:.6g} energy_std={:.6g} extrapolations={}",
                              now.values[nnpkit::FORCE_STD_MAX] / unit, now.values[nnpkit::ENERGY_STD] / unit,
                              static_cast<int64_t>(now.values[nnpkit::EXTRAPOLATIONS]));
  return frame;
}

/* ----------------------------------------------------------------------
   all ranks together
------------------------------------------------------------------------- */

void FixNNPKitWatch::write_frame(const nnpkit::Frame &frame, const std::string &why, bool of_context) {
  const auto all = nnpkit::gather_frame(frame.atoms, world);
  std::string problem;
  if (comm->me == 0) {
    const std::string comment = fmt::format("{} step={} reason=\"{}\" {}{}", frame.cell, frame.step, why,
                                            of_context ? "context=T " : "", frame.numbers);
    try {
      nnpkit::append_frame(watch.settings.frames, nnpkit::frame_text(all, frame.species, comment));
    } catch (const std::exception &failure) {
      problem = failure.what();
    }
  }
  problem = nnpkit::agree_on_error(problem, world);
  if (!problem.empty()) error->all(FLERR, fmt::format("Pair style nnpkit: {}", problem));
}

/* ---------------------------------------------------------------------- */

void FixNNPKitWatch::collect_frame(const nnpkit::Bounds &reached) {
  const double unit = reached.quantity == nnpkit::EXTRAPOLATIONS ? 1.0 : pair->unit_of_energy();
  const nnpkit::Frame frame = frame_of_step();
  write_frame(frame,
              fmt::format("{} {:.4g}", nnpkit::OBSERVABLE_NAMES[reached.quantity],
                          pair->kept().values[reached.quantity] / unit),
              false);
  watch.collected(frame.step);
}

/* ----------------------------------------------------------------------
   a step at which the run goes on; a frame of a rerun may be of an earlier one
------------------------------------------------------------------------- */

void FixNNPKitWatch::keep_context(bool collected) {
  const bigint step = pair->kept().step;
  if (!context.empty() && step < context.back().step) context.clear();
  if (!context.empty() && step < context.back().step + watch.settings.context_interval) return;
  if (static_cast<int>(context.size()) == watch.settings.context) context.pop_front();
  context.push_back(collected ? nnpkit::Frame{step, {}, {}, "", "", true} : frame_of_step());
}

/* ----------------------------------------------------------------------
   what led to the end of a run; once
------------------------------------------------------------------------- */

void FixNNPKitWatch::write_context(bigint end, const std::string &why) {
  bigint n = 0, first = -1, last = -1;
  for (const auto &frame : context) {
    if (frame.collected) continue;
    write_frame(frame, fmt::format("{} steps before the end: {}", end - frame.step, why), true);
    if (n++ == 0) first = frame.step;
    last = frame.step;
  }
  context.clear();
  n_context += n;
  if (n > 0 && comm->me == 0)
    utils::logmesg(lmp, "nnpkit: {} frame{} of context, of steps {} to {}, in {}\n", n, n > 1 ? "s" : "",
                   first, last, watch.settings.frames);
}

/* ----------------------------------------------------------------------
   LAMMPS does not look whether a restart file could be written; each atom takes 11 numbers at least
------------------------------------------------------------------------- */

static bool looks_whole(const std::string &path, bigint n_atoms) {
  struct stat status{};
  return stat(path.c_str(), &status) == 0 && status.st_size >= 88 * n_atoms;
}

/* ----------------------------------------------------------------------
   a word of a shell command
------------------------------------------------------------------------- */

static std::string quoted(const std::string &word) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) ||
           std::string("._/-+%=,:@").find(c) != std::string::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  std::string text = "'";
  for (const char c : word) text += (c == '\'') ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

/* ----------------------------------------------------------------------
   the commands that choose among the frames and label them: with the bounds of this run, because they decide
   what is worth it, and without the atoms that its model does not see, if their elements tell them
------------------------------------------------------------------------- */

std::string FixNNPKitWatch::selection() const {
  const std::string frames = quoted(watch.settings.frames);
  const auto &known = pair->info().elements;
  std::set<std::string> unseen;
  for (int type = 1; type <= atom->ntypes; type++)
    if (pair->element_of_type(type) < 0) unseen.insert(species[type]);
  std::string command = fmt::format("nnpkit select {} {}", quoted(pair->file()), frames);
  std::string without;
  for (const auto &element : unseen) {
    if (std::find(known.begin(), known.end(), element) != known.end()) return "nnpkit label " + frames;
    without += (without.empty() ? " --without " : ",") + element;
  }
  return fmt::format("{}{}{} && nnpkit label selected.xyz", command, bounds_of_forces(), without);
}

/* ---------------------------------------------------------------------- */

std::string FixNNPKitWatch::bounds_of_forces() const {
  if (pair->info().n_members < 2) return "";
  double lower = 0.0, upper = std::numeric_limits<double>::infinity();
  for (const auto &bounds : watch.settings.bounds) {
    if (bounds.quantity != nnpkit::FORCE_STD_MAX) continue;
    lower = bounds.lower / pair->unit_of_energy();
    if (bounds.upper > bounds.lower) upper = bounds.upper / pair->unit_of_energy();
  }
  if (watch.settings.bounds.size() > 1) lower = 0.0;  // other frames were worth it for another reason
  return fmt::format(" --lower {:.6g} --upper {:.6g}", lower, upper);
}

/* ----------------------------------------------------------------------
   the names are handed over as they are: the input parser would take spaces and $ for its own
------------------------------------------------------------------------- */

void FixNNPKitWatch::write_end() {
  write_context(ended_step, reason);
  std::vector<std::string> variable = {"nnpkit_ended", "string", reason};
  char *words[] = {&variable[0][0], &variable[1][0], &variable[2][0]};
  input->variable->set(3, words);
  std::string restart = watch.settings.restart;
  const auto star = restart.find('*');  // LAMMPS' sign for the step
  if (star != std::string::npos) restart.replace(star, 1, std::to_string(ended_step));
  if (!restart.empty()) {
    const std::unique_ptr<Command> write((*input->command_map)["write_restart"](lmp));
    std::string noinit = "noinit";
    char *arguments[] = {&restart[0], &noinit[0]};
    write->command(2, arguments);
  }
  if (comm->me != 0) return;
  if (!restart.empty() && !looks_whole(restart, atom->natoms))
    error->warning(
        FLERR,
        fmt::format("Pair style nnpkit: the restart file {} is not whole. Is the disk full?", restart));
  utils::logmesg(lmp, "nnpkit: the run was ended at step {}: {}\n", ended_step, reason);
  if (!restart.empty()) utils::logmesg(lmp, "nnpkit: this step is kept in the restart file {}\n", restart);
  if (watch.n_frames() + n_context > 0) utils::logmesg(lmp, "nnpkit: to label its frames: {}\n", selection());
}
