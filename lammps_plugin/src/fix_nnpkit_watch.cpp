#include "fix_nnpkit_watch.h"

#include "pair_nnpkit.h"
#include "species.h"
#include "watch_keywords.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "fmt/format.h"
#include "input.h"
#include "modify.h"
#include "output.h"
#include "timer.h"
#include "universe.h"
#include "update.h"
#include "utils.h"
#include "variable.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace LAMMPS_NS;

static const char ENDED_VARIABLE[] = "nnpkit_ended";

/* ----------------------------------------------------------------------
   fix ID all nnpkit/watch N keyword value ...
------------------------------------------------------------------------- */

FixNNPKitWatch::FixNNPKitWatch(LAMMPS *lmp, int narg, char **arg)
    : Fix(lmp, narg, arg),
      instance(0),
      pair(nullptr),
      of_pair(false),
      command(0),
      judged_step(-1),
      judged_evaluation(0),
      rerun(false),
      ended_step(-1),
      n_beyond(0),
      first_beyond(-1),
      n_context(0) {
  const std::string style_name = "Fix nnpkit/watch";
  if (strcmp(arg[1], "all") != 0)
    error->all(FLERR,
               fmt::format("{}: the group is {}, expected all: disagreement and extrapolation are judged "
                           "over all atoms of the model",
                           style_name, arg[1]));
  if (narg < 4)
    error->all(FLERR, fmt::format("{} expects: fix ID all nnpkit/watch N keyword value ...", style_name));
  Words words(lmp, style_name, {arg + 2, arg + narg});
  words.keyword();
  nevery = words.whole_int(1, "a number of steps");
  const auto &keywords = watch_keywords();
  while (words.more()) {
    const std::string key = words.keyword();
    if (key == "pair")
      instance = words.whole_int(1, "which of the nnpkit styles of pair_style hybrid");
    else if (keywords.count(key))
      keywords.at(key)(words, watch.settings);
    else
      error->all(FLERR, fmt::format("{}: unknown keyword '{}', expected {}, pair", style_name, key,
                                    names(keywords)));
  }
  for (std::string *name : {&watch.settings.frames, &watch.settings.restart}) *name = of_partition(*name);

  vector_flag = 1;
  size_vector = 4;
  extvector = 0;
  global_freq = 1;
  dynamic_group_allow = 1;
  accepted_id = std::string("NNPKIT_ACCEPTED_") + id;
  modify->add_compute(fmt::format("{} all NNPKIT/ACCEPTED {}", accepted_id, id));
}

/* ---------------------------------------------------------------------- */

FixNNPKitWatch::~FixNNPKitWatch() {
  if (output && output->get_dump_by_id(accepted_id)) output->delete_dump(accepted_id);
  if (modify->get_compute_by_id(accepted_id)) modify->delete_compute(accepted_id);
}

/* ---------------------------------------------------------------------- */

int FixNNPKitWatch::setmask() {
  using namespace FixConst;
  return PRE_FORCE | MIN_PRE_FORCE | PRE_REVERSE | MIN_PRE_REVERSE | END_OF_STEP | POST_RUN;
}

/* ----------------------------------------------------------------------
   partitions run the same input: each gets files of its own
------------------------------------------------------------------------- */

std::string FixNNPKitWatch::of_partition(const std::string &name) {
  std::string own = name;
  const std::string number = std::to_string(universe->iworld);
  const auto marked = own.find('%');
  if (marked != std::string::npos) return own.replace(marked, 1, number);
  if (own.empty() || universe->nworlds == 1) return own;
  const auto slash = own.rfind('/'), dot = own.rfind('.');
  const bool extension = dot != std::string::npos && dot > (slash == std::string::npos ? 0 : slash + 1);
  return own.insert(extension ? dot : own.size(), "." + number);
}

/* ----------------------------------------------------------------------
   also called by commands that only look, as write_restart: what a run has found stays
------------------------------------------------------------------------- */

void FixNNPKitWatch::init() {
  pair = PairNNPKit::find(lmp, "Fix nnpkit/watch", instance, id);
  of_pair = pair->is_watched_by(id);
  check_what_is_watched();
  if (watch.settings.writes_frames()) name_species();
  if (watch.settings.caps_force()) pair->ask_for_forces();
  if (pair->command() == command)
    return;  // a rerun initialises fixes for every frame, other commands for nothing
  command = pair->command();
  rerun = strcmp(input->command, "rerun") == 0;
  watch.begin(rerun);
  extrapolation.begin_run(pair->info());
  judged_step = ended_step = first_beyond = -1;
  judged_evaluation = n_beyond = n_context = 0;
  if (rerun) context.clear();  // it shares no time axis with what was before
  reason.clear();
  if (input->variable->find(ENDED_VARIABLE) >= 0) {
    std::string name = ENDED_VARIABLE, remove = "delete";
    char *words[] = {&name[0], &remove[0]};
    input->variable->set(2, words);
  }
  if (update->whichflag == 2 && !output->get_dump_by_id(accepted_id)) {
    std::vector<std::string> words = {accepted_id, "all", "custom",          "1",
                                      "/dev/null", "id",  "c_" + accepted_id};
    std::vector<char *> arguments;
    for (std::string &word : words) arguments.push_back(&word[0]);
    output->add_dump(static_cast<int>(arguments.size()), arguments.data());
  }
}

/* ---------------------------------------------------------------------- */

void FixNNPKitWatch::check_what_is_watched() {
  const auto &info = pair->info();
  const auto &wanted = watch.settings;
  bool disagreement = false, ranges = wanted.show || wanted.most > 0 || wanted.summary > 0;
  for (const auto &bounds : wanted.bounds)
    (bounds.quantity == nnpkit::EXTRAPOLATIONS ? ranges : disagreement) = true;
  if (wanted.context > 0 && wanted.frames.empty())
    error->all(FLERR, "Fix nnpkit/watch: context is written into the file of frames, and 'frames' is NULL");
  if (disagreement && info.n_members < 2)
    error->all(FLERR,
               "Pair style nnpkit: one potential cannot disagree with itself; to watch the disagreement "
               "give a committee.pt, see 'nnpkit export --committee'");
  if (ranges && info.n_functions == 0)
    error->all(FLERR,
               "Pair style nnpkit: this model has no ranges of its training data, so that extrapolation "
               "cannot be told");
}

/* ----------------------------------------------------------------------
   frames hold all atoms, also of types that are NULL for the model
------------------------------------------------------------------------- */

void FixNNPKitWatch::name_species() {
  const auto &given = watch.settings.species;
  if (!given.empty() && static_cast<int>(given.size()) != atom->ntypes)
    error->all(FLERR, fmt::format("Fix nnpkit/watch: species has {} elements for {} atom types", given.size(),
                                  atom->ntypes));
  species.assign(atom->ntypes + 1, "");
  for (int type = 1; type <= atom->ntypes; type++) {
    const int known = pair->element_of_type(type);
    if (known >= 0)
      species[type] = pair->info().elements[known];
    else if (!given.empty())
      species[type] = given[type - 1];
    else if (atom->mass && atom->mass_setflag[type])
      species[type] = nnpkit::element_of_mass(atom->mass[type]);
    if (!given.empty() && given[type - 1] != species[type])
      error->all(FLERR,
                 fmt::format("Fix nnpkit/watch: species says {} for atom type {}, which is {} for the model",
                             given[type - 1], type, species[type]));
    if (species[type].empty())
      error->all(
          FLERR,
          fmt::format("Fix nnpkit/watch: the element of atom type {}, which is NULL for the model, cannot be "
                      "told from its mass: name that of each type by 'species', as species O,H,Ar",
                      type));
  }
}

/* ---------------------------------------------------------------------- */

void FixNNPKitWatch::setup_pre_force(int) {
  if (!of_pair) pair->ask();
}

/* ---------------------------------------------------------------------- */

void FixNNPKitWatch::pre_force(int) {
  if (!of_pair && update->ntimestep % nevery == 0) pair->ask();
}

/* ----------------------------------------------------------------------
   the forces of a step are complete on this rank, and those of a trial are not summed up this way
------------------------------------------------------------------------- */

void FixNNPKitWatch::pre_reverse(int, int) {
  pair->keep();
  if (of_pair && update->whichflag == 2 && pair->kept().extrapolation)
    pair->show_run(static_cast<double>(extrapolation.of_run()) + not_judged_yet(), 0.0, false);
}

/* ---------------------------------------------------------------------- */

void FixNNPKitWatch::end_of_step() {
  if (update->ntimestep % nevery == 0) judge();
}

/* ----------------------------------------------------------------------
   all ranks have the same numbers and come to the same verdict
------------------------------------------------------------------------- */

void FixNNPKitWatch::judge() {
  using namespace nnpkit;
  const Observation &now = pair->kept();
  if (now.step != update->ntimestep || now.evaluation == judged_evaluation) return;
  if (now.step == judged_step && !rerun) return;  // evaluated again, as by 'run ... pre no'
  judged_step = now.step;
  judged_evaluation = now.evaluation;

  const auto &wanted = watch.settings;
  if (now.extrapolation) {
    extrapolation.add(now.by_function, std::llround(now.values[EXTRAPOLATIONS]));
    if (wanted.show && extrapolation.of_step() > 0) log_extrapolations(false);
    if (wanted.summary > 0 && now.step % wanted.summary == 0) log_extrapolations(true);
  }
  const bool by_itself = wanted.reset_each_step || rerun;
  const std::string why =
      watch.judge(now.values, by_itself ? extrapolation.of_step() : extrapolation.of_run());
  if (!why.empty()) end(why);
  const Bounds *const reached = why.empty() ? watch.wanted(now.values, now.step) : nullptr;
  if (reached) collect_frame(*reached);
  if (why.empty() && wanted.context > 0) keep_context(reached != nullptr);
  const double frames = reached ? 1.0 : 0.0;
  if (of_pair)
    pair->show_run(static_cast<double>(extrapolation.of_run()), frames, !why.empty());
  else
    pair->add_to_run(frames, !why.empty());
}

/* ----------------------------------------------------------------------
   a run ends here; the frames of a rerun are judged one by one
------------------------------------------------------------------------- */

void FixNNPKitWatch::end(const std::string &why) {
  if (rerun) {
    if (n_beyond++ == 0) first_beyond = update->ntimestep;
    if (comm->me == 0)
      utils::logmesg(lmp, "nnpkit: a run would end at the frame of step {}: {}\n", update->ntimestep, why);
    write_context(update->ntimestep, why);
    return;
  }
  if (ended_step >= 0) return;
  ended_step = update->ntimestep;
  reason = why;
  if (comm->me == 0) utils::logmesg(lmp, "nnpkit: run ends at step {}: {}\n", ended_step, reason);
  timer->force_timeout();  // as fix halt does: this step is completed, the loop ends on all ranks
}

/* ---------------------------------------------------------------------- */

void FixNNPKitWatch::log_extrapolations(bool whole_run) {
  const std::string text = extrapolation.describe(whole_run, world);
  if (comm->me != 0) return;
  if (whole_run)
    utils::logmesg(lmp, "nnpkit: {} extrapolations until step {}{}{}\n", extrapolation.of_run(),
                   update->ntimestep, text.empty() ? "" : ": ", text);
  else
    utils::logmesg(lmp, "nnpkit: {} extrapolations at step {}: {}\n", extrapolation.of_step(),
                   update->ntimestep, text);
}

/* ----------------------------------------------------------------------
   a run is over: positions and velocities belong to the same step again
------------------------------------------------------------------------- */

void FixNNPKitWatch::post_run() {
  if (output->get_dump_by_id(accepted_id)) output->delete_dump(accepted_id);
  if (of_pair && extrapolation.of_run() > 0 && !pair->quiet()) log_extrapolations(true);
  const auto frames = watch.n_frames();
  if (frames > 0 && comm->me == 0)
    utils::logmesg(lmp, "nnpkit: {} frame{} in {}\n", frames, frames > 1 ? "s" : "", watch.settings.frames);
  if (n_beyond > 0 && comm->me == 0)
    utils::logmesg(lmp, "nnpkit: {} frame{} beyond a bound, the first of step {}\n", n_beyond,
                   n_beyond > 1 ? "s" : "", first_beyond);
  if (ended_step >= 0) write_end();
  ended_step = -1;  // said once
}

/* ----------------------------------------------------------------------
   frames written, whether the run was ended, extrapolations since it began, frames of context written
------------------------------------------------------------------------- */

double FixNNPKitWatch::compute_vector(int k) {
  if (k == 0) return static_cast<double>(watch.n_frames());
  if (k == 1) return reason.empty() ? 0.0 : 1.0;
  return k == 2 ? static_cast<double>(extrapolation.of_run()) + not_judged_yet()
                : static_cast<double>(n_context);
}

/* ----------------------------------------------------------------------
   extrapolations of an iteration of a minimisation: its thermo output is written before its dumps, and so
   before it is judged
------------------------------------------------------------------------- */

double FixNNPKitWatch::not_judged_yet() const {
  if (!pair || update->whichflag != 2 || update->ntimestep % nevery != 0) return 0.0;
  const auto &now = pair->kept();
  const bool judged = now.step == judged_step || now.step != update->ntimestep;
  return judged || !now.extrapolation ? 0.0 : now.values[nnpkit::EXTRAPOLATIONS];
}

/* ---------------------------------------------------------------------- */

double FixNNPKitWatch::memory_usage() {
  double bytes = 0.0;
  for (const auto &frame : context)
    bytes += static_cast<double>(frame.atoms.capacity() * sizeof(frame.atoms[0]));
  return bytes;
}
