#include "history.h"

#include <algorithm>
#include <unordered_map>

namespace nnpkit {

namespace {

constexpr size_t MOST = 8;  // that are kept: of more, what is left of the errors of each would grow too much

}  // namespace

void History::follow(const std::vector<int64_t> &tags) {
  int moved = tags != known;
  MPI_Allreduce(MPI_IN_PLACE, &moved, 1, MPI_INT, MPI_MAX, world);
  if (!moved) return;
  std::unordered_map<int64_t, size_t> at;
  for (size_t i = 0; i < known.size(); i++) at[known[i]] = i;
  std::vector<int64_t> lost;
  for (const int64_t tag : tags)
    if (at.find(tag) == at.end()) lost.push_back(tag);
  known = tags;
  if (past.empty()) return;
  // who has what others lack: all ranks hear of it, as few atoms move at a time
  int ranks, mine = static_cast<int>(lost.size());
  MPI_Comm_size(world, &ranks);
  std::vector<int> counts(ranks), starts(ranks, 0);
  MPI_Allgather(&mine, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  for (int k = 1; k < ranks; k++) starts[k] = starts[k - 1] + counts[k - 1];
  std::vector<int64_t> wanted(static_cast<size_t>(starts.back()) + counts.back());
  MPI_Allgatherv(lost.data(), mine, MPI_INT64_T, wanted.data(), counts.data(), starts.data(), MPI_INT64_T,
                 world);
  std::vector<double> answers(wanted.size() * past.size(), 0.0);
  std::unordered_map<int64_t, size_t> place;
  for (size_t w = 0; w < wanted.size(); w++) {
    place[wanted[w]] = w;
    const auto found = at.find(wanted[w]);
    for (size_t n = 0; n < past.size() && found != at.end(); n++)
      answers[w * past.size() + n] = past[n][found->second];
  }
  if (!answers.empty())
    MPI_Allreduce(MPI_IN_PLACE, answers.data(), static_cast<int>(answers.size()), MPI_DOUBLE, MPI_SUM, world);
  for (size_t n = 0; n < past.size(); n++) {
    std::vector<double> moved_here;
    for (const int64_t tag : tags) {
      const auto found = at.find(tag);
      moved_here.push_back(found != at.end() ? past[n][found->second]
                                             : answers[place[tag] * past.size() + n]);
    }
    past[n].swap(moved_here);
  }
}

std::vector<double> History::predict_from(size_t n) const {
  std::vector<double> found(known.size(), 0.0);
  double factor = static_cast<double>(n);  // binomial coefficients with alternating signs
  for (size_t k = 0; k < n; k++) {
    for (size_t i = 0; i < found.size(); i++) found[i] += factor * past[k][i];
    factor *= -static_cast<double>(n - k - 1) / static_cast<double>(k + 2);
  }
  return found;
}

std::vector<double> History::predict() const {
  return predict_from(std::min(order, past.size()));
}

void History::note(const std::vector<double> &solution) {
  if (!past.empty()) {
    std::vector<double> errors(past.size(), 0.0);
    for (size_t n = 1; n <= past.size(); n++) {
      const std::vector<double> predicted = predict_from(n);
      for (size_t i = 0; i < solution.size(); i++)
        errors[n - 1] += (predicted[i] - solution[i]) * (predicted[i] - solution[i]);
    }
    MPI_Allreduce(MPI_IN_PLACE, errors.data(), static_cast<int>(errors.size()), MPI_DOUBLE, MPI_SUM, world);
    const size_t best = std::min_element(errors.begin(), errors.end()) - errors.begin() + 1;
    order = best == past.size() ? best + 1 : best;  // one more might be better still
  }
  past.push_front(solution);
  if (past.size() > MOST) past.pop_back();
}

}  // namespace nnpkit
