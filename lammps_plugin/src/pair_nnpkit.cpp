#include "pair_nnpkit.h"

#include "collective.h"

#include "atom.h"
#include "comm.h"
#include "compute.h"
#include "error.h"
#include "fmt/format.h"
#include "force.h"
#include "memory.h"
#include "modify.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "platform.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

using namespace LAMMPS_NS;

/* ---------------------------------------------------------------------- */

PairNNPKit::PairNNPKit(LAMMPS *lmp)
    : Pair(lmp),
      chunk(0),
      chunk_set(false),
      every(1),
      percent(95.0),
      model(nullptr),
      member(0),
      all_features(0),
      first_feature(0),
      initialised(false),
      energy_unit(1.0),
      unit(1.0),
      exclusions(lmp),
      types(nullptr),
      observing(false),
      member_rows(false),
      travelling(nullptr),
      travelling_width(0),
      ewald_accuracy(USUAL_ACCURACY),
      total_charge(0.0),
      shown{},
      evaluations(0),
      asked(false),
      always_forces(false),
      want_force_std(0),
      want_extrapolations(0),
      commands(0),
      post_no(false),
      memory_is_known(false) {
  single_enable = 0;  // no energy of an isolated pair
  restartinfo = 0;    // as other potentials from a file: give the commands again
  one_coeff = 1;      // one pair_coeff * * line
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;  // virial from the edges: right on every rank and in every cell
  centroidstressflag = CENTROID_AVAIL;
  nextra = nnpkit::OBSERVABLES;  // compute pair asks for this before a model is known
  pvector = new double[nextra]();
}

/* ---------------------------------------------------------------------- */

PairNNPKit::~PairNNPKit() {
  drop_watch();
  delete[] pvector;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::init_style() {
  if (force->newton_pair == 0)
    error->all(FLERR,
               "Pair style nnpkit needs newton pair on: put 'newton on' before the simulation box "
               "is created");
  if (utils::strmatch(update->integrate_style, "^respa"))
    error->all(FLERR,
               "Pair style nnpkit has no inner and outer part for run_style respa: use run_style verlet, "
               "with a time step that is short enough for the fastest vibration");
  check_special_neighbors();
  init_charges();
  begin_command();
  make_watch();
  neighbor->add_request(this, NeighConst::REQ_FULL);
  // the members' forces on ghosts travel at once; the communication asks the outermost style for the width
  comm_reverse = 3 * info().n_members;
  comm_forward = 0;
  for (const auto &field : model->info().fields) {
    comm_forward = std::max(comm_forward, field.width);
    comm_reverse = std::max(comm_reverse, field.width);
  }
  force->pair->comm_reverse = std::max(force->pair->comm_reverse, comm_reverse);
  force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
  initialised = true;
}

/* ----------------------------------------------------------------------
   LAMMPS drops bonded neighbors from the list when their special_bonds factors are 0,
   which is the default; a model would silently see molecules without bonds
------------------------------------------------------------------------- */

void PairNNPKit::check_special_neighbors() {
  if (atom->molecular == Atom::ATOMIC) return;
  bool drops = false;
  for (int k = 1; k <= 3; k++)
    if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0) drops = true;
  if (!drops) return;

  int found = (atom->molecular == Atom::TEMPLATE) ? 1 : 0, anywhere = 0;
  for (int i = 0; i < atom->nlocal && !found; i++)
    if (element[atom->type[i]] >= 0 && atom->nspecial[i][2] > 0) found = 1;
  MPI_Allreduce(&found, &anywhere, 1, MPI_INT, MPI_MAX, world);
  if (anywhere)
    error->all(FLERR,
               "Pair style nnpkit: special_bonds removes bonded atoms from the neighbor list; use "
               "'special_bonds lj/coul 1.0 1.0 1.0' or a data file without bonds");
}

/* ---------------------------------------------------------------------- */

double PairNNPKit::init_one(int i, int j) {
  if (setflag[i][j] == 0)
    error->all(FLERR, fmt::format("Pair style nnpkit has no element for atom types {} and {}: NULL is for "
                                  "pair_style hybrid",
                                  i, j));
  return std::max(info().cutoff, reach());
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  if (!initialised)
    error->all(FLERR,
               "Pair style nnpkit: the model was changed since the last run: the next one needs 'pre yes'");
  std::string problem;
  types = exclusions.types(element, problem);
  if (!problem.empty()) error->all(FLERR, fmt::format("Pair style nnpkit: {}", problem));
  begin_step();
  if (neighbor->ago == 0) lists.current = false;
  problem = members.size() > 1 ? evaluate_members() : evaluate_model();
  if (!interactions.empty()) set_charges();
  if (member_rows) add_mean_forces();
  work.atoms += list->inum;
  work.steps++;
  if (observing)
    observe(problem);
  else
    stop_on(problem);
}

/* ----------------------------------------------------------------------
   one potential, or a committee whose members share their edges
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_model() {
  // centroid virials are added up edge by edge
  if (model->takes_systems(request) && !cvflag_atom) return evaluate_system();
  if (model->info().fields.empty()) return evaluate_all();
  return model->stages_at_once()      ? evaluate_stages_at_once()
         : model->stages_by_kernels() ? evaluate_with_charges()
                                      : evaluate_stages();
}

/* ----------------------------------------------------------------------
   chunk by chunk, with the gradient of every edge; what went wrong on this rank
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_all() {
  const int inum = list->inum;
  const int step = (chunk > 0) ? chunk : inum;
  std::string problem;
  for (int first = 0; first < inum && problem.empty(); first += step) {
    problem = evaluate_chunk(first, std::min(first + step, inum));
    if (!problem.empty()) break;
    const double start = platform::walltime();
    problem = member_rows ? tally_members() : tally_chunk();
    work.tally += platform::walltime() - start;
  }
  return problem;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::begin_step() {
  const auto &info = whole;
  evaluations++;
  observing = to_be_observed();
  asked = false;
  want_force_std = want_extrapolations = 0;
  latest.step = -1;
  request.members = observing && info.n_members > 1;
  request.extrapolations = observing && info.n_functions > 0;
  request.features =
      observing && !feature_computes.empty() && (update->setupflag || is_step_of(feature_computes));
  latest.features.assign(request.features ? static_cast<size_t>(atom->nlocal) * all_features : 0, 0.0);
  member_rows = request.members || (observing && always_forces);
  if (member_rows) committee.begin(request.members ? info.n_members : 1, atom->nlocal + atom->nghost);
  totals = nnpkit::Totals();
  totals.energies.assign(request.members ? info.n_members : 0, 0.0);
  const size_t n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  const bool compared = request.members && !interactions.empty() && info.fields[0].width == 1;
  latest.member_charges.assign(compared ? n_all * info.n_members : 0, 0.0);
  mean_charges.assign(interactions.empty() ? 0 : n_all, 0.0);
  graph.closest_squared = std::numeric_limits<double>::infinity();
  if (!request.extrapolations) return;
  evaluation.function_extrapolations.assign(info.elements.size() * info.n_functions, 0);
  latest.extrapolations.assign(std::max(atom->nlocal, 1), 0.0);
}

/* ---------------------------------------------------------------------- */

bool PairNNPKit::to_be_observed() {
  const bigint step = update->ntimestep;
  if (asked || want_force_std || want_extrapolations || update->setupflag) return true;
  if (every > 0 && step % every == 0) return true;
  return is_step_of(computes);
}

/* ----------------------------------------------------------------------
   somebody has announced that he will ask one of these computes at this step
------------------------------------------------------------------------- */

bool PairNNPKit::is_step_of(const std::set<std::string> &ids) const {
  return std::any_of(ids.begin(), ids.end(), [&](const std::string &id) {
    Compute *const compute = modify->get_compute_by_id(id);
    return compute && compute->matchstep(update->ntimestep);
  });
}

/* ----------------------------------------------------------------------
   what went wrong on this rank, empty if nothing did
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_chunk(int first, int last) {
  const double start = platform::walltime();
  graph.build(*list, atom->x, types, element, model->info().cutoff, first, last);
  const double built = platform::walltime();
  work.graph += built - start;
  if (graph.n_atoms() == 0) return "";
  if (graph.closest_squared <
      nnpkit::SAME_PLACE_SQUARED)  // a model may answer anything, also something that is finite
    return same_place();
  try {
    model->evaluate(graph, request, evaluation);
  } catch (const std::exception &failure) {
    return failure.what();
  }
  note_features();
  work.model += platform::walltime() - built;
  return "";
}

/* ----------------------------------------------------------------------
   what the evaluation of the graph says of features, atom by atom
------------------------------------------------------------------------- */

void PairNNPKit::note_features() {
  if (request.extrapolations)
    for (int64_t a = 0; a < graph.n_atoms(); a++)
      latest.extrapolations[graph.center[a]] += static_cast<double>(evaluation.atom_extrapolations[a]);
  if (request.features) {
    const size_t width = evaluation.features.size() / static_cast<size_t>(graph.n_atoms());
    for (int64_t a = 0; a < graph.n_atoms(); a++)
      std::copy_n(
          evaluation.features.data() + a * width, width,
          latest.features.data() + static_cast<size_t>(graph.center[a]) * all_features + first_feature);
  }
}

/* ----------------------------------------------------------------------
   with g = dE/d r_ij of the edge i -> j, r_ij = x_j - x_i: F_i += g, F_j -= g
------------------------------------------------------------------------- */

std::string PairNNPKit::tally_chunk() {
  double **f = atom->f;
  const double *g = evaluation.gradient.data();
  for (int64_t a = 0; a < graph.n_atoms(); a++) {
    const int i = graph.center[a];
    const double energy = unit * evaluation.atomic_energy[a];
    if (eflag_global) eng_vdwl += energy;
    if (eflag_atom) eatom[i] += energy;
    if (vflag_either) tally_virial(a, g, 1);
    double sum[3] = {0.0, 0.0, 0.0};
    for (int64_t e = graph.offsets[a]; e < graph.offsets[a + 1]; e++, g += 3) {
      double *const fj = f[graph.neighbor[e]];
      for (int k = 0; k < 3; k++) {
        const double gk = unit * g[k];
        sum[k] += gk;
        fj[k] -= gk;
      }
    }
    if (!std::isfinite(energy + sum[0] + sum[1] + sum[2])) return not_finite(i);
    for (int k = 0; k < 3; k++) f[i][k] += sum[k];
  }
  return "";
}

/* ----------------------------------------------------------------------
   the same for every member; a row holds x of all members, then y, then z
------------------------------------------------------------------------- */

std::string PairNNPKit::tally_members() {
  const int n_members = committee.n_members(), width = 3 * n_members;
  const double *g = evaluation.gradient.data();
  const double *energies = evaluation.atomic_energy.data();
  for (int64_t a = 0; a < graph.n_atoms(); a++, energies += n_members) {
    const int i = graph.center[a];
    double mean = 0.0;
    for (int m = 0; m < n_members; m++) {
      if (request.members) totals.energies[member + m] += energies[m];
      mean += energies[m];
    }
    mean *= unit / n_members;
    if (eflag_global) eng_vdwl += mean;
    if (eflag_atom) eatom[i] += mean;
    if (vflag_either) tally_virial(a, g, n_members);
    const int64_t n_edges = graph.offsets[a + 1] - graph.offsets[a];
    committee.add(i, n_edges, graph.neighbor.data() + graph.offsets[a], g);
    g += n_edges * width;
    const double *const fi = committee.force(i);
    double sum = mean;
    for (int k = 0; k < width; k++) sum += fi[k];
    if (!std::isfinite(sum)) return not_finite(i);
  }
  return "";
}

/* ---------------------------------------------------------------------- */

std::string PairNNPKit::not_finite(int i) const {
  return fmt::format(
      "energy or force of atom {} is not finite at step {}: atoms are too close or lost "
      "(the closest two here are {:.3g} A apart); check the start structure and the time step",
      atom->tag ? atom->tag[i] : i + 1, update->ntimestep, std::sqrt(graph.closest_squared));
}

/* ---------------------------------------------------------------------- */

std::string PairNNPKit::same_place() const {
  return fmt::format(
      "two atoms are at the same place at step {} ({:.3g} A apart): look at the start "
      "structure, or at what creates atoms",
      update->ntimestep, std::sqrt(graph.closest_squared));
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::add_mean_forces() {
  const double start = platform::walltime();
  double **f = atom->f;
  for (int i = 0; i < atom->nlocal + atom->nghost; i++) {
    double mean[3];
    committee.mean_force(i, mean);
    for (int k = 0; k < 3; k++) f[i][k] += energy_unit * mean[k];
  }
  work.tally += platform::walltime() - start;
}

/* ----------------------------------------------------------------------
   the edges of one atom; its gradients have one row, or one per member whose mean counts
     virial:           W = - sum r_ij (x) g, which is -dE/dstrain
     virial/atom:      the edges of E_i count for i: W_i = -dE_i/dstrain, symmetric
     centroid virial:  an edge counts for j, so that sum_j W_j v_j is the heat flux of a many-body potential
   the three virials are the same edge terms, summed over different atoms
------------------------------------------------------------------------- */

void PairNNPKit::tally_virial(int64_t a, const double *gradient, int n_rows) {
  const int64_t first = graph.offsets[a], last = graph.offsets[a + 1];
  const double *r = graph.edge_vec.data() + 3 * first;
  double w[9];  // xx yy zz xy xz yz yx zx zy of this centre
  nnpkit::sum_outer_products(last - first, r, gradient, n_rows, w);
  for (double &component : w) component *= -unit;
  if (cvflag_atom)
    for (int64_t e = first; e < last; e++, r += 3, gradient += 3 * n_rows) {
      double edge[9];
      nnpkit::sum_outer_products(1, r, gradient, n_rows, edge);
      for (int k = 0; k < 9; k++) cvatom[graph.neighbor[e]][k] -= unit * edge[k];
    }
  // an invariant E_i makes w symmetric up to rounding; the mean of both halves removes that as well
  for (int k = 3; k < 6; k++) w[k] = 0.5 * (w[k] + w[k + 3]);
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += w[k];
  if (vflag_atom)
    for (int k = 0; k < 6; k++) vatom[graph.center[a]][k] += w[k];
}

/* ---------------------------------------------------------------------- */

int PairNNPKit::pack_reverse_comm(int n, int first, double *buffer) {
  if (!travelling) return committee.pack(n, first, buffer);
  const auto width = static_cast<size_t>(travelling_width);
  std::copy_n(travelling->data() + first * width, n * width, buffer);
  return n * travelling_width;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::unpack_reverse_comm(int n, int *list, double *buffer) {
  if (!travelling) return committee.unpack(n, list, buffer);
  for (int i = 0; i < n; i++) {
    double *const row = travelling->data() + static_cast<size_t>(list[i]) * travelling_width;
    for (int k = 0; k < travelling_width; k++) row[k] += *buffer++;
  }
}

/* ---------------------------------------------------------------------- */

double PairNNPKit::memory_usage() {
  return Pair::memory_usage() + graph.memory_usage() + committee.memory_usage() + lists.memory_usage() +
         sizeof(double) *
             static_cast<double>(evaluation.atomic_energy.capacity() + evaluation.gradient.capacity() +
                                 latest.force_std.capacity() + latest.extrapolations.capacity() +
                                 latest.features.capacity() + of_step.force_std.capacity() +
                                 of_step.extrapolations.capacity() + of_step.features.capacity());
}
