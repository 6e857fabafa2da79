// Edges from the host to the device, results back, and the wall.

#include "cuda_kernel.h"

#include "json.h"
#include "zbl.h"

#include <algorithm>
#include <climits>

namespace nnpkit {
namespace cuda {

namespace {

// nnpkit.models.short_range.ZblRepulsion or, with a table, TabulatedZbl, as in wall.cpp
struct WallTask {
  int n_types, row;
  double share;
  const double *outer, *table, *charge, *power;
};

__global__ void wall_of_atoms(DeviceEdges edges, DeviceResults results, WallTask task) {
  const int atom = item_of_warp(edges.n_atoms), lane = threadIdx.x % WARP;
  if (atom < 0) return;
  const Slots slots = slots_of(edges, atom);
  const int a = edges.types[atom];
  double sum = 0.0;
  for (int e = slots.begin + lane; e < slots.begin + slots.n; e += WARP) {
    const int b = edges.neighbor_type[e];
    if (b < 0) continue;
    const double *const v = edges.edge_vec + 3 * static_cast<int64_t>(e);
    const double r = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), end = task.outer[a * task.n_types + b];
    double slope, curvature;
    if (!(r < end)) continue;
    const double charges = task.charge[a] * task.charge[b], powers = task.power[a] + task.power[b];
    if (task.table)
      sum +=
          tabulated_repulsion(task.table + 10 * (a * task.n_types + b), charges, powers, r, slope, curvature);
    else
      sum += zbl_repulsion(charges, powers, end, r, slope);
    double *const to = results.gradient + 3 * static_cast<int64_t>(e) * results.n_rows + task.row;
    for (int c = 0; c < 3; c++) to[c * results.n_rows] += task.share * slope / r * v[c];
  }
  sum = sum_of_warp(sum);
  if (lane == 0) results.energy[static_cast<int64_t>(atom) * results.n_rows + task.row] += task.share * sum;
}

}  // namespace

// Atoms of one element after the other. Throws for one that the model does not have.
void sort_by_type(const int *types, int n, int n_types, int *order, std::vector<int> &begin) {
  begin.assign(n_types + 1, 0);
  for (int i = 0; i < n; i++) {
    if (types[i] < 0 || types[i] >= n_types) throw std::runtime_error("an atom of unknown type");
    begin[types[i] + 1]++;
  }
  for (int t = 0; t < n_types; t++) begin[t + 1] += begin[t];
  std::vector<int> next = begin;
  for (int i = 0; i < n; i++) order[next[types[i]]++] = i;
}

CudaKernel::CudaKernel(const std::vector<KernelInput> &inputs, int device)
    : device(device), members(static_cast<int>(inputs.size())) {
  check(cudaSetDevice(device), "choosing the device");
  check(cudaStreamCreate(&stream), "a stream");
  n_types = static_cast<int>(Json::parse(inputs.at(0).metadata).at("elements").strings().size());
  for (const KernelInput &input : inputs) {
    const Wall wall(input.metadata);
    walls.push_back({wall.cutoff(), wall.empty() ? nullptr : storage.keep(wall.outer_distances()),
                     wall.tables().empty() ? nullptr : storage.keep(wall.tables())});
    if (wall.empty()) continue;
    wall_charge = storage.keep(wall.charges());
    wall_power = storage.keep(wall.charge_powers());
  }
}

CudaKernel::~CudaKernel() {
  cudaSetDevice(device);
  cudaStreamDestroy(stream);
}

void CudaKernel::run(const Chunk &chunk) {
  enqueue(chunk);
  const bool mean = chunk.results.n_rows == 1;
  for (int m = 0; m < members; m++)
    if (walls[m].longest > 0.0)
      launch(wall_of_atoms, blocks_for(chunk.edges.n_atoms, WARPS), THREADS, 0, stream, chunk.edges,
             chunk.results,
             WallTask{n_types, mean ? 0 : m, mean ? 1.0 / members : 1.0, walls[m].outer, walls[m].table,
                      wall_charge, wall_power});
}

// ---- edges from the host ---------------------------------------------------------------------------------
void CudaKernel::evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) {
  (void)timing;  // the stages overlap
  check(cudaSetDevice(device), "choosing the device");
  for (int64_t begin = 0; begin < edges.n_atoms;) {
    int64_t end = begin + 1;
    while (end < edges.n_atoms && end - begin < CHUNK_ATOMS &&
           edges.offsets[end + 1] - edges.offsets[begin] <= CHUNK_SLOTS)
      end++;
    evaluate_chunk(edges, begin, end, results, mean_only ? 1 : members);
    begin = end;
  }
}

void CudaKernel::evaluate_chunk(const Edges &edges, int64_t begin, int64_t end, const Results &results,
                                int n_rows) {
  const int64_t base = edges.offsets[begin], slots = edges.offsets[end] - base;
  if (slots < 0 || slots > INT_MAX / 8) throw std::runtime_error("offsets that make no sense");
  const int n_atoms = static_cast<int>(end - begin), n_slots = static_cast<int>(slots);
  int *const to_first = first.host(n_atoms + 1), *const to_types = types.host(n_atoms);
  int most = 0;
  for (int i = 0; i <= n_atoms; i++) {
    to_first[i] = static_cast<int>(edges.offsets[begin + i] - base);
    if (i == 0) continue;
    if (to_first[i] < to_first[i - 1]) throw std::runtime_error("offsets that make no sense");
    most = std::max(most, to_first[i] - to_first[i - 1]);
    const int64_t type = edges.types[begin + i - 1];
    to_types[i - 1] = type >= 0 && type < n_types ? static_cast<int>(type) : -1;
  }
  std::vector<int> type_begin;
  sort_by_type(to_types, n_atoms, n_types, order.host(n_atoms), type_begin);
  int *const to_neighbor = neighbor_type.host(n_slots);
  for (int e = 0; e < n_slots; e++) {
    const int64_t type = edges.neighbor_type[base + e];
    if (type < 0 || type >= n_types) throw std::runtime_error("a neighbour of unknown type");
    to_neighbor[e] = static_cast<int>(type);
  }
  std::copy_n(edges.edge_vec + 3 * base, 3 * slots, edge_vec.host(3 * slots));

  const int64_t n_energies = static_cast<int64_t>(n_rows) * n_atoms, n_gradients = 3 * slots * n_rows;
  const bool counting = results.atom_extrapolations && n_functions() > 0;
  const int64_t n_counts = counting ? n_atoms + static_cast<int64_t>(n_types) * n_functions() : 0;
  Chunk chunk{};
  chunk.edges = {n_atoms,
                 n_slots,
                 0,
                 first.send(n_atoms + 1, stream),
                 edge_vec.send(3 * slots, stream),
                 neighbor_type.send(n_slots, stream),
                 types.send(n_atoms, stream),
                 order.send(n_atoms, stream)};
  chunk.most_slots = most;
  chunk.type_begin = type_begin.data();
  chunk.results = {n_rows, cleared(energy, n_energies, stream), cleared(gradient, n_gradients, stream),
                   nullptr, nullptr};
  if (counting) {
    chunk.results.per_atom = cleared(counts, n_counts, stream);
    chunk.results.per_function = chunk.results.per_atom + n_atoms;
  }
  run(chunk);
  double *const back = results_back.room(n_energies + n_gradients);
  fetch(back, chunk.results.energy, n_energies, stream);
  fetch(back + n_energies, chunk.results.gradient, n_gradients, stream);
  unsigned long long *const counted = counts_back.room(n_counts + 1);
  fetch(counted, chunk.results.per_atom, n_counts, stream);
  check(cudaStreamSynchronize(stream), "evaluating the model");

  std::copy_n(back, n_energies, results.atomic_energy + n_rows * begin);
  std::copy_n(back + n_energies, n_gradients, results.gradient + 3 * n_rows * (base - edges.offsets[0]));
  if (results.atom_extrapolations)
    for (int i = 0; i < n_atoms; i++)
      results.atom_extrapolations[begin + i] = counting ? static_cast<int64_t>(counted[i]) : 0;
  if (results.function_extrapolations)
    for (int64_t k = n_atoms; k < n_counts; k++)
      results.function_extrapolations[k - n_atoms] += static_cast<int64_t>(counted[k]);
}

}  // namespace cuda
}  // namespace nnpkit
