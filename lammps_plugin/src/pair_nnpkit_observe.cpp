// What is observed of a configuration, what is shown of it, and what the log says of a run.

#include "pair_nnpkit.h"

#include "collective.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "fmt/format.h"
#include "force.h"
#include "input.h"
#include "neigh_list.h"
#include "platform.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

using namespace LAMMPS_NS;

/* ---------------------------------------------------------------------- */

PairNNPKit *PairNNPKit::find(LAMMPS *lmp, const std::string &command, int instance,
                             const std::string &watch) {
  PairNNPKit *found = nullptr;
  int count = 0;
  for (int n = 1;; n++) {
    auto *const next = dynamic_cast<PairNNPKit *>(lmp->force->pair_match("nnpkit", 1, n));
    if (!next || next == found) break;  // without hybrid every number gives the one style
    found = next;
    count++;
    if (n == instance || next->is_watched_by(watch)) return found;
  }
  if (count == 0) lmp->error->all(FLERR, fmt::format("{}: there is no pair style nnpkit", command));
  if (instance > 0)
    lmp->error->all(
        FLERR, fmt::format("{}: pair is {}, but there is {} pair style nnpkit", command, instance, count));
  if (count > 1)
    lmp->error->all(FLERR, fmt::format("{}: there are {} pair styles nnpkit: say which one by 'pair 1', ...",
                                       command, count));
  return found;
}

/* ----------------------------------------------------------------------
   a run, minimisation or rerun begins; commands that only look (write_restart) initialise LAMMPS as well;
   computes that need observations say so afterwards
------------------------------------------------------------------------- */

void PairNNPKit::begin_command() {
  computes.clear();
  feature_computes.clear();
  if (update->whichflag == 0) return;
  commands++;
  work = Work();
  evaluation.descriptor_seconds = evaluation.network_seconds = evaluation.gradient_seconds = 0.0;
  shown.fill(0.0);
  of_step.step = -1;
  always_forces = false;
  // LAMMPS does not tell pair styles whether its own tables are wanted. Between the parts of 'run ... every'
  // the command is the one that was executed there.
  const bool is_run = strcmp(input->command, "run") == 0;
  if (is_run || update->whichflag == 2 || strcmp(input->command, "rerun") == 0) post_no = false;
  if (!is_run) return;
  for (int k = 0; k + 1 < input->narg; k++)
    if (strcmp(input->arg[k], "post") == 0) post_no = strcmp(input->arg[k + 1], "no") == 0;
}

/* ----------------------------------------------------------------------
   a run begins: neighbor lists are there, forces are not
------------------------------------------------------------------------- */

void PairNNPKit::setup() {
  if (!memory_is_known) log_memory();
  memory_is_known = true;
}

/* ----------------------------------------------------------------------
   all ranks go on, or all stop with one message
------------------------------------------------------------------------- */

void PairNNPKit::stop_on(std::string problem) {
  problem = nnpkit::agree_on_error(problem, world);
  if (!problem.empty()) error->all(FLERR, fmt::format("Pair style nnpkit: {}", problem));
}

/* ----------------------------------------------------------------------
   the forces of the members and the counts of this evaluation are there: make numbers of them
------------------------------------------------------------------------- */

void PairNNPKit::observe(const std::string &problem) {
  const double start = platform::walltime();
  using namespace nnpkit;
  std::vector<int> centers;
  for (int i = 0; i < atom->nlocal; i++)
    if (element[types[i]] >= 0) centers.push_back(i);
  totals.atoms = static_cast<double>(centers.size());
  totals.closest = std::sqrt(graph.closest_squared);
  totals.failures = problem.empty() ? 0.0 : 1.0;
  if (member_rows) {
    comm->reverse_comm(this, 3 * committee.n_members());
    committee.measure(centers, atom->nlocal, totals);
  }
  if (request.extrapolations) {
    latest.by_function = evaluation.function_extrapolations;
    totals.extrapolations = 0.0;
    for (const int64_t count : latest.by_function) totals.extrapolations += static_cast<double>(count);
  }
  totals.reduce(world);
  if (totals.failures > 0.0) stop_on(problem);

  Observed &values = latest.values;
  values.fill(0.0);
  if (member_rows) {
    const double unit = energy_unit * info().spread_factor;
    values[FORCE_STD_MAX] = unit * totals.force_std_max;
    values[FORCE_STD_MEAN] = totals.atoms > 0.0 ? unit * totals.force_std / totals.atoms : 0.0;
    values[FORCE_STD_PERCENTILE] = unit * committee.percentile(percent, centers, totals, world);
    values[ENERGY_STD] = unit * Committee::energy_std(totals);
    values[LARGEST_FORCE] = energy_unit * totals.largest_force;
    latest.force_std.assign(std::max(atom->nlocal, 1), 0.0);
    for (const int i : centers) latest.force_std[i] = unit * committee.spread()[i];
  }
  const int n_members = info().n_members;
  latest.charge_std.assign(latest.member_charges.empty() ? 0 : std::max(atom->nlocal, 1), 0.0);
  if (!latest.charge_std.empty())
    for (const int i : centers)
      latest.charge_std[i] = deviation(&latest.member_charges[static_cast<size_t>(i) * n_members], n_members);
  latest.member_energies = totals.energies;
  for (double &energy : latest.member_energies) energy *= energy_unit;
  values[EXTRAPOLATIONS] = totals.extrapolations;
  values[CLOSEST] = totals.closest;
  latest.members = request.members;
  latest.extrapolation = request.extrapolations;
  latest.step = update->ntimestep;
  latest.evaluation = evaluations;
  work.observe += platform::walltime() - start;
}

/* ----------------------------------------------------------------------
   what was observed last is of a step, not of a trial move or a displacement
------------------------------------------------------------------------- */

void PairNNPKit::keep() {
  if (latest.step < 0 || latest.evaluation == of_step.evaluation) return;
  std::swap(latest, of_step);
  latest.step = -1;
  for (int k = 0; k < nnpkit::OBSERVABLES; k++)
    if (k != nnpkit::EXTRAPOLATIONS_OF_RUN && k != nnpkit::FRAMES) shown[k] = of_step.values[k];
  publish();
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::show_run(double extrapolations, double frames, bool ended) {
  shown[nnpkit::EXTRAPOLATIONS_OF_RUN] = extrapolations;
  add_to_run(frames, ended);
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::add_to_run(double frames, bool ended) {
  shown[nnpkit::FRAMES] += frames;
  if (ended) shown[nnpkit::ENDED] = 1.0;
  publish();
}

/* ----------------------------------------------------------------------
   compute pair adds the ranks up
------------------------------------------------------------------------- */

void PairNNPKit::publish() {
  for (int k = 0; k < nextra; k++) pvector[k] = (comm->me == 0) ? shown[k] : 0.0;
}

/* ----------------------------------------------------------------------
   a run is over
------------------------------------------------------------------------- */

void PairNNPKit::finish() {
  if (work.steps > 1 && !post_no) log_timing();
  work = Work();
  evaluation.descriptor_seconds = evaluation.network_seconds = evaluation.gradient_seconds = 0.0;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::log_memory() {
  if (!list) return;
  const auto &info = model->info();
  double neighbors = 0.0;
  for (int ii = 0; ii < list->inum; ii++) neighbors += list->numneigh[list->ilist[ii]];
  const double at_once = (chunk > 0 && chunk < list->inum) ? neighbors * chunk / list->inum : neighbors;
  // gradients of all atoms, until the charges are known
  const bool kept = model->stages_at_once() || model->stages_by_kernels();
  const int members = kept ? 1 + info.fields[0].width : info.apart ? 1 : info.n_members;
  const double all = atom->nlocal + atom->nghost;
  double megabytes[3] = {neighbors * sizeof(int),
                         at_once * (36.0 + 24.0 * members) + (kept ? neighbors * 24.0 * members : 0.0),
                         (info.n_members > 1) ? all * 24.0 * info.n_members : 0.0};
  for (double &size : megabytes) size /= 1048576.0;
  MPI_Allreduce(MPI_IN_PLACE, megabytes, 3, MPI_DOUBLE, MPI_MAX, world);
  if (comm->me != 0) return;
  utils::logmesg(
      lmp,
      "nnpkit: memory per rank, at most: LAMMPS' neighbor list {:.3g} MB, edges and gradients of a "
      "chunk {:.3g} MB{}\n",
      megabytes[0], megabytes[1],
      info.n_members > 1 ? fmt::format(", forces of {} members {:.3g} MB", info.n_members, megabytes[2])
                         : "");
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
                   work.charges,
                   work.tally,
                   work.observe,
                   work.atoms};
  const char *const names[] = {
      "Neighbors", "Descriptor", "Network", "Gradient", parts > 0.0 ? "Model rest" : "Model",
      "Charges",   "Tally",      "Observe"};
  MPI_Allreduce(MPI_IN_PLACE, sums, 9, MPI_DOUBLE, MPI_SUM, world);
  if (comm->me != 0 || !(sums[8] > 0.0)) return;
  double total = 0.0;
  for (int k = 0; k < 8; k++) total += sums[k];
  std::string text =
      "\nnnpkit timing breakdown:\nSection    |  avg time  | us/atom/step | %total\n"
      "---------------------------------------------------\n";
  for (int k = 0; k < 8; k++)
    if (sums[k] > 0.0)
      text += fmt::format("{:<11}| {:<10.5g} | {:12.4g} |{:6.2f}\n", names[k], sums[k] / comm->nprocs,
                          1e6 * sums[k] / sums[8], 100.0 * sums[k] / total);
  text += fmt::format("{:<11}| {:<10.5g} | {:12.4g} |\n", "Sum", total / comm->nprocs, 1e6 * total / sums[8]);
  if (work.products > 0) {
    int64_t roughly = 0;
    for (const auto &of : interactions) roughly += of.sum->rough_products();
    const auto steps = static_cast<double>(work.steps);
    text += fmt::format("Interactions of charges times a vector, per step: {:.3g} (roughly: {:.3g})\n",
                        static_cast<double>(work.products) / steps, static_cast<double>(roughly) / steps);
  }
  text += "\n";
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
    if (strcmp(name, nnpkit::OBSERVABLE_NAMES[k]) == 0) return &shown[k];
  return nullptr;
}

/* ---------------------------------------------------------------------- */

void *PairNNPKit::extract_peratom(const char *name, int &columns) {
  columns = 0;
  const bool spread = strcmp(name, "force_std") == 0;
  if (!spread && strcmp(name, "extrapolations") != 0) return nullptr;
  if (loaded() && (spread ? info().n_members < 2 : info().n_functions == 0))
    error->all(FLERR, fmt::format("Pair style nnpkit: this model gives no {}: {}", name,
                                  spread ? "it is no committee" : "it has no ranges of its training data"));
  if (update->whichflag == 0) return nullptr;  // the fix is only made
  // Monte Carlo fixes ask in the middle of their trials, and ask again once the step is there
  const auto &kept_values = spread ? of_step.force_std : of_step.extrapolations;
  const bool whole = static_cast<int>(kept_values.size()) >= atom->nlocal;
  nnpkit::Observation &found = of_step.step == update->ntimestep && whole ? of_step : latest;
  if (found.step != update->ntimestep)
    error->all(FLERR, fmt::format("Pair style nnpkit: {} was not evaluated at step {}: write 'fix ... {} 1', "
                                  "or use a multiple of 'every {}'",
                                  name, update->ntimestep, name, every));
  return spread ? found.force_std.data() : found.extrapolations.data();
}
