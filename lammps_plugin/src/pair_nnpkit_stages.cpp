// One step with a model of several stages: in between, atoms tell each other something through the ghosts.

#include "pair_nnpkit.h"

#include "atom.h"
#include "comm.h"
#include "neigh_list.h"
#include "platform.h"

#include <algorithm>
#include <stdexcept>

using namespace LAMMPS_NS;

/* ----------------------------------------------------------------------
   field s of all atoms, stage by stage; then, from the last stage to the first, dE by the edge vectors and by
   the fields, whose ghosts give theirs back to the owners. A rank where something went wrong goes on to
   communicate, as the others wait for it; what went wrong is the result
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_stages() {
  const auto &fields = model->info().fields;
  const int n_fields = static_cast<int>(fields.size());
  const size_t n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  const int inum = list->inum, step = (chunk > 0) ? chunk : std::max(inum, 1);
  std::string problem;
  const auto in_chunks = [&](int number, bool backward) {
    for (int first = 0; first < inum && problem.empty(); first += step)
      problem = run_stage(number, first, std::min(first + step, inum), backward);
  };
  const auto note = [&](const std::string &more) {
    if (problem.empty()) problem = more;
  };
  field.resize(n_fields);
  field_gradient.resize(n_fields);
  for (int s = 0; s < n_fields; s++) {
    field[s].assign(n_all * fields[s].width, 0.0);
    field_gradient[s].assign(n_all * fields[s].width, 0.0);
    in_chunks(s, false);
    if (!interactions.empty()) note(make_charges());
    exchange(field[s], fields[s].width, false);
  }
  for (int s = n_fields; s >= 0; s--) {
    in_chunks(s, true);
    if (s > 0) exchange(field_gradient[s - 1], fields[s - 1].width, true);
    if (s > 0 && !interactions.empty()) note(use_charges());
  }
  return problem;
}

/* ----------------------------------------------------------------------
   forward: a part of field `number`; backward: a part of the forces, and of the gradient by the field before
------------------------------------------------------------------------- */

std::string PairNNPKit::run_stage(int number, int first, int last, bool backward) {
  const auto &fields = model->info().fields;
  const bool is_last = number == static_cast<int>(fields.size());
  const size_t width = number > 0 ? fields[number - 1].width : 0, wide = is_last ? 1 : fields[number].width;
  const double start = platform::walltime();
  graph.build(*list, atom->x, types, element, model->info().cutoff, first, last);
  const auto n_atoms = static_cast<size_t>(graph.n_atoms()), n_edges = static_cast<size_t>(graph.n_edges());
  const auto gather = [](const std::vector<double> &from, const std::vector<int> &rows, size_t n,
                         size_t columns, std::vector<double> &to) {
    to.resize(n * columns);
    for (size_t k = 0; k < n && columns > 0; k++)
      std::copy_n(from.data() + rows[k] * columns, columns, to.data() + k * columns);
  };
  const auto scatter = [](const std::vector<double> &from, const std::vector<int> &rows, size_t n,
                          size_t columns, std::vector<double> &to) {
    for (size_t k = 0; k < n; k++)
      for (size_t c = 0; c < columns; c++) to[rows[k] * columns + c] += from[k * columns + c];
  };
  stage.own.clear();
  stage.theirs.clear();
  if (number > 0) {
    gather(field[number - 1], graph.center, n_atoms, width, stage.own);
    gather(field[number - 1], graph.neighbor, n_edges, width, stage.theirs);
  }
  if (backward && is_last)
    cotangent.assign(n_atoms, 1.0);
  else if (backward)
    gather(field_gradient[number], graph.center, n_atoms, wide, cotangent);
  stage.cotangent = backward ? cotangent.data() : nullptr;
  stage.features = is_last && request.features;
  stage.extrapolations = is_last && request.extrapolations;
  const double built = platform::walltime();
  work.graph += built - start;
  if (n_atoms == 0) return "";
  if (graph.closest_squared < nnpkit::SAME_PLACE_SQUARED) return same_place();
  try {
    model->evaluate_stage(number, graph, stage, stage_results, evaluation);
  } catch (const std::exception &failure) {
    return failure.what();
  }
  const double evaluated = platform::walltime();
  work.model += evaluated - built;
  if (!backward) {
    scatter(stage_results.values, graph.center, n_atoms, wide, field[number]);
    return "";
  }
  if (number > 0) {
    scatter(stage_results.own_gradient, graph.center, n_atoms, width, field_gradient[number - 1]);
    scatter(stage_results.their_gradient, graph.neighbor, n_edges, width, field_gradient[number - 1]);
  }
  if (is_last) {
    evaluation.atomic_energy = stage_results.values;
    note_features();
  } else {
    evaluation.atomic_energy.assign(n_atoms, 0.0);  // the last stage has said it all
  }
  const std::string problem = member_rows ? tally_members() : tally_chunk();
  work.tally += platform::walltime() - evaluated;
  return problem;
}

/* ----------------------------------------------------------------------
   stages that hear nothing of each other: one evaluation gives the energies and the field with the gradients
of both; once dE by the field is known, the sum of the gradients is that of the energy
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_stages_at_once() {
  const size_t width = model->info().fields[0].width, rows = 1 + width;
  const size_t n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  const int inum = list->inum, step = (chunk > 0) ? chunk : std::max(inum, 1);
  field.assign(1, std::vector<double>(n_all * width, 0.0));
  field_gradient.assign(1, std::vector<double>(n_all * width, 0.0));
  kept_energies.clear();
  kept_gradients.clear();
  nnpkit::Request all = request;
  all.members = true;
  std::string problem;
  for (int first = 0; first < inum && problem.empty(); first += step) {
    const double start = platform::walltime();
    graph.build(*list, atom->x, types, element, model->info().cutoff, first, std::min(first + step, inum));
    const double built = platform::walltime();
    work.graph += built - start;
    if (graph.n_atoms() == 0) continue;
    if (graph.closest_squared < nnpkit::SAME_PLACE_SQUARED) {
      problem = same_place();
      break;
    }
    try {
      model->evaluate(graph, all, evaluation);
    } catch (const std::exception &failure) {
      problem = failure.what();
      break;
    }
    note_features();
    for (int64_t a = 0; a < graph.n_atoms(); a++) {
      const double *const row = evaluation.atomic_energy.data() + a * rows;
      kept_energies.push_back(row[0]);
      std::copy_n(row + 1, width, field[0].data() + graph.center[a] * width);
    }
    kept_gradients.insert(kept_gradients.end(), evaluation.gradient.begin(), evaluation.gradient.end());
    work.model += platform::walltime() - built;
  }
  const std::string made = make_charges(), used = use_charges();  // all ranks come here
  if (problem.empty()) problem = made.empty() ? used : made;
  const double *energy = kept_energies.data(), *from = kept_gradients.data();
  for (int first = 0; first < inum && problem.empty(); first += step) {
    const double start = platform::walltime();
    if (step < inum)
      graph.build(*list, atom->x, types, element, model->info().cutoff, first, std::min(first + step, inum));
    evaluation.atomic_energy.assign(energy, energy + graph.n_atoms());
    evaluation.gradient.resize(3 * static_cast<size_t>(graph.n_edges()));
    energy += graph.n_atoms();
    double *to = evaluation.gradient.data();
    for (int64_t a = 0; a < graph.n_atoms(); a++) {
      const double *const slope = field_gradient[0].data() + graph.center[a] * width;
      for (int64_t n = 3 * (graph.offsets[a + 1] - graph.offsets[a]); n > 0; n--, from += rows) {
        double sum = from[0];
        for (size_t c = 0; c < width; c++) sum += slope[c] * from[1 + c];
        *to++ = sum;
      }
    }
    problem = member_rows ? tally_members() : tally_chunk();
    work.tally += platform::walltime() - start;
  }
  return problem;
}

/* ----------------------------------------------------------------------
   a graph of some of the atoms at a time, and what is to be done with it; again: those before were of this
step
------------------------------------------------------------------------- */

std::string PairNNPKit::over_chunks(bool again, const std::function<std::string()> &one) {
  const int inum = list->inum, step = (chunk > 0) ? chunk : std::max(inum, 1);
  for (int first = 0; first < inum; first += step) {
    const double start = platform::walltime();
    if (!again || step < inum)
      graph.build(*list, atom->x, types, element, model->info().cutoff, first, std::min(first + step, inum));
    work.graph += platform::walltime() - start;
    if (graph.n_atoms() == 0) continue;
    if (graph.closest_squared < nnpkit::SAME_PLACE_SQUARED) return same_place();
    try {
      const std::string problem = one();
      if (!problem.empty()) return problem;
    } catch (const std::exception &failure) {
      return failure.what();
    }
  }
  return "";
}

/* ----------------------------------------------------------------------
   energies that see the charges: the field with its gradient, charges, energies with theirs; once dE by the
   field is known, the sum of the gradients is that of the energy
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_with_charges() {
  const size_t n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  field.assign(1, std::vector<double>(n_all, 0.0));
  field_gradient.assign(1, std::vector<double>(n_all, 0.0));
  kept_energies.clear();
  kept_gradients.clear();
  kept_slopes.clear();
  const auto keep = [](const nnpkit::AlignedVector<double> &from, int64_t n, std::vector<double> &to) {
    to.insert(to.end(), from.begin(), from.begin() + n);
  };
  std::string problem = over_chunks(false, [&]() -> std::string {
    const double start = platform::walltime();
    model->evaluate_kernel(0, graph, nullptr, request, evaluation);
    for (int64_t a = 0; a < graph.n_atoms(); a++) field[0][graph.center[a]] = evaluation.atomic_energy[a];
    keep(evaluation.gradient, 3 * graph.n_edges(), kept_slopes);
    work.model += platform::walltime() - start;
    return "";
  });
  const std::string made = make_charges();  // all ranks come here
  if (problem.empty()) problem = made;
  if (problem.empty())
    problem = over_chunks(true, [&]() -> std::string {
      const double start = platform::walltime();
      cotangent.resize(graph.n_atoms());
      for (int64_t a = 0; a < graph.n_atoms(); a++) cotangent[a] = field[0][graph.center[a]];
      model->evaluate_kernel(1, graph, cotangent.data(), request, evaluation);
      note_features();
      for (int64_t a = 0; a < graph.n_atoms(); a++) {
        kept_energies.push_back(evaluation.atomic_energy[a]);
        field_gradient[0][graph.center[a]] = evaluation.charge_gradient[a];
      }
      keep(evaluation.gradient, 3 * graph.n_edges(), kept_gradients);
      work.model += platform::walltime() - start;
      return "";
    });
  const std::string used = use_charges();  // and here
  if (problem.empty()) problem = used;
  const double *energy = kept_energies.data(), *of_energy = kept_gradients.data(),
               *of_field = kept_slopes.data();
  if (problem.empty())
    problem = over_chunks(true, [&]() -> std::string {
      const double start = platform::walltime();
      evaluation.atomic_energy.assign(energy, energy + graph.n_atoms());
      evaluation.gradient.resize(3 * static_cast<size_t>(graph.n_edges()));
      energy += graph.n_atoms();
      double *to = evaluation.gradient.data();
      for (int64_t a = 0; a < graph.n_atoms(); a++) {
        const double slope = field_gradient[0][graph.center[a]];
        for (int64_t n = 3 * (graph.offsets[a + 1] - graph.offsets[a]); n > 0; n--)
          *to++ = *of_energy++ + slope * *of_field++;
      }
      const std::string told = member_rows ? tally_members() : tally_chunk();
      work.tally += platform::walltime() - start;
      return told;
    });
  return problem;
}

/* ----------------------------------------------------------------------
   members with charges of their own: each as if it were alone, with its share in the mean. A rank where
   something went wrong goes on with the next one, as the others wait for it
------------------------------------------------------------------------- */

std::string PairNNPKit::evaluate_members() {
  const int n_members = static_cast<int>(members.size()), n_all = atom->nlocal + atom->nghost;
  const nnpkit::Request wanted = request;
  std::vector<int64_t> counts;
  counts.swap(evaluation.function_extrapolations);
  nnpkit::Committee together;
  if (member_rows) together.begin(n_members, n_all);
  int first_function = 0;
  first_feature = 0;
  std::string problem;
  for (member = 0; member < n_members; member++) {
    model = members[member].get();
    const nnpkit::ModelInfo &own = model->info();
    request.extrapolations = wanted.extrapolations && own.n_functions > 0;
    request.features = wanted.features && own.describes;
    evaluation.function_extrapolations.assign(own.elements.size() * own.n_functions, 0);
    if (member_rows) committee.begin(1, n_all);
    const std::string told = evaluate_model();
    if (problem.empty()) problem = told;
    if (member_rows) together.take(member, committee);
    for (size_t e = 0; request.extrapolations && e < own.elements.size(); e++)
      std::copy_n(evaluation.function_extrapolations.data() + e * own.n_functions, own.n_functions,
                  counts.data() + e * whole.n_functions + first_function);
    first_function += own.n_functions;
    if (own.describes) first_feature += model->n_features();
  }
  member = first_feature = 0;
  model = members.front().get();
  request = wanted;
  evaluation.function_extrapolations.swap(counts);
  if (member_rows) std::swap(committee, together);
  return problem;
}

/* ----------------------------------------------------------------------
   owners to ghosts; backward: what ghosts have gathered is added to their owners
------------------------------------------------------------------------- */

void PairNNPKit::exchange(std::vector<double> &rows, int width, bool backward) {
  const double start = platform::walltime();
  travelling = &rows;
  travelling_width = width;
  if (backward)
    comm->reverse_comm(this, width);
  else
    comm->forward_comm(this, width);
  travelling = nullptr;
  work.graph += platform::walltime() - start;
}

/* ---------------------------------------------------------------------- */

int PairNNPKit::pack_forward_comm(int n, int *list, double *buffer, int /*pbc_flag*/, int * /*pbc*/) {
  if (!travelling) return 0;
  const auto width = static_cast<size_t>(travelling_width);
  for (int i = 0; i < n; i++) std::copy_n(travelling->data() + list[i] * width, width, buffer + i * width);
  return n * travelling_width;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::unpack_forward_comm(int n, int first, double *buffer) {
  if (!travelling) return;
  const auto width = static_cast<size_t>(travelling_width);
  std::copy_n(buffer, n * width, travelling->data() + first * width);
}
