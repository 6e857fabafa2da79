#include "compute_nnpkit.h"

#include "fix_nnpkit_watch.h"
#include "pair_nnpkit.h"
#include "words.h"

#include "atom.h"
#include "error.h"
#include "fmt/format.h"
#include "memory.h"
#include "modify.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cstring>

using namespace LAMMPS_NS;

// What can be asked for: a number of the configuration, or of each atom.
static const nnpkit::Observable GLOBAL[] = {
    nnpkit::FORCE_STD_MAX,  nnpkit::FORCE_STD_MEAN, nnpkit::FORCE_STD_PERCENTILE, nnpkit::ENERGY_STD,
    nnpkit::EXTRAPOLATIONS, nnpkit::CLOSEST,        nnpkit::LARGEST_FORCE};
static const char SPREAD_OF_ATOM[] = "force_std/atom", EXTRAPOLATIONS_OF_ATOM[] = "extrapolations/atom";
static const char CHARGES_OF_ATOM[] = "charge_std/atom";
static const char MEMBER_ENERGIES[] = "member_energy", FEATURES_OF_ATOM[] = "features/atom";

/* ----------------------------------------------------------------------
   compute ID all nnpkit QUANTITY ... [pair N]
------------------------------------------------------------------------- */

ComputeNNPKit::ComputeNNPKit(LAMMPS *lmp, int narg, char **arg)
    : Compute(lmp, narg, arg), instance(0), pair(nullptr), n_members(0), n_features(0), n_max(0) {
  const std::string command = "Compute nnpkit";
  if (strcmp(arg[1], "all") != 0)
    error->all(
        FLERR,
        fmt::format("{}: the group is {}, expected all: the numbers are those of all atoms of the model",
                    command, arg[1]));
  std::string known = fmt::format("{}, {}, {}, {}, {}", SPREAD_OF_ATOM, CHARGES_OF_ATOM,
                                  EXTRAPOLATIONS_OF_ATOM, FEATURES_OF_ATOM, MEMBER_ENERGIES);
  for (const auto quantity : GLOBAL) known += fmt::format(", {}", nnpkit::OBSERVABLE_NAMES[quantity]);
  Words words(lmp, command, {arg + 3, arg + narg});
  while (words.more()) {
    const std::string key = words.keyword();
    const auto *const found =
        std::find_if(std::begin(GLOBAL), std::end(GLOBAL),
                     [&](nnpkit::Observable quantity) { return key == nnpkit::OBSERVABLE_NAMES[quantity]; });
    if (found != std::end(GLOBAL))
      quantities.push_back(*found);
    else if (key == MEMBER_ENERGIES)
      quantities.push_back(nnpkit::OBSERVABLES);
    else if (key == SPREAD_OF_ATOM)
      columns.push_back(SPREAD);
    else if (key == CHARGES_OF_ATOM)
      columns.push_back(CHARGES);
    else if (key == EXTRAPOLATIONS_OF_ATOM)
      columns.push_back(OUTSIDE);
    else if (key == FEATURES_OF_ATOM)
      columns.push_back(FEATURES);
    else if (key == "pair")
      instance = words.whole_int(1, "which of the nnpkit styles of pair_style hybrid");
    else
      error->all(FLERR, fmt::format("{}: unknown quantity '{}', expected {}, pair", command, key, known));
  }
  if (quantities.empty() && columns.empty())
    error->all(FLERR, fmt::format("{}: no quantity is given, expected some of {}", command, known));

  timeflag = 1;  // the pair style looks whether a step is among those that need this compute
  extvector = 0;
  count_members_and_features();
  const auto members = std::count(quantities.begin(), quantities.end(), nnpkit::OBSERVABLES);
  const auto features = std::count(columns.begin(), columns.end(), FEATURES);
  vector_flag = quantities.empty() ? 0 : 1;
  size_vector = static_cast<int>(quantities.size() + members * (n_members - 1));
  if (vector_flag) vector = new double[size_vector]();
  peratom_flag = columns.empty() ? 0 : 1;
  const int n_columns = static_cast<int>(columns.size() + features * (n_features - 1));
  size_peratom_cols = n_columns > 1 ? n_columns : 0;
}

/* ----------------------------------------------------------------------
   other commands ask for the sizes as soon as there is a compute, so that the model has to be known
------------------------------------------------------------------------- */

void ComputeNNPKit::count_members_and_features() {
  const bool members = std::count(quantities.begin(), quantities.end(), nnpkit::OBSERVABLES) > 0;
  const bool features = std::count(columns.begin(), columns.end(), FEATURES) > 0;
  if (!members && !features) return;
  PairNNPKit *const of = PairNNPKit::find(lmp, "Compute nnpkit", instance);
  if (!of->loaded())
    error->all(FLERR, fmt::format("Compute nnpkit: how many numbers {} gives depends on the model: put this "
                                  "command behind pair_coeff",
                                  members ? MEMBER_ENERGIES : FEATURES_OF_ATOM));
  n_members = members ? of->info().n_members : 0;
  n_features = features ? of->n_features() : 0;
  if (members && n_members < 2)
    error->all(
        FLERR,
        "Compute nnpkit: one potential has no members; its energy is that of 'compute pe pair'. Give a "
        "committee.pt");
  if (features && n_features < 1)
    error->all(FLERR, fmt::format("Compute nnpkit: this model shows no features: {}", of->file()));
}

/* ---------------------------------------------------------------------- */

ComputeNNPKit::~ComputeNNPKit() {
  delete[] vector;
  memory->destroy(vector_atom);
  memory->destroy(array_atom);
}

/* ---------------------------------------------------------------------- */

void ComputeNNPKit::init() {
  pair = PairNNPKit::find(lmp, "Compute nnpkit", instance);
  const int had_members = n_members, had_features = n_features;
  count_members_and_features();
  if (n_members != had_members || n_features != had_features)
    error->all(FLERR,
               fmt::format("Compute nnpkit: the model was changed, and it has other members or features: "
                           "'uncompute {}' and define it again",
                           id));
  bool spread = false, ranges = false, charges = false;
  for (const auto quantity : quantities) {
    if (quantity <= nnpkit::ENERGY_STD) spread = true;
    if (quantity == nnpkit::EXTRAPOLATIONS) ranges = true;
    if (quantity == nnpkit::LARGEST_FORCE) pair->ask_for_forces();
  }
  for (const auto column : columns) {
    spread = spread || column == SPREAD || column == CHARGES;
    charges = charges || column == CHARGES;
    ranges = ranges || column == OUTSIDE;
  }
  if (spread && pair->info().n_members < 2)
    error->all(FLERR, "Compute nnpkit: one potential cannot disagree with itself; give a committee.pt");
  const auto &fields = pair->info().fields;
  if (charges && (pair->info().charges.generation.empty() || fields[0].width != 1))
    error->all(FLERR, "Compute nnpkit: the members have no charges, or several of each atom");
  if (ranges && pair->info().n_functions == 0)
    error->all(FLERR,
               "Compute nnpkit: this model has no ranges of its training data, so that extrapolation cannot "
               "be told");
  pair->add_compute(id);
  if (n_features > 0) pair->add_compute_of_features(id);
}

/* ---------------------------------------------------------------------- */

const nnpkit::Observation &ComputeNNPKit::evaluated() {
  const auto &found = pair->kept();
  if (found.step != update->ntimestep)
    error->all(FLERR,
               fmt::format("Compute nnpkit: nothing was observed at step {}: 'compute {}' has to be used by "
                           "what needs it, as thermo output, a dump or a fix, on that step",
                           update->ntimestep, id));
  return found;
}

/* ---------------------------------------------------------------------- */

void ComputeNNPKit::compute_vector() {
  invoked_vector = update->ntimestep;
  const auto &found = evaluated();
  double *to = vector;
  for (const auto quantity : quantities)
    if (quantity == nnpkit::OBSERVABLES)
      to = std::copy(found.member_energies.begin(), found.member_energies.end(), to);
    else
      *to++ = found.values[quantity];
}

/* ---------------------------------------------------------------------- */

void ComputeNNPKit::compute_peratom() {
  invoked_peratom = update->ntimestep;
  const auto &found = evaluated();
  if (n_features > 0 && found.features.size() < static_cast<size_t>(atom->nlocal) * n_features)
    error->all(FLERR,
               fmt::format("Compute nnpkit: no features were evaluated at step {}: 'compute {}' has to be "
                           "used by what needs it, as a dump or a fix, on that step",
                           update->ntimestep, id));
  make_room();
  const auto write = [&](int column, const std::vector<double> &values, int width) {
    for (int i = 0; i < atom->nlocal; i++)
      for (int k = 0; k < width; k++)
        (size_peratom_cols == 0 ? vector_atom[i] : array_atom[i][column + k]) =
            values[static_cast<size_t>(i) * width + k];
    return column + width;
  };
  int column = 0;
  for (const auto what : columns)
    column = what == FEATURES  ? write(column, found.features, n_features)
             : what == SPREAD  ? write(column, found.force_std, 1)
             : what == CHARGES ? write(column, found.charge_std, 1)
                               : write(column, found.extrapolations, 1);
}

/* ---------------------------------------------------------------------- */

void ComputeNNPKit::make_room() {
  if (n_max >= atom->nmax) return;
  n_max = atom->nmax;
  memory->destroy(vector_atom);
  memory->destroy(array_atom);
  if (size_peratom_cols == 0)
    memory->create(vector_atom, n_max, "nnpkit:vector_atom");
  else
    memory->create(array_atom, n_max, size_peratom_cols, "nnpkit:array_atom");
}

/* ---------------------------------------------------------------------- */

double ComputeNNPKit::memory_usage() {
  return static_cast<double>(n_max) * std::max(1, size_peratom_cols) * sizeof(double);
}

/* ----------------------------------------------------------------------
   compute ID all NNPKIT/ACCEPTED FIX
------------------------------------------------------------------------- */

ComputeNNPKitAccepted::ComputeNNPKitAccepted(LAMMPS *lmp, int narg, char **arg)
    : Compute(lmp, narg, arg), n_max(0) {
  if (narg != 4) error->all(FLERR, "Compute NNPKIT/ACCEPTED belongs to fix nnpkit/watch");
  watch = arg[3];
  peratom_flag = 1;
  size_peratom_cols = 0;
}

/* ---------------------------------------------------------------------- */

ComputeNNPKitAccepted::~ComputeNNPKitAccepted() {
  memory->destroy(vector_atom);
}

/* ---------------------------------------------------------------------- */

void ComputeNNPKitAccepted::compute_peratom() {
  invoked_peratom = update->ntimestep;
  if (n_max < atom->nmax) {
    n_max = atom->nmax;
    memory->destroy(vector_atom);
    memory->create(vector_atom, n_max, "nnpkit:accepted");
    std::fill(vector_atom, vector_atom + n_max, 0.0);
  }
  if (auto *const fix = dynamic_cast<FixNNPKitWatch *>(modify->get_fix_by_id(watch))) fix->accepted();
}
