#include "watch_frames.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <stdexcept>

namespace nnpkit {

namespace {

// Length of the whole frames at the beginning of the file; -1 if something else follows them.
off_t whole_frames(FILE *file) {
  off_t whole = 0;
  char *line = nullptr;
  size_t capacity = 0;
  const auto next = [&] {
    const ssize_t length = getline(&line, &capacity, file);
    return length > 0 && line[length - 1] == '\n';
  };
  while (next()) {
    char *end = nullptr;
    const long long atoms = strtoll(line, &end, 10);
    if (end == line || *end != '\n' || atoms < 0) {
      whole = -1;
      break;
    }
    long long lines = 0;
    while (lines < atoms + 1 && next()) lines++;
    if (lines < atoms + 1) break;
    whole = ftello(file);
  }
  free(line);
  return whole;
}

void cut_incomplete_frame(const std::string &path) {
  FILE *file = fopen(path.c_str(), "r");
  if (!file) return;  // not there yet, or append_frame will say why it cannot be opened
  struct stat status{};
  const bool regular = fstat(fileno(file), &status) == 0 && S_ISREG(status.st_mode);
  const off_t whole = regular ? whole_frames(file) : 0;
  fclose(file);
  if (whole < 0) throw std::runtime_error(path + " holds something else than frames: choose another name");
  if (regular && whole < status.st_size && truncate(path.c_str(), whole) != 0)
    throw std::runtime_error("cannot repair " + path + ": " + strerror(errno));
}

void write_all(int file, const std::string &text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = write(file, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) throw std::runtime_error(strerror(wrote < 0 ? errno : ENOSPC));
    done += static_cast<size_t>(wrote);
  }
}

}  // namespace

std::vector<FrameAtom> gather_frame(const std::vector<FrameAtom> &mine, MPI_Comm world) {
  int rank = 0, size = 1;
  MPI_Comm_rank(world, &rank);
  MPI_Comm_size(world, &size);
  MPI_Datatype type;
  MPI_Type_contiguous(sizeof(FrameAtom), MPI_BYTE, &type);
  MPI_Type_commit(&type);
  const int count = static_cast<int>(mine.size());
  std::vector<int> counts(size), offsets(size, 0);
  MPI_Gather(&count, 1, MPI_INT, counts.data(), 1, MPI_INT, 0, world);
  size_t total = 0;
  if (rank == 0)
    for (int r = 0; r < size; r++) {
      offsets[r] = static_cast<int>(total);
      total += counts[r];
    }
  std::vector<FrameAtom> all(total);
  MPI_Gatherv(mine.data(), count, type, all.data(), counts.data(), offsets.data(), type, 0, world);
  MPI_Type_free(&type);
  std::sort(all.begin(), all.end(), [](const FrameAtom &a, const FrameAtom &b) { return a.id < b.id; });
  return all;
}

std::string frame_text(const std::vector<FrameAtom> &atoms, const std::vector<std::string> &species,
                       const std::string &comment) {
  std::string text = std::to_string(atoms.size()) + "\n" + comment + "\n";
  char line[160];
  for (const auto &atom : atoms) {
    snprintf(line, sizeof(line), "%-2s %16.9f %16.9f %16.9f %12.6g %lld\n", species[atom.type].c_str(),
             atom.position[0], atom.position[1], atom.position[2], atom.force_std,
             static_cast<long long>(atom.extrapolations));
    text += line;
  }
  return text;
}

void append_frame(const std::string &path, const std::string &frame) {
  static std::set<std::string> checked;  // files that this process writes are whole
  if (checked.count(path) == 0) cut_incomplete_frame(path);
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) throw std::runtime_error("cannot open " + path + ": " + strerror(errno));
  struct stat status{};
  const bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  std::string problem;
  try {
    write_all(file, frame);
  } catch (const std::runtime_error &failure) {
    problem = failure.what();
    if (regular && ftruncate(file, status.st_size) != 0)
      problem += " (and the file ends with a part of a frame)";
  }
  if (close(file) != 0 && problem.empty()) problem = strerror(errno);
  if (!problem.empty()) throw std::runtime_error("cannot write " + path + ": " + problem);
  checked.insert(path);
}

}  // namespace nnpkit
