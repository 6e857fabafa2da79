#include "potential.h"

#include "archive.h"
#include "cell_list.h"
#include "kernel_inputs.h"
#include "metadata.h"
#include "seal.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace nnpkit {

namespace {

constexpr int64_t CHUNK = 128;  // centres of a thread at once, so that their gradients stay in the cache

std::string read_file(const std::string &path) {
  FILE *const file = fopen(path.c_str(), "rb");
  if (!file) throw Failure(NNPKIT_NO_FILE, path + ": " + strerror(errno));
  std::string bytes;
  std::vector<char> buffer(1 << 16);
  while (const size_t n = fread(buffer.data(), 1, buffer.size(), file)) bytes.append(buffer.data(), n);
  const int problem = ferror(file) ? errno : 0;
  fclose(file);
  if (problem) throw Failure(NNPKIT_NO_FILE, path + ": " + strerror(problem));
  return bytes;
}

NamedArrays floating_arrays(const Archive &archive) {
  NamedArrays arrays;
  for (const auto &[name, tensor] : archive.tensors)
    if (tensor.floating) arrays[name] = tensor.array;
  return arrays;
}

StoredTest stored_test(const Archive &archive) {
  StoredTest test;
  const auto copy = [&](const std::string &name, auto &to) {
    const auto found = archive.tensors.find("test_" + name);
    if (found == archive.tensors.end()) throw std::runtime_error("the file has no self-test");
    const auto &values = found->second.array.values;
    to.assign(values.begin(), values.end());
  };
  copy("edge_vec", test.edge_vec);
  copy("neighbor_type", test.neighbor_type);
  copy("offsets", test.offsets);
  copy("types", test.types);
  copy("atomic_energy", test.atomic_energy);
  copy("edge_gradient", test.gradient);
  return test;
}

[[noreturn]] void refuse(const std::string &what) {
  throw Failure(NNPKIT_BAD_ARGUMENT, what);
}

// A number for each atom whose sums over different atoms do not agree by chance (splitmix64, Steele et al.
// 2014).
uint64_t weight(int64_t atom) {
  uint64_t z = static_cast<uint64_t>(atom + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ z >> 30U) * 0xbf58476d1ce4e5b9U;
  z = (z ^ z >> 27U) * 0x94d049bb133111ebU;
  return z ^ z >> 31U;
}

}  // namespace

Potential::Potential(const std::string &path, int threads) : n_threads(threads) {
  const std::string bytes = read_file(path);
  try {
    check_seal(bytes);
    const Archive archive = read_archive(bytes);
    description = parse_metadata(archive.metadata);
    if (!description.missing_baseline.empty())
      throw Failure(NNPKIT_NOT_COVERED, path + ": this is a correction to " + description.missing_baseline +
                                            ", which the file does not hold");
    if (!description.fields.empty())
      throw Failure(NNPKIT_NOT_COVERED, path + ": the model has stages, which only TorchScript evaluates");
    if (description.terms || description.different_terms)
      throw Failure(NNPKIT_NOT_COVERED,
                    path + ": the model has terms beside its networks, which only TorchScript evaluates");
    const std::vector<KernelInput> members = inputs_of_members(archive.metadata, floating_arrays(archive));
    std::string reason;
    model = FusedModel::make(members, Arithmetic::FLOAT64, -1, n_threads, reason);
    if (!model) throw Failure(NNPKIT_NOT_COVERED, path + ": " + reason);
    const Deviation found =
        model->deviation(stored_test(archive), static_cast<int64_t>(description.elements.size()));
    if (!found.is_within(model->with_tables(SELF_TEST)))
      throw std::runtime_error("the self-test stored in the file is not reproduced");
  } catch (const Failure &) {
    throw;
  } catch (const std::bad_alloc &) {
    throw;
  } catch (const std::exception &problem) {
    std::string text = problem.what();  // which may quote the file
    std::replace_if(text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    throw Failure(NNPKIT_BAD_MODEL, path + ": " + text);
  }
}

void Potential::check(const nnpkit_atoms &atoms, const nnpkit_neighbors &neighbors) const {
  const int64_t n = atoms.n_atoms, n_centers = neighbors.n_centers;
  const auto n_types = static_cast<int>(description.elements.size());
  if (n < 0 || n > INT_MAX) refuse("the number of atoms is negative or does not fit 31 bits");
  if (n > 0 && (!atoms.positions || !atoms.types)) refuse("atoms without positions or types");
  for (int64_t i = 0; i < n; i++) {
    if (atoms.types[i] >= n_types)
      refuse("atom " + std::to_string(i) + " has type " + std::to_string(atoms.types[i]) +
             ", but the potential knows " + std::to_string(n_types) + " elements");
    const double *const x = atoms.positions + 3 * i;
    if (!std::isfinite(x[0] + x[1] + x[2]))
      throw Failure(NNPKIT_BAD_STRUCTURE, "the position of atom " + std::to_string(i) + " is not finite");
  }
  if (n_centers < 0 || n_centers > n || !neighbors.offsets)
    refuse("centres that are no atoms, or no offsets");
  if (neighbors.offsets[0] != 0 || !std::is_sorted(neighbors.offsets, neighbors.offsets + n_centers + 1))
    refuse("the offsets of the neighbour list do not begin with 0, or fall");
  if (neighbors.offsets[n_centers] > 0 && !neighbors.neighbors) refuse("a neighbour list without neighbours");
  for (int64_t k = 0; k < neighbors.offsets[n_centers]; k++)
    if (neighbors.neighbors[k] < 0 || neighbors.neighbors[k] >= n)
      refuse("neighbour " + std::to_string(neighbors.neighbors[k]) + " is none of the " + std::to_string(n) +
             " atoms");
}

void Potential::evaluate(const nnpkit_atoms &atoms, const nnpkit_neighbors &neighbors,
                         nnpkit_results &results) {
  check(atoms, neighbors);
  const int64_t n_centers = neighbors.n_centers;
  const bool counts = model->n_functions() > 0;
  if (results.features && n_features() == 0)
    throw Failure(NNPKIT_NOT_COVERED, "the kernel of this model shows no features");
  Sums sums;
  sums.forces.assign(3 * static_cast<size_t>(atoms.n_atoms), 0.0);
  sums.is_center.assign(static_cast<size_t>(atoms.n_atoms), 0);
  for (int64_t k = 0; k < n_centers; k++) {
    const int64_t i = neighbors.centers ? neighbors.centers[k] : k;
    if (i < 0 || i >= atoms.n_atoms || sums.is_center[i])
      refuse("centres that are no atoms, or twice the same");
    if (atoms.types[i] < 0) refuse("atom " + std::to_string(i) + " is a centre and has no type");
    sums.is_center[i] = 1;
  }
  Request request;
  request.extrapolations = counts;
  request.features = results.features != nullptr;
  evaluation.function_extrapolations.assign(description.elements.size() * model->n_functions(), 0);
  const int64_t step = CHUNK * n_threads;
  for (int64_t first = 0; first < n_centers; first += step) {
    build_graph(atoms, neighbors, first, std::min(first + step, n_centers), sums);
    model->evaluate(graph, request, evaluation);
    add_up(sums);
    if (request.features)
      sums.features.insert(sums.features.end(), evaluation.features.begin(), evaluation.features.end());
  }
  if (sums.balance != 0)
    refuse(
        "the neighbour list is not full: of two neighbours each must have the other, with the opposite "
        "shift");
  for (const int64_t count : evaluation.function_extrapolations) sums.extrapolations += count;
  results.energy = sums.energy;
  std::copy_n(sums.virial, 9, results.virial);
  results.extrapolations = counts ? sums.extrapolations : -1;
  if (results.forces) std::copy(sums.forces.begin(), sums.forces.end(), results.forces);
  if (results.energies) std::copy(sums.energies.begin(), sums.energies.end(), results.energies);
  if (results.features) std::copy(sums.features.begin(), sums.features.end(), results.features);
}

void Potential::build_graph(const nnpkit_atoms &atoms, const nnpkit_neighbors &neighbors, int64_t first,
                            int64_t last, Sums &sums) {
  const double limit = description.cutoff * description.cutoff;
  const auto most = static_cast<size_t>(neighbors.offsets[last] - neighbors.offsets[first]);
  graph.offsets.assign(1, 0);
  graph.types.clear();
  graph.center.clear();
  graph.edge_vec.resize(3 * most);
  graph.neighbor_type.resize(most);
  graph.neighbor.resize(most);
  int64_t edge = 0;
  for (int64_t k = first; k < last; k++) {
    const int64_t i = neighbors.centers ? neighbors.centers[k] : k;
    const double *const xi = atoms.positions + 3 * i;
    for (int64_t p = neighbors.offsets[k]; p < neighbors.offsets[k + 1]; p++) {
      const int64_t j = neighbors.neighbors[p];
      if (atoms.types[j] < 0) continue;
      double *const d = graph.edge_vec.data() + 3 * edge;
      double square = 0.0;
      for (int c = 0; c < 3; c++) {  // exactly the opposite of what the neighbour sees
        d[c] = (atoms.positions[3 * j + c] - xi[c]) + (neighbors.shifts ? neighbors.shifts[3 * p + c] : 0.0);
        square += d[c] * d[c];
      }
      if (!(square < limit)) continue;
      if (square < SAME_PLACE_SQUARED)
        throw Failure(NNPKIT_BAD_STRUCTURE,
                      "atoms " + std::to_string(i) + " and " + std::to_string(j) + " are at the same place");
      if (sums.is_center[j]) sums.balance += weight(i) - weight(j);
      graph.neighbor_type[edge] = atoms.types[j];
      graph.neighbor[edge++] = static_cast<int>(j);
    }
    graph.types.push_back(atoms.types[i]);
    graph.center.push_back(static_cast<int>(i));
    graph.offsets.push_back(edge);
  }
  graph.set_size(last - first, edge);
}

// Adds up the edges i -> j, with g = dE/dr_ij, r_ij = x_j - x_i: F_i += g, F_j -= g, W -= r (x) g
void Potential::add_up(Sums &sums) const {
  const double *g = evaluation.gradient.data(), *r = graph.edge_vec.data();
  double virial[9] = {};
  for (int64_t a = 0; a < graph.n_atoms(); a++) {
    const double energy = evaluation.atomic_energy[a];
    double own[3] = {};
    for (int64_t e = graph.offsets[a]; e < graph.offsets[a + 1]; e++, g += 3, r += 3) {
      double *const other = sums.forces.data() + 3 * static_cast<int64_t>(graph.neighbor[e]);
      for (int c = 0; c < 3; c++) {
        own[c] += g[c];
        other[c] -= g[c];
        for (int b = 0; b < 3; b++) virial[3 * c + b] -= r[c] * g[b];
      }
    }
    if (!std::isfinite(energy + own[0] + own[1] + own[2]))
      throw Failure(NNPKIT_BAD_STRUCTURE, "energy or force of atom " + std::to_string(graph.center[a]) +
                                              " is not finite: atoms are too close");
    double *const force = sums.forces.data() + 3 * static_cast<int64_t>(graph.center[a]);
    for (int c = 0; c < 3; c++) force[c] += own[c];
    sums.energy += energy;
    sums.energies.push_back(energy);
  }
  for (int c = 0; c < 3; c++)  // symmetric, because the energy does not change with rotations
    for (int b = 0; b < 3; b++) sums.virial[3 * c + b] += 0.5 * (virial[3 * c + b] + virial[3 * b + c]);
}

void Potential::evaluate(const nnpkit_atoms &atoms, const double *cell, const int *periodic,
                         nnpkit_results &results) {
  if (atoms.n_atoms < 0 || (atoms.n_atoms > 0 && (!atoms.positions || !atoms.types)))
    refuse("atoms without positions or types");
  std::vector<int64_t> centers;  // atoms that the potential sees
  std::vector<double> positions;
  for (int64_t i = 0; i < atoms.n_atoms; i++) {
    if (atoms.types[i] < 0) continue;
    const double *const x = atoms.positions + 3 * i;
    if (!std::isfinite(x[0] + x[1] + x[2]))
      throw Failure(NNPKIT_BAD_STRUCTURE, "the position of atom " + std::to_string(i) + " is not finite");
    centers.push_back(i);
    positions.insert(positions.end(), x, x + 3);
  }
  CellList list;
  try {
    list = find_neighbors(static_cast<int64_t>(centers.size()), positions.data(), cell, periodic,
                          description.cutoff);
  } catch (const std::invalid_argument &problem) {
    refuse(problem.what());
  }
  for (int64_t &neighbor : list.neighbors) neighbor = centers[neighbor];
  const nnpkit_neighbors neighbors{static_cast<int64_t>(centers.size()), centers.data(), list.offsets.data(),
                                   list.neighbors.data(), list.shifts.data()};
  const size_t n = centers.size(), n_all = static_cast<size_t>(atoms.n_atoms), width = n_features();
  std::vector<double> energies(results.energies ? n : 0), features(results.features ? n * width : 0);
  nnpkit_results found = results;
  found.energies = results.energies ? energies.data() : nullptr;
  found.features = results.features ? features.data() : nullptr;
  evaluate(atoms, neighbors, found);
  std::copy_n(found.virial, 9, results.virial);
  results.energy = found.energy;
  results.extrapolations = found.extrapolations;
  if (results.energies) std::fill_n(results.energies, n_all, 0.0);
  if (results.features) std::fill_n(results.features, n_all * width, 0.0);
  for (size_t a = 0; a < n; a++) {
    if (results.energies) results.energies[centers[a]] = energies[a];
    if (results.features)
      std::copy_n(features.data() + a * width, width, results.features + centers[a] * width);
  }
}

}  // namespace nnpkit
