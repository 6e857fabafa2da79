#include "pair_nnpkit.h"

#include "collective.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "fmt/format.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

using namespace LAMMPS_NS;

static constexpr int CHUNK_CPU =
    256;  // measured: fewer are slowed by overhead, more gain little and cost memory
static constexpr int CHUNK_GPU = 1024;  // a GPU needs more atoms at once to be busy

/* ---------------------------------------------------------------------- */

PairNNPKit::PairNNPKit(LAMMPS *lmp) : Pair(lmp), chunk(CHUNK_CPU), chunk_set(false), energy_unit(1.0) {
  single_enable = 0;  // no energy of an isolated pair
  restartinfo = 0;    // as other potentials from a file: give the commands again
  one_coeff = 1;      // one pair_coeff * * line
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;  // virial from the edges: right on every rank and in every cell
  centroidstressflag = CENTROID_AVAIL;
}

/* ---------------------------------------------------------------------- */

PairNNPKit::~PairNNPKit() {
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::allocate() {
  allocated = 1;
  const int n = atom->ntypes;
  memory->create(setflag, n + 1, n + 1, "pair:setflag");
  memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
  for (int i = 0; i <= n; i++)
    for (int j = 0; j <= n; j++) {
      setflag[i][j] = 0;
      cutsq[i][j] = 0.0;
    }
}

/* ----------------------------------------------------------------------
   pair_style nnpkit [device auto|cpu|cuda] [precision float64|mixed|float32] [kernel fused|torchscript]
                     [chunk N] [omp N]
------------------------------------------------------------------------- */

void PairNNPKit::settings(int narg, char **arg) {
  // the model is in eV and angstrom
  if (strcmp(update->unit_style, "metal") == 0)
    energy_unit = 1.0;
  else if (strcmp(update->unit_style, "real") == 0)
    energy_unit = utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);
  else
    error->all(FLERR,
               fmt::format("Pair style nnpkit needs units metal or real, not {}: the model is in eV and "
                           "Angstrom and converts to these two only",
                           update->unit_style));

  // a second pair_style command starts anew: it needs a pair_coeff again
  placement = nnpkit::Placement();
  placement.rank_on_node = nnpkit::rank_on_node(world);
  chunk_set = false;
  model.reset();
  if (allocated)
    for (int i = 1; i <= atom->ntypes; i++)
      for (int j = i; j <= atom->ntypes; j++) setflag[i][j] = 0;

  for (int iarg = 0; iarg < narg; iarg += 2) {
    const std::string key = arg[iarg];
    if (iarg + 1 == narg) error->all(FLERR, fmt::format("Pair style nnpkit: keyword {} has no value", key));
    const std::string value = arg[iarg + 1];
    const auto refuse = [&](const std::string &expected) {
      error->all(FLERR, fmt::format("Pair style nnpkit: {} is '{}', expected {}", key, value, expected));
    };
    if (key == "device") {
      if (value == "auto")
        placement.device = nnpkit::Device::AUTO;
      else if (value == "cpu")
        placement.device = nnpkit::Device::CPU;
      else if (value == "cuda")
        placement.device = nnpkit::Device::CUDA;
      else
        refuse("auto, cpu or cuda");
    } else if (key == "precision") {
      if (value == "float64")
        placement.precision = nnpkit::Arithmetic::FLOAT64;
      else if (value == "mixed")
        placement.precision = nnpkit::Arithmetic::MIXED;
      else if (value == "float32")
        placement.precision = nnpkit::Arithmetic::FLOAT32;
      else
        refuse("float64, mixed or float32");
    } else if (key == "kernel") {
      if (value != "fused" && value != "torchscript") refuse("fused or torchscript");
      placement.fused = (value == "fused");
    } else if (key == "chunk") {
      if (!utils::is_integer(value) || (chunk = utils::inumeric(FLERR, value, false, lmp)) < 0)
        refuse("a number of atoms, or 0 for all at once");
      chunk_set = true;
    } else if (key == "omp") {
      if (!utils::is_integer(value) || (placement.threads = utils::inumeric(FLERR, value, false, lmp)) < 1)
        refuse("a number of threads per rank");
    } else {
      error->all(FLERR, fmt::format("Pair style nnpkit: unknown keyword '{}', expected device, precision, "
                                    "kernel, chunk or omp",
                                    key));
    }
  }
}

/* ----------------------------------------------------------------------
   pair_coeff * * model.pt O H NULL
------------------------------------------------------------------------- */

void PairNNPKit::coeff(int narg, char **arg) {
  if (!allocated) allocate();
  if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR,
               "Pair style nnpkit expects: pair_coeff * * model.pt ELEMENT ... with one element or "
               "NULL per atom type");
  load(arg[2]);
  map_types(arg[2], narg - 3, arg + 3);
  log_model(arg[2]);
}

/* ----------------------------------------------------------------------
   all ranks load the model, or all ranks stop with the same message
------------------------------------------------------------------------- */

void PairNNPKit::load(const std::string &file) {
  // LAMMPS looks into the folders of LAMMPS_POTENTIALS too
  const std::string found = utils::get_potential_file_path(file);
  model.reset();
  std::string problem;
  try {
    const std::string bytes = nnpkit::read_on_first_rank(found.empty() ? file : found, world);
    try {
      model = nnpkit::load_model(bytes, placement);
    } catch (const std::exception &failure) {
      problem = file + ": " + failure.what();
    }
  } catch (const std::exception &failure) {
    error->all(FLERR, fmt::format("Pair style nnpkit: {}", failure.what()));  // same on all ranks
  }
  problem = nnpkit::agree_on_error(problem, world);
  if (!problem.empty()) error->all(FLERR, fmt::format("Pair style nnpkit: {}", problem));

  if (!chunk_set) chunk = (model->info().device == "cpu") ? CHUNK_CPU : CHUNK_GPU;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::map_types(const std::string &file, int given, char **names) {
  const auto &known = model->info().elements;
  const std::string listed = utils::join_words(known, " ");
  const int ntypes = atom->ntypes;
  if (given != ntypes)
    error->all(FLERR,
               fmt::format("Pair style nnpkit: pair_coeff * * {} needs one element or NULL for each of the "
                           "{} atom types, got {}; the model knows {}",
                           file, ntypes, given, listed));

  element.assign(ntypes + 1, -1);
  for (int itype = 1; itype <= ntypes; itype++) {
    const std::string name = names[itype - 1];
    if (name == "NULL") continue;
    const auto at = std::find(known.begin(), known.end(), name);
    if (at == known.end())
      error->all(FLERR,
                 fmt::format("Pair style nnpkit: element {} of atom type {} is not in {}, which knows {}",
                             name, itype, file, listed));
    element[itype] = static_cast<int>(at - known.begin());
  }

  int count = 0;
  for (int i = 1; i <= ntypes; i++)
    for (int j = i; j <= ntypes; j++) {
      setflag[i][j] = (element[i] >= 0 && element[j] >= 0) ? 1 : 0;
      count += setflag[i][j];
    }
  if (count == 0) error->all(FLERR, "Pair style nnpkit: every atom type is NULL");
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::log_model(const std::string &file) {
  if (comm->me != 0) return;
  const auto &info = model->info();
  std::string mapping;
  for (int itype = 1; itype <= atom->ntypes; itype++)
    mapping += fmt::format(" {}={}", itype, element[itype] < 0 ? "NULL" : info.elements[element[itype]]);
  const std::string chunks = chunk ? fmt::format("{} atoms at once", chunk) : "all atoms at once";

  utils::logmesg(lmp, "nnpkit: {}: {} potential for {}, cutoff {:.6g} A, {} parameters\n", file, info.kind,
                 utils::join_words(info.elements, " "), info.cutoff, info.n_parameters);
  utils::logmesg(lmp, "nnpkit: atom types{}; {}, {}, {} thread(s) per rank, {}\n", mapping, info.device,
                 info.precision, placement.threads, chunks);
  utils::logmesg(lmp,
                 "nnpkit: self-test passed (energy {:.1e} eV, gradient {:.1e} eV/A); torch {}, file "
                 "written by nnpkit {} with torch {}\n",
                 info.energy_error, info.gradient_error, NNPKIT_TORCH_VERSION, info.nnpkit_version,
                 info.torch_version);
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::init_style() {
  if (force->newton_pair == 0)
    error->all(FLERR,
               "Pair style nnpkit needs newton pair on: put 'newton on' before the simulation box "
               "is created");
  check_special_neighbors();
  if (neighbor->exclude && comm->me == 0)
    error->warning(FLERR,
                   "Pair style nnpkit does not see pairs removed by neigh_modify exclude: the "
                   "model is evaluated as if these neighbors did not exist");
  neighbor->add_request(this, NeighConst::REQ_FULL);
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
  return model->info().cutoff;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  const int inum = list->inum;
  const int step = (chunk > 0) ? chunk : inum;
  for (int first = 0; first < inum; first += step) {
    evaluate_chunk(first, std::min(first + step, inum));
    tally_chunk();
  }
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::evaluate_chunk(int first, int last) {
  graph.build(*list, atom->x, atom->type, element, model->info().cutoff, first, last);
  if (graph.n_atoms() == 0) {
    evaluation.atomic_energy.clear();
    return;
  }
  try {
    model->evaluate(graph, nnpkit::Request(), evaluation);
  } catch (const std::exception &failure) {
    error->one(FLERR, fmt::format("Pair style nnpkit: {}", failure.what()));
  }
}

/* ----------------------------------------------------------------------
   with g = dE/d r_ij of the edge i -> j, r_ij = x_j - x_i:
     force:            F_i += g, F_j -= g
     virial:           W = - sum r_ij (x) g, which is -dE/dstrain
     virial/atom:      the edges of E_i count for i: W_i = -dE_i/dstrain, symmetric
     centroid virial:  an edge counts for j, so that sum_j W_j v_j is the heat flux of a many-body potential
   the three virials are the same edge terms, summed over different atoms
------------------------------------------------------------------------- */

void PairNNPKit::tally_chunk() {
  double **f = atom->f;
  const int64_t n_atoms = static_cast<int64_t>(evaluation.atomic_energy.size());
  for (int64_t a = 0; a < n_atoms; a++) {
    const int i = graph.center[a];
    const double energy = energy_unit * evaluation.atomic_energy[a];
    if (eflag_global) eng_vdwl += energy;
    if (eflag_atom) eatom[i] += energy;

    double fi[3] = {0.0, 0.0, 0.0};
    double w[9] = {0.0};  // xx yy zz xy xz yz yx zx zy of this centre
    for (int64_t e = graph.offsets[a]; e < graph.offsets[a + 1]; e++) {
      const int j = graph.neighbor[e];
      const double *const r = &graph.edge_vec[3 * e];
      const double g[3] = {energy_unit * evaluation.gradient[3 * e],
                           energy_unit * evaluation.gradient[3 * e + 1],
                           energy_unit * evaluation.gradient[3 * e + 2]};
      for (int k = 0; k < 3; k++) {
        fi[k] += g[k];
        f[j][k] -= g[k];
      }
      if (!vflag_either) continue;
      const double edge[9] = {-r[0] * g[0], -r[1] * g[1], -r[2] * g[2], -r[0] * g[1], -r[0] * g[2],
                              -r[1] * g[2], -r[1] * g[0], -r[2] * g[0], -r[2] * g[1]};
      for (int k = 0; k < 9; k++) w[k] += edge[k];
      if (cvflag_atom)
        for (int k = 0; k < 9; k++) cvatom[j][k] += edge[k];
    }
    if (!std::isfinite(energy + fi[0] + fi[1] + fi[2]))
      error->one(FLERR,
                 fmt::format("Pair style nnpkit: energy or force of atom {} is not finite at step {}: atoms "
                             "are too close or lost; check the start structure and the time step",
                             atom->tag ? atom->tag[i] : i + 1, update->ntimestep));
    for (int k = 0; k < 3; k++) f[i][k] += fi[k];

    // an invariant E_i makes w symmetric up to rounding; the mean of both halves removes that as well
    for (int k = 3; k < 6; k++) w[k] = 0.5 * (w[k] + w[k + 3]);
    if (vflag_global)
      for (int k = 0; k < 6; k++) virial[k] += w[k];
    if (vflag_atom)
      for (int k = 0; k < 6; k++) vatom[i][k] += w[k];
  }
}

/* ---------------------------------------------------------------------- */

double PairNNPKit::memory_usage() {
  return Pair::memory_usage() + graph.memory_usage() +
         sizeof(double) *
             static_cast<double>(evaluation.atomic_energy.capacity() + evaluation.gradient.capacity());
}
