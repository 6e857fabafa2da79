#include "collective.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
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
  if (ferror(file)) error = "cannot read model file " + path + ": " + strerror(errno);
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

int rank_on_node(MPI_Comm world) {
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  const int rank = rank_in(node);
  MPI_Comm_free(&node);
  return rank;
}

}  // namespace nnpkit
