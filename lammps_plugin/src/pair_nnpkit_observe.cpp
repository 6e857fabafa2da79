// What a step is observed for, what follows from it, and what the log says at the end.

#include "pair_nnpkit.h"

#include "collective.h"
#include "watch_frames.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "fmt/format.h"
#include "force.h"
#include "input.h"
#include "neigh_list.h"
#include "platform.h"
#include "timer.h"
#include "update.h"
#include "utils.h"
#include "variable.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

using namespace LAMMPS_NS;

static const char ENDED_VARIABLE[] = "nnpkit_ended";

/* ----------------------------------------------------------------------
   a run begins: neighbor lists are there, forces are not
------------------------------------------------------------------------- */

void PairNNPKit::setup() {
  work = Work();
  evaluation.descriptor_seconds = evaluation.network_seconds = evaluation.gradient_seconds = 0.0;
  watch.begin_run();
  extrapolation.begin_run(model->info());
  observed.fill(0.0);
  observed_step = ended_step = -1;
  if (input->variable->find(ENDED_VARIABLE) >= 0)
    input->one(fmt::format("variable {} delete", ENDED_VARIABLE));
  log_memory();
}

/* ----------------------------------------------------------------------
   all ranks go on, or all stop with one message
------------------------------------------------------------------------- */

void PairNNPKit::stop_on(std::string problem) {
  problem = nnpkit::agree_on_error(problem, world);
  if (!problem.empty()) error->all(FLERR, fmt::format("Pair style nnpkit: {}", problem));
}

/* ----------------------------------------------------------------------
   the forces of the members and the counts of this step are there: make numbers of them
------------------------------------------------------------------------- */

void PairNNPKit::observe(const std::string &problem) {
  const double start = platform::walltime();
  using namespace nnpkit;
  std::vector<int> centers;
  for (int i = 0; i < atom->nlocal; i++)
    if (element[atom->type[i]] >= 0) centers.push_back(i);
  totals.atoms = static_cast<double>(centers.size());
  totals.closest = std::sqrt(graph.closest_squared);
  totals.failures = problem.empty() ? 0.0 : 1.0;
  if (member_rows) {
    comm->reverse_comm(this, 3 * committee.n_members());
    committee.measure(centers, atom->nlocal, totals);
  }
  if (request.extrapolations) {
    std::copy(evaluation.function_extrapolations.begin(), evaluation.function_extrapolations.end(),
              extrapolation.counts().begin());
    totals.extrapolations = extrapolation.of_rank();
  }
  totals.reduce(world);
  if (totals.failures > 0.0) stop_on(problem);

  if (member_rows) {
    observed[FORCE_STD_MAX] = energy_unit * totals.force_std_max;
    observed[FORCE_STD_MEAN] = totals.atoms > 0.0 ? energy_unit * totals.force_std / totals.atoms : 0.0;
    observed[FORCE_STD_PERCENTILE] = energy_unit * committee.percentile(percent, centers, totals, world);
    observed[ENERGY_STD] = energy_unit * Committee::energy_std(totals);
    observed[LARGEST_FORCE] = energy_unit * totals.largest_force;
    force_std.assign(std::max(atom->nlocal, 1), 0.0);
    for (const int i : centers) force_std[i] = energy_unit * committee.spread()[i];
  }
  if (request.extrapolations) {
    extrapolation.end_step(std::llround(totals.extrapolations));
    observed[EXTRAPOLATIONS] = static_cast<double>(extrapolation.of_step());
    observed[EXTRAPOLATIONS_OF_RUN] = static_cast<double>(extrapolation.of_run());
  }
  observed[CLOSEST] = totals.closest;
  observed_step = update->ntimestep;
  judge_step();
  work.observe += platform::walltime() - start;
}

/* ----------------------------------------------------------------------
   all ranks have the same numbers and come to the same verdict
------------------------------------------------------------------------- */

void PairNNPKit::judge_step() {
  using namespace nnpkit;
  if (extrapolation_settings.show && extrapolation.of_step() > 0) log_extrapolations(false);
  if (extrapolation_settings.summary > 0 && update->ntimestep % extrapolation_settings.summary == 0)
    log_extrapolations(true);
  const std::string &reason = watch.judge(observed, extrapolation.since_reset(), extrapolation_settings.most);
  if (!reason.empty() && ended_step < 0) {
    ended_step = update->ntimestep;
    if (comm->me == 0) utils::logmesg(lmp, "nnpkit: run ends at step {}: {}\n", ended_step, reason);
    timer->force_timeout();  // as fix halt does: this step is completed, the loop ends on all ranks
  }
  const std::string why = watch.wanted(observed, update->ntimestep);
  if (!why.empty()) collect_frame(why);
  observed[FRAMES] = static_cast<double>(watch.n_frames());
  observed[ENDED] = reason.empty() ? 0.0 : 1.0;
  for (int k = 0; k < nextra; k++)
    pvector[k] = (comm->me == 0) ? observed[k] : 0.0;  // compute pair adds the ranks up
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::collect_frame(const std::string &why) {
  std::vector<nnpkit::FrameAtom> mine(atom->nlocal);
  for (int i = 0; i < atom->nlocal; i++) {
    const double *const x = atom->x[i];
    mine[i].id = atom->tag ? atom->tag[i] : i + 1;
    mine[i].element = element[atom->type[i]];
    for (int k = 0; k < 3; k++) mine[i].position[k] = x[k] - domain->boxlo[k];
    mine[i].force_std = request.members ? force_std[i] / energy_unit : 0.0;
    mine[i].extrapolations = request.extrapolations ? static_cast<int64_t>(extrapolations[i]) : 0;
  }
  const auto all = nnpkit::gather_frame(mine, world);
  std::string problem;
  if (comm->me == 0) {
    const double *const h = domain->h;  // xx yy zz yz xz xy
    const auto edge = [](double x, double y, double z) {
      return fmt::format("{:.10g} {:.10g} {:.10g}", x, y, z);
    };
    const auto periodic = [&](int k) { return domain->periodicity[k] ? "T" : "F"; };
    const std::string comment = fmt::format(
        "Lattice=\"{} {} {}\" Properties=species:S:1:pos:R:3:force_std:R:1:extrapolation:I:1 "
        "pbc=\"{} {} {}\" step={} reason=\"{}\" force_std_max={:.6g} energy_std={:.6g} extrapolations={}",
        edge(h[0], 0.0, 0.0), edge(h[5], h[1], 0.0), edge(h[4], h[3], h[2]), periodic(0), periodic(1),
        periodic(2), update->ntimestep, why, observed[nnpkit::FORCE_STD_MAX] / energy_unit,
        observed[nnpkit::ENERGY_STD] / energy_unit, extrapolation.of_step());
    try {
      nnpkit::append_frame(watch.settings.frames, nnpkit::frame_text(all, model->info().elements, comment));
    } catch (const std::exception &failure) {
      problem = failure.what();
    }
  }
  stop_on(problem);
  watch.collected(update->ntimestep);
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::log_extrapolations(bool whole_run) {
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

void PairNNPKit::finish() {
  if (work.steps == 0) return;
  if (work.steps > 1) log_timing();
  if (extrapolation.of_run() > 0) log_extrapolations(true);
  const auto frames = watch.n_frames();
  if (frames > 0 && comm->me == 0)
    utils::logmesg(lmp, "nnpkit: {} frame{} in {}\n", frames, frames > 1 ? "s" : "", watch.settings.frames);
  if (ended_step >= 0) end_run();
  ended_step = -1;  // said once; the reason stays until the next setup
  work = Work();
}

/* ----------------------------------------------------------------------
   LAMMPS does not look whether a restart file could be written; each atom takes 11 numbers at least
------------------------------------------------------------------------- */

static bool looks_whole(const std::string &path, bigint n_atoms) {
  struct stat status{};
  return stat(path.c_str(), &status) == 0 && status.st_size >= 88 * n_atoms;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::end_run() {
  const auto &wanted = watch.settings;
  input->one(fmt::format("variable {} string \"{}\"", ENDED_VARIABLE, watch.ended()));
  if (!wanted.restart.empty()) input->one(fmt::format("write_restart {} noinit", wanted.restart));
  if (comm->me != 0) return;
  if (!wanted.restart.empty() && !looks_whole(wanted.restart, atom->natoms))
    error->warning(FLERR,
                   fmt::format("Pair style nnpkit: the restart file {} is not whole. Is the disk full?",
                               wanted.restart));
  utils::logmesg(lmp, "nnpkit: the run was ended at step {}: {}\n", ended_step, watch.ended());
  if (!wanted.restart.empty())
    utils::logmesg(lmp, "nnpkit: this step is kept in the restart file {}\n", wanted.restart);
  if (watch.n_frames() > 0)
    utils::logmesg(lmp, "nnpkit: to label its frames: nnpkit select {} {} && nnpkit label selected.xyz\n",
                   model_file, wanted.frames);
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::log_memory() {
  if (!list) return;
  const auto &info = model->info();
  double neighbors = 0.0;
  for (int ii = 0; ii < list->inum; ii++) neighbors += list->numneigh[list->ilist[ii]];
  const double at_once = (chunk > 0 && chunk < list->inum) ? neighbors * chunk / list->inum : neighbors;
  const int members = info.n_members;
  const double all = atom->nlocal + atom->nghost;
  double megabytes[3] = {neighbors * sizeof(int), at_once * (36.0 + 24.0 * members),
                         (members > 1) ? all * 24.0 * members : 0.0};
  for (double &size : megabytes) size /= 1048576.0;
  MPI_Allreduce(MPI_IN_PLACE, megabytes, 3, MPI_DOUBLE, MPI_MAX, world);
  if (comm->me != 0) return;
  utils::logmesg(
      lmp,
      "nnpkit: memory per rank, at most: LAMMPS' neighbor list {:.3g} MB, edges and gradients of a "
      "chunk {:.3g} MB{}\n",
      megabytes[0], megabytes[1],
      members > 1 ? fmt::format(", forces of {} members {:.3g} MB", members, megabytes[2]) : "");
}

/* ----------------------------------------------------------------------
   where the time of this style went, mean over the ranks
------------------------------------------------------------------------- */

void PairNNPKit::log_timing() {
  const double parts =
      evaluation.descriptor_seconds + evaluation.network_seconds + evaluation.gradient_seconds;
  double sums[] = {work.graph,
                   evaluation.descriptor_seconds,
                   evaluation.network_seconds,
                   evaluation.gradient_seconds,
                   work.model - parts,
                   work.tally,
                   work.observe,
                   work.atoms};
  const char *const names[] = {
      "Neighbors", "Descriptor", "Network", "Gradient", parts > 0.0 ? "Model rest" : "Model",
      "Tally",     "Observe"};
  MPI_Allreduce(MPI_IN_PLACE, sums, 8, MPI_DOUBLE, MPI_SUM, world);
  if (comm->me != 0 || !(sums[7] > 0.0)) return;
  double total = 0.0;
  for (int k = 0; k < 7; k++) total += sums[k];
  std::string text =
      "\nnnpkit timing breakdown:\nSection    |  avg time  | us/atom/step | %total\n"
      "---------------------------------------------------\n";
  for (int k = 0; k < 7; k++)
    if (sums[k] > 0.0)
      text += fmt::format("{:<11}| {:<10.5g} | {:12.4g} |{:6.2f}\n", names[k], sums[k] / comm->nprocs,
                          1e6 * sums[k] / sums[7], 100.0 * sums[k] / total);
  text +=
      fmt::format("{:<11}| {:<10.5g} | {:12.4g} |\n\n", "Sum", total / comm->nprocs, 1e6 * total / sums[7]);
  utils::logmesg(lmp, text);
}

/* ----------------------------------------------------------------------
   scalars, and the triggers of fix pair
------------------------------------------------------------------------- */

void *PairNNPKit::extract(const char *name, int &dim) {
  dim = 0;
  if (strcmp(name, "force_std_flag") == 0) return &want_force_std;
  if (strcmp(name, "extrapolations_flag") == 0) return &want_extrapolations;
  for (int k = 0; k < nnpkit::OBSERVABLES; k++)
    if (strcmp(name, nnpkit::OBSERVABLE_NAMES[k]) == 0) return &observed[k];
  return nullptr;
}

/* ---------------------------------------------------------------------- */

void *PairNNPKit::extract_peratom(const char *name, int &columns) {
  columns = 0;
  const bool spread = strcmp(name, "force_std") == 0;
  if (!spread && strcmp(name, "extrapolations") != 0) return nullptr;
  if (model && (spread ? model->info().n_members < 2 : model->info().n_functions == 0))
    error->all(FLERR, fmt::format("Pair style nnpkit: this model gives no {}: {}", name,
                                  spread ? "it is no committee" : "it has no ranges of its training data"));
  if (update->whichflag == 0) return nullptr;  // the fix is only made
  if (observed_step != update->ntimestep)
    error->all(FLERR, fmt::format("Pair style nnpkit: {} was not evaluated at step {}: write 'fix ... {} 1', "
                                  "or use a multiple of 'every {}'",
                                  name, update->ntimestep, name, every));
  return spread ? force_std.data() : extrapolations.data();
}
