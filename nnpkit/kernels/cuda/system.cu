// Forces and virial of a system.

#include "cuda_kernel.h"

#include <algorithm>
#include <climits>

namespace nnpkit {
namespace cuda {

namespace {

constexpr int CENTER = 11;  // energy, nine of the virial, square of the shortest distance

struct SystemTask {
  DeviceEdges edges;
  int n_rows, first_only;  // members, and whether energy and virial are those of the first or the mean
  const int *centers, *neighbors;  // of the chunk: atoms of the rank
  const double *positions, *energy, *gradient;
  const int *atom_types;
  double *edge_vec, *forces, *rows;  // rows (centres, CENTER)
  int *neighbor_type;
};

// Edge vectors of all pairs in the lists, and the shortest around every centre.
__global__ void edges_of_centers(SystemTask task) {
  const int atom = item_of_warp(task.edges.n_atoms), lane = threadIdx.x % WARP;
  if (atom < 0) return;
  const Slots slots = slots_of(task.edges, atom);
  const double *const center = task.positions + 3 * static_cast<int64_t>(task.centers[atom]);
  const double x = center[0], y = center[1], z = center[2];
  double closest = INFINITY;
  for (int e = slots.begin + lane; e < slots.begin + slots.n; e += WARP) {
    const int neighbor = task.neighbors[e], type = task.atom_types[neighbor];
    const double *const other = task.positions + 3 * static_cast<int64_t>(neighbor);
    const double dx = other[0] - x, dy = other[1] - y, dz = other[2] - z, r2 = dx * dx + dy * dy + dz * dz;
    double *const to = task.edge_vec + 3 * static_cast<int64_t>(e);
    to[0] = dx;
    to[1] = dy;
    to[2] = dz;
    task.neighbor_type[e] = type;
    if (type >= 0 && r2 < closest) closest = r2;
  }
  for (int mask = WARP / 2; mask > 0; mask /= 2) {
    const double other = __shfl_xor_sync(ALL_LANES, closest, mask);
    if (other < closest) closest = other;
  }
  if (lane == 0) task.rows[static_cast<int64_t>(atom) * CENTER + CENTER - 1] = closest;
}

// Energy and virial of every centre; with g = dE/dr_ij, F_i += g for every member. A centre is nobody else's.
__global__ void sums_of_centers(SystemTask task) {
  const int atom = item_of_warp(task.edges.n_atoms), lane = threadIdx.x % WARP;
  if (atom < 0) return;
  const Slots slots = slots_of(task.edges, atom);
  const int n_rows = task.n_rows, n_counted = task.first_only ? 1 : n_rows;
  double *const force = task.forces + 3 * static_cast<int64_t>(task.centers[atom]) * n_rows;
  double virial[9] = {};  // xx yy zz xy xz yz yx zx zy
  for (int row = 0; row < n_rows; row++) {
    double sum[3] = {};
    for (int e = slots.begin + lane; e < slots.begin + slots.n; e += WARP) {
      const double *const r = task.edge_vec + 3 * static_cast<int64_t>(e);
      const double *const at = task.gradient + 3 * static_cast<int64_t>(e) * n_rows + row;
      const double g[3] = {at[0], at[n_rows], at[2 * n_rows]};
      for (int c = 0; c < 3; c++) sum[c] += g[c];
      if (row >= n_counted) continue;
      for (int c = 0; c < 3; c++) virial[c] -= r[c] * g[c];
      virial[3] -= r[0] * g[1];
      virial[4] -= r[0] * g[2];
      virial[5] -= r[1] * g[2];
      virial[6] -= r[1] * g[0];
      virial[7] -= r[2] * g[0];
      virial[8] -= r[2] * g[1];
    }
    for (int c = 0; c < 3; c++) {
      sum[c] = sum_of_warp(sum[c]);
      if (lane == 0) force[c * n_rows + row] += sum[c];
    }
  }
  for (int k = 0; k < 9; k++) virial[k] = sum_of_warp(virial[k]);
  if (lane != 0) return;
  double *const to = task.rows + static_cast<int64_t>(atom) * CENTER;
  double energy = 0.0;
  for (int row = 0; row < n_counted; row++) energy += task.energy[static_cast<int64_t>(atom) * n_rows + row];
  to[0] = energy / n_counted;
  for (int k = 0; k < 9; k++) to[1 + k] = virial[k] / n_counted;
}

// F_j -= g of every member, over the slots in which j is the neighbour: no two warps add to the same atom.
__global__ void forces_on_neighbors(int n_atoms, int n_rows, const int *atoms, const int *first,
                                    const int *slots, const double *gradient, double *forces) {
  const int at = item_of_warp(n_atoms), lane = threadIdx.x % WARP;
  if (at < 0) return;
  double *const force = forces + 3 * static_cast<int64_t>(atoms[at]) * n_rows;
  for (int row = 0; row < n_rows; row++) {
    double sum[3] = {};
    for (int k = first[at] + lane; k < first[at + 1]; k += WARP) {
      const double *const g = gradient + 3 * static_cast<int64_t>(slots[k]) * n_rows + row;
      for (int c = 0; c < 3; c++) sum[c] += g[c * n_rows];
    }
    for (int c = 0; c < 3; c++) sum[c] = sum_of_warp(sum[c]);
    if (lane != 0) continue;
    for (int c = 0; c < 3; c++) force[c * n_rows + row] -= sum[c];
  }
}

// Energy of every member, over the centres of a part: one block each, added to what is there.
__global__ void sum_of_members(int n_atoms, int n_rows, const double *energy, double *sums) {
  __shared__ double shared[WARPS];
  const int row = blockIdx.x, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  double sum = 0.0;
  for (int i = threadIdx.x; i < n_atoms; i += THREADS) sum += energy[static_cast<int64_t>(i) * n_rows + row];
  sum = sum_of_warp(sum);
  if (lane == 0) shared[warp] = sum;
  __syncthreads();
  if (threadIdx.x > 0) return;
  double total = 0.0;
  for (int w = 0; w < WARPS; w++) total += shared[w];
  sums[row] += total;
}

// One row per block: sums of the rows that are its turn, the smallest in the last column.
__global__ void sum_rows(const double *rows, int n, double *result) {
  __shared__ double shared[WARPS][CENTER];
  double sum[CENTER] = {};
  sum[CENTER - 1] = INFINITY;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const double *const row = rows + static_cast<int64_t>(i) * CENTER;
    for (int k = 0; k < CENTER - 1; k++) sum[k] += row[k];
    if (row[CENTER - 1] < sum[CENTER - 1]) sum[CENTER - 1] = row[CENTER - 1];
  }
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  for (int k = 0; k < CENTER - 1; k++) sum[k] = sum_of_warp(sum[k]);
  for (int mask = WARP / 2; mask > 0; mask /= 2) {
    const double other = __shfl_xor_sync(ALL_LANES, sum[CENTER - 1], mask);
    if (other < sum[CENTER - 1]) sum[CENTER - 1] = other;
  }
  for (int k = 0; k < CENTER; k++)
    if (lane == 0) shared[warp][k] = sum[k];
  __syncthreads();
  const int k = threadIdx.x;
  if (k >= CENTER) return;
  double total = shared[0][k];
  for (int w = 1; w < WARPS; w++)
    total = k < CENTER - 1 ? total + shared[w][k] : shared[w][k] < total ? shared[w][k] : total;
  result[blockIdx.x * CENTER + k] = total;
}

}  // namespace

void CudaKernel::evaluate(const System &system, SystemResults &results) {
  evaluate_system(system, false, results);
}

void CudaKernel::evaluate_around_the_first(const System &system, SystemResults &results) {
  evaluate_system(system, true, results);
}

void CudaKernel::evaluate_system(const System &system, bool around_the_first, SystemResults &results) {
  check(cudaSetDevice(device), "choosing the device");
  const int64_t n_all = system.n_all, n_centers = system.n_centers, n_rows = system.members ? members : 1;
  const int64_t n_forces = 3 * n_all * n_rows,
                n_functions_of_all = static_cast<int64_t>(n_types) * n_functions();
  const int64_t n_counts = system.extrapolations ? n_centers + n_functions_of_all : 0;
  if (system.new_lists) {
    keep_lists(system);
    keep_types(system);
  }
  std::copy_n(system.positions, 3 * n_all, positions.host(3 * n_all));
  positions.send(3 * n_all, stream);
  cleared(forces, n_forces, stream);
  if (n_rows > 1) cleared(member_energies, n_rows, stream);
  cleared(counts, n_counts, stream);
  centers.room(n_centers * CENTER + 1);
  for (const Part &part : lists.parts) evaluate_part(system, around_the_first, part);

  constexpr int BLOCKS = 256;
  double *const partial = totals.room((BLOCKS + 1) * CENTER);
  launch(sum_rows, BLOCKS, THREADS, 0, stream, static_cast<const double *>(centers.get()),
         static_cast<int>(n_centers), partial + CENTER);
  launch(sum_rows, 1, THREADS, 0, stream, static_cast<const double *>(partial + CENTER), BLOCKS, partial);
  const int64_t n_per_center = system.per_center ? n_centers * CENTER : 0;
  double *const back = results_back.room(CENTER + n_rows + n_forces + n_per_center);
  double *const energies_back = back + CENTER, *const forces_back = energies_back + n_rows;
  unsigned long long *const counted = counts_back.room(n_counts + 1);
  fetch(back, partial, CENTER, stream);
  if (n_rows > 1) fetch(energies_back, member_energies.get(), n_rows, stream);
  fetch(forces_back, forces.get(), n_forces, stream);
  fetch(forces_back + n_forces, centers.get(), n_per_center, stream);
  fetch(counted, counts.get(), n_counts, stream);
  check(cudaStreamSynchronize(stream), "evaluating the model");
  results.energy = back[0];
  std::copy_n(back + 1, 9, results.virial);
  results.closest_squared = back[CENTER - 1];
  if (n_rows == 1) energies_back[0] = results.energy;
  results.n_rows = static_cast<int>(n_rows);
  results.forces = forces_back;
  results.energies = energies_back;
  results.centers = system.per_center ? forces_back + n_forces : nullptr;
  results.atom_extrapolations = system.extrapolations ? counted : nullptr;
  results.function_extrapolations = system.extrapolations ? counted + n_centers : nullptr;
}

void CudaKernel::evaluate_part(const System &system, bool around_the_first, const Part &part) {
  const int n_atoms = part.end - part.begin, n_rows = system.members ? members : 1;
  SystemTask task{};
  task.n_rows = n_rows;
  task.first_only = around_the_first;
  task.edges = {n_atoms,
                part.n_slots,
                part.base,
                lists.first.get() + part.begin,
                system_vec.room(3 * static_cast<int64_t>(lists.most_slots) + 1),
                system_type.room(lists.most_slots + 1),
                lists.center_types.get() + part.begin,
                lists.order.get() + part.begin};
  task.centers = lists.centers.get() + part.begin;
  task.neighbors = lists.neighbors.get() + part.base;
  task.positions = positions.device();
  task.atom_types = lists.atom_types.get();
  task.edge_vec = system_vec.get();
  task.neighbor_type = system_type.get();
  task.forces = forces.get();
  task.rows = centers.get() + static_cast<int64_t>(part.begin) * CENTER;
  const int64_t blocks = blocks_for(n_atoms, WARPS);
  launch(edges_of_centers, blocks, THREADS, 0, stream, task);
  DeviceResults results{n_rows, cleared(energy, static_cast<int64_t>(n_atoms) * n_rows, stream),
                        cleared(gradient, 3 * static_cast<int64_t>(part.n_slots) * n_rows, stream), nullptr,
                        nullptr};
  if (system.extrapolations) {
    results.per_atom = counts.get() + part.begin;
    results.per_function = counts.get() + system.n_centers;
  }
  run({task.edges, results, part.most_slots, part.type_begin.data()});
  task.energy = results.energy;
  task.gradient = results.gradient;
  launch(sums_of_centers, blocks, THREADS, 0, stream, task);
  if (n_rows > 1)
    launch(sum_of_members, n_rows, THREADS, 0, stream, n_atoms, n_rows,
           static_cast<const double *>(results.energy), member_energies.get());
  launch(forces_on_neighbors, blocks_for(part.n_atoms, WARPS), THREADS, 0, stream, part.n_atoms, n_rows,
         static_cast<const int *>(lists.reverse_atom.get() + part.first_atom),
         static_cast<const int *>(lists.reverse_first.get() + part.first_atom),
         static_cast<const int *>(lists.reverse_slot.get()), results.gradient, forces.get());
}

// Chunks, and for each of them its slots sorted by neighbour.
void CudaKernel::keep_lists(const System &system) {
  const int n_centers = system.n_centers;
  if (system.offsets[n_centers] > INT_MAX) throw std::runtime_error("too many neighbours for one GPU");
  lists.parts.clear();
  lists.most_slots = 0;
  std::vector<int> first(system.offsets, system.offsets + n_centers + 1), atoms, atom_first,
      count(system.n_all);
  std::vector<int> slots(first.back());
  for (int begin = 0; begin < n_centers;) {
    int end = begin + 1, most = first[end] - first[begin];
    const int limit = system.chunk > 0 ? system.chunk : CHUNK_ATOMS;
    for (; end < n_centers && end - begin < limit && first[end + 1] - first[begin] <= CHUNK_SLOTS; end++)
      most = std::max(most, first[end + 1] - first[end]);
    const int base = first[begin], n_slots = first[end] - base, first_atom = static_cast<int>(atoms.size());
    for (int e = base; e < base + n_slots; e++)
      if (count[system.neighbors[e]]++ == 0) atoms.push_back(system.neighbors[e]);
    int at = base;
    for (size_t a = first_atom; a < atoms.size(); a++) {
      atom_first.push_back(at);
      at += count[atoms[a]];
      count[atoms[a]] = atom_first.back();
    }
    for (int e = base; e < base + n_slots; e++) slots[count[system.neighbors[e]]++] = e - base;
    for (size_t a = first_atom; a < atoms.size(); a++) count[atoms[a]] = 0;
    const int n_atoms = static_cast<int>(atoms.size()) - first_atom;
    lists.parts.push_back({begin, end, base, n_slots, most, first_atom, n_atoms, {}});
    lists.most_slots = std::max(lists.most_slots, n_slots);
    begin = end;
  }
  atom_first.push_back(first.back());
  copy(lists.centers, system.centers, n_centers, stream);
  copy(lists.first, first.data(), n_centers + 1, stream);
  copy(lists.neighbors, system.neighbors, first.back(), stream);
  copy(lists.reverse_atom, atoms.data(), static_cast<int64_t>(atoms.size()), stream);
  copy(lists.reverse_first, atom_first.data(), static_cast<int64_t>(atom_first.size()), stream);
  copy(lists.reverse_slot, slots.data(), first.back(), stream);
}

// The elements of the atoms, and the atoms of every chunk by element.
void CudaKernel::keep_types(const System &system) {
  std::vector<int> types(system.n_centers), order(system.n_centers);
  for (int i = 0; i < system.n_centers; i++) types[i] = system.types[system.centers[i]];
  for (Part &part : lists.parts)
    sort_by_type(types.data() + part.begin, part.end - part.begin, n_types, order.data() + part.begin,
                 part.type_begin);
  copy(lists.atom_types, system.types, system.n_all, stream);
  copy(lists.center_types, types.data(), system.n_centers, stream);
  copy(lists.order, order.data(), system.n_centers, stream);
}

}  // namespace cuda
}  // namespace nnpkit
