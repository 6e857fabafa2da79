#include "committee.h"

#include <algorithm>
#include <cmath>

namespace nnpkit {

void Committee::begin(int n_members, int n_all) {
  members = n_members;
  forces.assign(static_cast<size_t>(n_all) * 3 * members, 0.0);
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

void Committee::measure(const std::vector<int> &centers, int n_local, Totals &totals) {
  spreads.assign(n_local, 0.0);
  double largest = 0.0;
  for (const int i : centers) {
    double mean[3], variance = 0.0;
    mean_force(i, mean);
    const double *row = force(i);
    for (int k = 0; k < 3; k++)
      for (int m = 0; m < members; m++) {
        const double deviation = *row++ - mean[k];
        variance += deviation * deviation;
      }
    spreads[i] = std::sqrt(variance / members);
    totals.force_std += spreads[i];
    totals.force_std_max = std::max(totals.force_std_max, spreads[i]);
    largest = std::max(largest, mean[0] * mean[0] + mean[1] * mean[1] + mean[2] * mean[2]);
  }
  totals.largest_force = std::sqrt(largest);
}

double Committee::percentile(double percent, const std::vector<int> &centers, const Totals &totals,
                             MPI_Comm world) const {
  const auto n_atoms = std::llround(totals.atoms);
  if (members < 2 || n_atoms == 0) return 0.0;
  std::vector<double> values;
  values.reserve(centers.size());
  for (const int i : centers) values.push_back(spreads[i]);
  const auto rank = static_cast<int64_t>(std::ceil(percent / 100.0 * n_atoms));
  return nth_smallest(std::move(values), std::max<int64_t>(rank, 1), n_atoms, world);
}

double Committee::energy_std(const Totals &totals) {
  const auto n_members = static_cast<double>(totals.energies.size());
  double mean = 0.0, variance = 0.0;
  for (const double energy : totals.energies) mean += energy / n_members;
  for (const double energy : totals.energies) variance += (energy - mean) * (energy - mean) / n_members;
  return totals.atoms > 0.0 ? std::sqrt(variance) / totals.atoms : 0.0;
}

double Committee::memory_usage() const {
  return static_cast<double>(forces.capacity() + spreads.capacity()) * sizeof(double);
}

}  // namespace nnpkit
