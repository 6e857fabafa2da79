#include "extrapolation.h"

#include <algorithm>
#include <numeric>

namespace nnpkit {

namespace {
constexpr size_t MOST_DESCRIBED = 8;
}

void Extrapolation::begin_run(const ModelInfo &info) {
  elements = info.elements;
  n_functions = info.n_functions;
  step_counts.assign(elements.size() * n_functions, 0);
  run_counts = step_counts;
  step_total = run_total = 0;
}

void Extrapolation::add(const std::vector<int64_t> &by_function, int64_t total) {
  step_counts = by_function;
  step_total = total;
  run_total += total;
  for (size_t k = 0; k < run_counts.size(); k++) run_counts[k] += step_counts[k];
}

std::string Extrapolation::describe(bool whole_run, MPI_Comm world) const {
  const auto &mine = whole_run ? run_counts : step_counts;
  std::vector<int64_t> all(mine.size());
  MPI_Reduce(mine.data(), all.data(), static_cast<int>(mine.size()), MPI_INT64_T, MPI_SUM, 0, world);
  std::vector<size_t> order(all.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return all[a] > all[b]; });
  std::string text;
  size_t described = 0;
  for (const size_t k : order) {
    if (all[k] == 0) break;
    if (described++ == MOST_DESCRIBED) return text + ", and others";
    if (!text.empty()) text += ", ";
    text += elements[k / n_functions] + " function " + std::to_string(k % n_functions + 1) + ": " +
            std::to_string(all[k]);
  }
  return text;
}

}  // namespace nnpkit
