// Steps that all ranks of one communicator take together, so that no rank waits for one that has failed.

#ifndef NNPKIT_COLLECTIVE_H
#define NNPKIT_COLLECTIVE_H

#include <mpi.h>
#include <cstdint>
#include <string>
#include <vector>

namespace nnpkit {

// Content of a file, read by the first rank and sent to the others: the file system is touched once, and
// the other ranks need no copy. If it cannot be read, every rank gets the same std::runtime_error.
std::string read_on_first_rank(const std::string &path, MPI_Comm world);

// Every rank says what went wrong there (empty: nothing). Returns the message of the lowest rank that
// failed, the same on all ranks, or an empty string if all are well.
std::string agree_on_error(const std::string &mine, MPI_Comm world);

// What all ranks know of a step together: filled by each, then reduced in two messages.
struct Totals {
  // added up
  std::vector<double> energies;  // of each member
  double atoms = 0.0, force_std = 0.0, extrapolations = 0.0;
  // largest
  double failures = 0.0, force_std_max = 0.0, largest_force = 0.0;
  // smallest
  double closest;

  void reduce(MPI_Comm world);
};

// The n-th smallest (1: the smallest) of all `mine` of all ranks, `total` together; the same on all ranks.
double nth_smallest(std::vector<double> mine, int64_t n, int64_t total, MPI_Comm world);

// Rank among those that share this node's memory, whatever partition they belong to. With several partitions,
// which need not come here together, the launcher's word is preferred.
int rank_on_node(MPI_Comm universe, int n_partitions);

}  // namespace nnpkit

#endif
