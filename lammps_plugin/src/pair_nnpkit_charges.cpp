// The charges that a model gives atoms, and what they do to its energy and forces.

#include "pair_nnpkit.h"

#include "atom.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "fmt/format.h"
#include "force.h"
#include "kspace.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "platform.h"
#include "utils.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

using namespace LAMMPS_NS;

static constexpr double SAME_CHARGE = 1.0e-3;  // e: data files are rounded
static constexpr double BALANCE = 0.5;         // of work between pairs and waves, measured
// ns, measured: a wave and an atom, a point of the mesh, splines of an atom
static constexpr double OF_WAVE = 0.6, OF_POINT = 25.0, OF_ATOM = 2000.0;

/* ----------------------------------------------------------------------
   a run begins: how the sum over pairs and waves is divided
------------------------------------------------------------------------- */

void PairNNPKit::init_charges() {
  interactions.clear();
  const auto &info = whole;
  if (info.charges.generation.empty()) {
    if (charge_words)
      error->all(FLERR, "Pair style nnpkit: keyword ewald, mesh or charge, but the model has no charges");
    return;
  }
  if (force->kspace)
    error->all(
        FLERR,
        "Pair style nnpkit: the model has charges and their long-range energy of its own: kspace_style "
        "would count it twice");
  refuse_other_charges();
  const int directions = domain->xperiodic + domain->yperiodic + domain->zperiodic;
  if (directions == 1)
    error->all(
        FLERR,
        "Pair style nnpkit: a model with charges needs a box that is periodic in all three directions, "
        "in two (a slab) or in none: put a wire into a box with vacuum that is periodic in all three");
  check_total_charge();
  for (const auto &one : members) {
    model = one.get();
    interactions.push_back(new_interaction());
  }
  model = members.front().get();
}

/* ----------------------------------------------------------------------
   no other style of hybrid/overlay may have charges of atoms that the model sees interact
------------------------------------------------------------------------- */

void PairNNPKit::refuse_other_charges() const {
  const Pair *last = nullptr;
  for (int number = 1;; number++) {
    const Pair *const other = force->pair_match("coul", 0, number);
    if (!other || other == last) return;  // the only one is found with every number
    last = other;
    for (int i = 1; i <= atom->ntypes; i++)
      for (int j = i; j <= atom->ntypes; j++)
        if (other->setflag[i][j] && element[i] >= 0 && element[j] >= 0)
          error->all(FLERR,
                     fmt::format("Pair style nnpkit: the model has the interaction of its charges in its "
                                 "energy: the coul style between atom types {} and {} would count it twice",
                                 i, j));
  }
}

/* ----------------------------------------------------------------------
   that of the charges of this model, in a box that is periodic in all directions, in two or in none
------------------------------------------------------------------------- */

PairNNPKit::Interaction PairNNPKit::new_interaction() {
  const auto &info = model->info();
  Interaction made;
  double splitting = 0.0;
  bool on_mesh = false;
  const int open = open_direction();
  const bool periodic = domain->xperiodic || domain->yperiodic;
  if (periodic) {
    const auto &widths = info.charges.widths;
    const double steps = nnpkit::Electrostatics::steps(ewald_accuracy);
    // pairs up to the cutoff are there anyway
    const double least =
        std::max(std::sqrt(2.0) * *std::max_element(widths.begin(), widths.end()), info.cutoff / steps);
    const std::array<double, 9> box = open < 0 ? cell() : cell_with_vacuum(info.charges, open);
    const double volume = nnpkit::Lattice(box).volume;
    const double atoms = std::max(static_cast<double>(atom->natoms), 1.0);
    splitting = BALANCE * std::pow(volume * volume / atoms, 1.0 / 6.0) / std::sqrt(2.0 * nnpkit::PI);
    splitting = std::max(splitting, least);
    if (mesh != "no") {
      const double waves = volume * std::pow(steps / splitting, 3.0) / (12.0 * nnpkit::PI * nnpkit::PI);
      try {
        const auto n = nnpkit::mesh_sizes(box, least, ewald_accuracy);
        const double points = 1.0 * n[0] * n[1] * n[2];
        on_mesh = mesh == "yes" || atoms * (waves * OF_WAVE - OF_ATOM) > points * OF_POINT * comm->nprocs;
      } catch (const std::exception &failure) {
        if (mesh == "yes") error->all(FLERR, fmt::format("Pair style nnpkit: {}", failure.what()));
      }
      if (on_mesh) splitting = least;
    }
    made.reach = std::max(steps * splitting, info.charges.screening_outer);
  }
  made.sum =
      std::make_unique<nnpkit::Electrostatics>(info.charges, ewald_accuracy, splitting, on_mesh, open, world);
  if (info.charges.generation == "fourth") {
    made.solutions = std::make_unique<nnpkit::History>(world);
    made.answers = std::make_unique<nnpkit::History>(world);
  }
  if (comm->me == 0 && periodic)
    utils::logmesg(lmp, "nnpkit: {} charges, Ewald sum {}{}: pairs up to {:.4g} A, accuracy {:.1g}\n",
                   info.charges.generation, on_mesh ? "on a mesh" : "wave by wave",
                   open < 0 ? "" : fmt::format(" of a slab without images along {}", "xyz"[open]), made.reach,
                   ewald_accuracy);
  else if (comm->me == 0)
    utils::logmesg(lmp, "nnpkit: {} charges, all pairs of atoms\n", info.charges.generation);
  return made;
}

double PairNNPKit::reach() const {
  double longest = 0.0;
  for (const auto &of : interactions) longest = std::max(longest, of.reach);
  return longest;
}

/* ----------------------------------------------------------------------
   atoms that have charges, of the data or of a run before, should have those of this one
------------------------------------------------------------------------- */

void PairNNPKit::check_total_charge() const {
  if (!atom->q_flag || whole.fields[0].width != 1) return;
  double sums[2] = {};
  for (int i = 0; i < atom->nlocal; i++)
    if (element[atom->type[i]] >= 0) {
      sums[0] += atom->q[i];
      sums[1] += std::abs(atom->q[i]);
    }
  MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, world);
  if (sums[1] == 0.0 || std::abs(sums[0] - total_charge) < SAME_CHARGE) return;
  error->all(FLERR,
             fmt::format("Pair style nnpkit: the charges of the atoms add up to {:.6g} e, the model is told "
                         "{:.6g} e: write 'charge {:.6g}' behind the pair style, or 'set group all charge 0'",
                         sums[0], total_charge, sums[0]));
}

std::array<double, 9> PairNNPKit::cell() const {
  return {domain->xprd, 0.0, 0.0, domain->xy, domain->yprd, 0.0, domain->xz, domain->yz, domain->zprd};
}

/* ----------------------------------------------------------------------
   of a box that is periodic in two directions the third one, else -1
------------------------------------------------------------------------- */

int PairNNPKit::open_direction() const {
  const int periodic[3] = {domain->xperiodic, domain->yperiodic, domain->zperiodic};
  if (periodic[0] + periodic[1] + periodic[2] != 2) return -1;
  return static_cast<int>(std::find(periodic, periodic + 3, 0) - periodic);
}

/* ----------------------------------------------------------------------
   what a slab is summed in, as its atoms are now
------------------------------------------------------------------------- */

std::array<double, 9> PairNNPKit::cell_with_vacuum(const nnpkit::ChargeInfo &info, int open) const {
  std::vector<int> centers, kinds;
  for (int i = 0; i < atom->nlocal; i++) {
    kinds.push_back(element[atom->type[i]]);
    if (kinds.back() >= 0) centers.push_back(i);
  }
  nnpkit::ChargedAtoms atoms;
  atoms.n_local = atoms.n_all = atom->nlocal;
  atoms.positions = atom->nlocal > 0 ? atom->x[0] : nullptr;
  atoms.centers = &centers;
  atoms.species = &kinds;
  atoms.cell = cell();
  const double widest = *std::max_element(info.widths.begin(), info.widths.end());
  return nnpkit::Vacuum(open, widest, 0.0, ewald_accuracy, world).cell_of(atoms);
}

/* ----------------------------------------------------------------------
   the first stage has spoken: charges of the right sum, in the field
------------------------------------------------------------------------- */

std::string PairNNPKit::make_charges() {
  const double start = platform::walltime();
  const int n_all = atom->nlocal + atom->nghost, n_channels = model->info().fields[0].width;
  Interaction &of = interactions[member];
  species.resize(n_all);
  charged.clear();
  for (int i = 0; i < n_all; i++) species[i] = element[types[i]];
  for (int i = 0; i < atom->nlocal; i++)
    if (species[i] >= 0) charged.push_back(i);
  const bool same = member > 0 && of.reach == interactions[member - 1].reach;
  if (of.reach > 0.0 && !same) near.build(*list, atom->x, types, element, of.reach, 0, list->inum);
  nnpkit::ChargedAtoms atoms;
  atoms.n_local = atom->nlocal;
  atoms.n_all = n_all;
  atoms.positions = n_all > 0 ? atom->x[0] : nullptr;
  atoms.centers = &charged;
  atoms.species = &species;
  atoms.cell = cell();
  near.closest_squared = 0.0;
  of.sum->set(atoms, near);
  charges.assign(n_channels, std::vector<double>(n_all, 0.0));
  const auto to_ghosts = [this](std::vector<double> &values) { exchange(values, 1, false); };
  std::string problem;
  if (of.solutions) {
    tags.clear();
    for (const int i : charged) tags.push_back(atom->tag[i]);
    of.solutions->follow(tags);
    of.answers->follow(tags);
  }
  for (int c = 0; c < n_channels; c++) {
    const double total = c == 0 ? total_charge : 0.0;
    const bool fourth = model->info().charges.generation == "fourth";
    for (const int i : charged) charges[c][i] = (fourth ? -1.0 : 1.0) * field[0][i * n_channels + c];
    try {
      if (fourth) {
        charges[c] =
            of.sum->solve(charges[c], total, predicted(*of.solutions, true), to_ghosts, work.products);
        note(*of.solutions, charges[c]);
      }
    } catch (const std::exception &failure) {  // on all ranks
      problem = failure.what();
    }
    if (!fourth) of.sum->remove_mean(charges[c], total);
    to_ghosts(charges[c]);
    for (const int i : charged) field[0][i * n_channels + c] = charges[c][i];
  }
  for (int i = 0; i < n_all && n_channels == 1; i++)
    mean_charges[i] += charges[0][i] / static_cast<double>(members.size());
  const size_t n_members = members.size();
  for (const int i : charged)
    if (!latest.member_charges.empty()) latest.member_charges[i * n_members + member] = charges[0][i];
  work.charges += platform::walltime() - start;
  return problem;
}

/* ----------------------------------------------------------------------
   into atom->q: of a committee the mean of its members, which has the right sum, too
------------------------------------------------------------------------- */

void PairNNPKit::set_charges() {
  if (!atom->q_flag || whole.fields[0].width != 1) return;
  for (int i = 0; i < atom->nlocal + atom->nghost; i++)
    if (species[i] >= 0) atom->q[i] = mean_charges[i];
}

/* ----------------------------------------------------------------------
   of local atoms and ghosts, where only local ones count: what the steps before lead to expect
------------------------------------------------------------------------- */

std::vector<double> PairNNPKit::predicted(const nnpkit::History &history, bool charges) const {
  std::vector<double> all;
  if (!history.empty()) {
    all.assign(static_cast<size_t>(atom->nlocal) + atom->nghost, 0.0);
    const std::vector<double> own = history.predict();
    for (size_t a = 0; a < own.size(); a++) all[charged[a]] = own[a];
  } else if (charges && atom->q_flag) {
    all.assign(atom->q, atom->q + atom->nlocal + atom->nghost);
  }
  return all;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::note(nnpkit::History &history, const std::vector<double> &values) const {
  std::vector<double> own;
  for (const int i : charged) own.push_back(values[i]);
  history.note(own);
}

/* ----------------------------------------------------------------------
   the last stage has said how its energy changes with the charges: their own energy and forces, and how the
   whole energy changes with what the first stage has said
------------------------------------------------------------------------- */

std::string PairNNPKit::use_charges() {
  const double start = platform::walltime();
  Interaction &of = interactions[member];
  const int n_all = atom->nlocal + atom->nghost, n_channels = static_cast<int>(charges.size());
  const bool fourth = model->info().charges.generation == "fourth";
  std::vector<double> slope(n_all), made, forces(3 * static_cast<size_t>(n_all), 0.0), virials;
  double total_virial[6] = {}, energy = 0.0;
  if (vflag_atom) virials.assign(6 * static_cast<size_t>(n_all), 0.0);
  nnpkit::ChargeSums sums;
  sums.forces = forces.data();
  sums.virial = vflag_either ? total_virial : nullptr;
  sums.atom_virials = vflag_atom ? virials.data() : nullptr;
  const auto to_ghosts = [this](std::vector<double> &values) { exchange(values, 1, false); };
  std::string problem;
  for (int c = 0; c < n_channels; c++) {
    const std::vector<double> &q = charges[c];
    of.sum->add_forces(q, sums, made);
    std::fill(slope.begin(), slope.end(), 0.0);
    for (const int i : charged) {
      const double own = 0.5 * q[i] * made[i];
      energy += own;
      if (eflag_atom) eatom[i] += unit * own;
      slope[i] = field_gradient[0][i * n_channels + c] + made[i];
    }
    if (fourth) {
      try {
        const std::vector<double> answer =
            of.sum->solve(slope, 0.0, predicted(*of.answers, false), to_ghosts, work.products);
        note(*of.answers, answer);
        of.sum->add_response(answer, q, sums);
        for (const int i : charged) slope[i] = -answer[i];
      } catch (const std::exception &failure) {  // on all ranks
        problem = failure.what();
      }
    } else {
      of.sum->remove_mean(slope, 0.0);
    }
    for (const int i : charged) field_gradient[0][i * n_channels + c] = slope[i];
  }
  if (eflag_global) eng_coul += unit * energy;
  if (request.members) totals.energies[member] += energy;
  for (const int i : charged) {
    const double *const force = forces.data() + 3 * static_cast<size_t>(i);
    if (!std::isfinite(energy + force[0] + force[1] + force[2]) && problem.empty()) problem = not_finite(i);
    for (int k = 0; k < 3; k++)
      if (member_rows)
        committee.force(i)[k] += force[k];
      else
        atom->f[i][k] += unit * force[k];
    for (int k = 0; k < 6 && vflag_atom; k++) vatom[i][k] += unit * virials[6 * static_cast<size_t>(i) + k];
  }
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += unit * total_virial[k];
  work.charges += platform::walltime() - start;
  return problem;
}
