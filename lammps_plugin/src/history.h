// Solutions of one linear system after the other, from which the next one is predicted. They follow their
// atoms from rank to rank.

#ifndef NNPKIT_HISTORY_H
#define NNPKIT_HISTORY_H

#include <mpi.h>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace nnpkit {

class History {
 public:
  explicit History(MPI_Comm world) : world(world) {}
  // All that is kept goes to where its atoms are now; zero for atoms that nobody knew. On all ranks.
  void follow(const std::vector<int64_t> &tags);
  bool empty() const { return past.empty(); }  // the same on all ranks
  // Of the atoms that were followed: the polynomial through the latest ones whose degree was best at the step
  // before.
  std::vector<double> predict() const;
  void note(const std::vector<double> &solution);  // of the same atoms
  void clear() { past.clear(), order = 1; }

 private:
  MPI_Comm world;
  std::vector<int64_t> known;
  std::deque<std::vector<double>> past;  // the latest one first
  size_t order = 1;                      // of these that predict the next one

  std::vector<double> predict_from(size_t n) const;
};

}  // namespace nnpkit

#endif
