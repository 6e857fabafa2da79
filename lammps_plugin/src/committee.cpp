#include "committee.h"

#include "collective.h"

#include <algorithm>
#include <cmath>

namespace nnpkit {

void Committee::begin(int n_members, int n_all) {
  members = n_members;
  forces.assign(static_cast<size_t>(n_all) * 3 * members, 0.0);
  energies.assign(members, 0.0);
}

void Committee::mean_force(int atom, double *f) const {
  const double *row = &forces[static_cast<size_t>(atom) * 3 * members];
  for (int k = 0; k < 3; k++) {
    double sum = 0.0;
    for (int m = 0; m < members; m++) sum += row[k * members + m];
    f[k] = sum / members;
  }
}

int Committee::pack(int n, int first, double *buffer) const {
  const size_t width = 3 * static_cast<size_t>(members);
  const double *const begin = forces.data() + first * width;
  std::copy(begin, begin + n * width, buffer);
  return static_cast<int>(n * width);
}

void Committee::unpack(int n, const int *list, const double *buffer) {
  const int width = 3 * members;
  for (int i = 0; i < n; i++) {
    double *const row = force(list[i]);
    for (int k = 0; k < width; k++) row[k] += *buffer++;
  }
}

Disagreement Committee::reduce(const std::vector<int> &centers, int n_local, double percentile,
                               MPI_Comm world) {
  spreads.assign(n_local, 0.0);
  std::vector<double> sums(members + 2, 0.0), values;
  values.reserve(centers.size());
  double largest[2] = {0.0, 0.0};
  for (const int i : centers) {
    double mean[3], variance = 0.0;
    mean_force(i, mean);
    const double *row = force(i);
    for (int k = 0; k < 3; k++)
      for (int m = 0; m < members; m++) {
        const double deviation = *row++ - mean[k];
        variance += deviation * deviation;
      }
    const double spread = std::sqrt(variance / members);
    spreads[i] = spread;
    values.push_back(spread);
    sums[members] += spread;
    largest[0] = std::max(largest[0], spread);
    largest[1] = std::max(largest[1], mean[0] * mean[0] + mean[1] * mean[1] + mean[2] * mean[2]);
  }
  sums[members + 1] = static_cast<double>(centers.size());
  std::copy(energies.begin(), energies.end(), sums.begin());
  MPI_Allreduce(MPI_IN_PLACE, sums.data(), members + 2, MPI_DOUBLE, MPI_SUM, world);
  MPI_Allreduce(MPI_IN_PLACE, largest, 2, MPI_DOUBLE, MPI_MAX, world);

  Disagreement all;
  all.n_atoms = std::llround(sums[members + 1]);
  all.force_max = largest[0];
  all.largest_force = std::sqrt(largest[1]);
  if (all.n_atoms == 0) return all;
  all.force_mean = sums[members] / all.n_atoms;
  const auto rank = static_cast<int64_t>(std::ceil(percentile / 100.0 * all.n_atoms));
  if (members > 1)
    all.force_percentile = nth_smallest(std::move(values), std::max<int64_t>(rank, 1), all.n_atoms, world);
  double mean = 0.0, variance = 0.0;
  for (int m = 0; m < members; m++) mean += sums[m] / members;
  for (int m = 0; m < members; m++) variance += (sums[m] - mean) * (sums[m] - mean) / members;
  all.energy = std::sqrt(variance) / all.n_atoms;
  return all;
}

double Committee::memory_usage() const {
  return static_cast<double>(forces.capacity() + spreads.capacity()) * sizeof(double);
}

}  // namespace nnpkit
