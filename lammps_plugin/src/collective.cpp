#include "collective.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace nnpkit {

namespace {

int rank_in(MPI_Comm world) {
  int rank = 0;
  MPI_Comm_rank(world, &rank);
  return rank;
}

void broadcast(std::string &text, int root, MPI_Comm world) {
  long long size = static_cast<long long>(text.size());
  MPI_Bcast(&size, 1, MPI_LONG_LONG, root, world);
  text.resize(static_cast<size_t>(size));
  constexpr long long PIECE = 1LL << 30;  // MPI counts are ints
  for (long long done = 0; done < size; done += PIECE)
    MPI_Bcast(&text[static_cast<size_t>(done)], static_cast<int>(std::min(PIECE, size - done)), MPI_CHAR,
              root, world);
}

// error: why the file could not be read, empty if it could
std::string read_file(const std::string &path, std::string &error) {
  std::string content;
  FILE *file = fopen(path.c_str(), "rb");
  if (!file) {
    error = "cannot open model file " + path + ": " + strerror(errno);
    return content;
  }
  char block[65536];
  size_t got;
  while ((got = fread(block, 1, sizeof(block), file)) > 0) content.append(block, got);
  if (ferror(file)) {
    const int reason = errno;
    error = "cannot read model file " + path + ": " + strerror(reason);
    if (reason == EISDIR)
      error += "; give the model.pt in it, or make one of a RuNNer folder with nnpkit convert " + path +
               " model.pt";
  }
  fclose(file);
  if (error.empty() && content.empty()) error = "model file " + path + " is empty";
  return content;
}

}  // namespace

std::string read_on_first_rank(const std::string &path, MPI_Comm world) {
  std::string content, error;
  if (rank_in(world) == 0) content = read_file(path, error);
  broadcast(error, 0, world);
  if (!error.empty()) throw std::runtime_error(error);
  broadcast(content, 0, world);
  return content;
}

std::string agree_on_error(const std::string &mine, MPI_Comm world) {
  int size = 1;
  MPI_Comm_size(world, &size);
  const int failing = mine.empty() ? size : rank_in(world);
  int lowest = size;
  MPI_Allreduce(&failing, &lowest, 1, MPI_INT, MPI_MIN, world);
  if (lowest == size) return "";
  std::string message = mine;
  broadcast(message, lowest, world);
  return message;
}

void Totals::reduce(MPI_Comm world) {
  std::vector<double> sums = energies;
  sums.insert(sums.end(), {atoms, force_std, extrapolations});
  MPI_Allreduce(MPI_IN_PLACE, sums.data(), static_cast<int>(sums.size()), MPI_DOUBLE, MPI_SUM, world);
  extrapolations = sums.back();
  force_std = sums[sums.size() - 2];
  atoms = sums[sums.size() - 3];
  std::copy(sums.begin(), sums.begin() + static_cast<long>(energies.size()), energies.begin());
  double largest[] = {failures, force_std_max, largest_force, -closest};
  MPI_Allreduce(MPI_IN_PLACE, largest, 4, MPI_DOUBLE, MPI_MAX, world);
  failures = largest[0];
  force_std_max = largest[1];
  largest_force = largest[2];
  closest = -largest[3];
}

double nth_smallest(std::vector<double> mine, int64_t n, int64_t total, MPI_Comm world) {
  constexpr int64_t FEW = 4096;
  constexpr int BINS = 1024;
  while (total > FEW) {                       // a histogram tells the bin, only that bin goes on
    double edge[2] = {-HUGE_VAL, -HUGE_VAL};  // -smallest, largest
    for (const double v : mine) {
      edge[0] = std::max(edge[0], -v);
      edge[1] = std::max(edge[1], v);
    }
    MPI_Allreduce(MPI_IN_PLACE, edge, 2, MPI_DOUBLE, MPI_MAX, world);
    const double low = -edge[0], width = (edge[1] - low) / BINS;
    if (!(width > 0.0)) return low;
    const auto bin = [&](double v) { return std::min(BINS - 1, static_cast<int>((v - low) / width)); };
    std::vector<int64_t> counts(BINS, 0);
    for (const double v : mine) counts[bin(v)]++;
    MPI_Allreduce(MPI_IN_PLACE, counts.data(), BINS, MPI_INT64_T, MPI_SUM, world);
    int chosen = 0;
    while (n > counts[chosen]) n -= counts[chosen++];
    if (counts[chosen] == total) break;  // no narrower: rounding
    total = counts[chosen];
    mine.erase(std::remove_if(mine.begin(), mine.end(), [&](double v) { return bin(v) != chosen; }),
               mine.end());
  }
  int size = 1;
  MPI_Comm_size(world, &size);
  const int count = static_cast<int>(mine.size());
  std::vector<int> counts(size), offsets(size, 0);
  MPI_Allgather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, world);
  for (int r = 1; r < size; r++) offsets[r] = offsets[r - 1] + counts[r - 1];
  std::vector<double> all(total);
  MPI_Allgatherv(mine.data(), count, MPI_DOUBLE, all.data(), counts.data(), offsets.data(), MPI_DOUBLE,
                 world);
  std::nth_element(all.begin(), all.begin() + (n - 1), all.end());
  return all[n - 1];
}

int rank_on_node(MPI_Comm universe, int n_partitions) {
  const char *const names[] = {"MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"};
  if (n_partitions > 1)
    for (const char *name : names)
      if (const char *const text = getenv(name)) return static_cast<int>(strtol(text, nullptr, 10));
  MPI_Comm node;
  MPI_Comm_split_type(universe, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  const int rank = rank_in(node);
  MPI_Comm_free(&node);
  return rank;
}

}  // namespace nnpkit
