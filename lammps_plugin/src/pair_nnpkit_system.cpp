// One step with kernels that make forces and virial themselves, on a GPU: all atoms of the rank at once.

#include "pair_nnpkit.h"

#include "evaluator.h"

#include "atom.h"
#include "neigh_list.h"
#include "platform.h"

#include <cmath>
#include <stdexcept>

using namespace LAMMPS_NS;

static constexpr int CENTER = 11;  // numbers of a centre, see system.h

/* ----------------------------------------------------------------------
   what went wrong on this rank, empty if nothing did
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_system() {
  const double start = platform::walltime();
  const int n_all = atom->nlocal + atom->nghost;
  nnpkit::System system{};
  system.n_all = n_all;
  system.new_lists = lists.update(*list, types, n_all, element);
  system.positions = n_all > 0 ? atom->x[0] : nullptr;
  system.types = lists.types.data();
  system.n_centers = static_cast<int>(lists.centers.size());
  system.centers = lists.centers.data();
  system.offsets = lists.offsets.data();
  system.neighbors = lists.neighbors.data();
  system.per_center = eflag_atom || vflag_atom;
  system.members = request.members;
  system.extrapolations = request.extrapolations;
  system.chunk = chunk;
  const double listed = platform::walltime();
  work.graph += listed - start;
  nnpkit::SystemResults results;
  try {
    model->evaluate(system, results);
  } catch (const std::exception &failure) {
    lists.current = false;
    return failure.what();
  }
  const double evaluated = platform::walltime();
  work.model += evaluated - listed;
  graph.closest_squared = results.closest_squared;
  if (results.closest_squared < nnpkit::SAME_PLACE_SQUARED) return same_place();

  // off-diagonal elements: the mean of both halves, as in tally_virial
  const auto virial_of = [](const double *w, int k) { return k < 3 ? w[k] : 0.5 * (w[k] + w[k + 3]); };
  if (eflag_global) eng_vdwl += energy_unit * results.energy;
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += energy_unit * virial_of(results.virial, k);
  for (int a = 0; system.per_center && a < system.n_centers; a++) {
    const int i = lists.centers[a];
    const double *const row = results.centers + static_cast<bigint>(a) * CENTER;
    if (eflag_atom) eatom[i] += energy_unit * row[0];
    if (vflag_atom)
      for (int k = 0; k < 6; k++) vatom[i][k] += energy_unit * virial_of(row + 1, k);
  }
  if (request.extrapolations) {
    for (int a = 0; a < system.n_centers; a++)
      latest.extrapolations[lists.centers[a]] = static_cast<double>(results.atom_extrapolations[a]);
    for (size_t k = 0; k < evaluation.function_extrapolations.size(); k++)
      evaluation.function_extrapolations[k] += static_cast<int64_t>(results.function_extrapolations[k]);
  }
  double **f = atom->f;
  const int width = 3 * results.n_rows;
  for (int i = 0; i < n_all; i++) {
    const double *const force = results.forces + static_cast<bigint>(i) * width;
    double sum = 0.0;
    for (int k = 0; k < width; k++) sum += force[k];
    if (!std::isfinite(sum)) return not_finite(i);
    for (int k = 0; k < 3 && !member_rows; k++) f[i][k] += energy_unit * force[k];
  }
  if (member_rows) committee.take(results.forces);
  if (request.members) totals.energies.assign(results.energies, results.energies + results.n_rows);
  work.tally += platform::walltime() - evaluated;
  if (!std::isfinite(results.energy)) return "the energy is not finite: atoms are too close or lost";
  return "";
}
