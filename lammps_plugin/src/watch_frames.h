// Frames in one extended XYZ file that holds whole frames only, whatever happens.

#ifndef NNPKIT_WATCH_FRAMES_H
#define NNPKIT_WATCH_FRAMES_H

#include <mpi.h>
#include <cstdint>
#include <string>
#include <vector>

namespace nnpkit {

struct FrameAtom {
  int64_t id;
  int type;  // of LAMMPS
  double position[3];
  double force_std;  // eV/A
  int64_t extrapolations;
};

// A frame as one rank has it; whatever becomes of the run, it can still be written.
struct Frame {
  int64_t step;
  std::vector<FrameAtom> atoms;      // of this rank
  std::vector<std::string> species;  // per type, from 1
  std::string cell, numbers;         // parts of the comment, before and behind step and reason
  bool collected = false;            // it is in the file, and its atoms are not kept
};

// All atoms on the first rank, sorted by id; empty elsewhere.
std::vector<FrameAtom> gather_frame(const std::vector<FrameAtom> &mine, MPI_Comm world);

// The atoms as text; `species` is per type, from 1, and `comment` the second line without its newline.
std::string frame_text(const std::vector<FrameAtom> &atoms, const std::vector<std::string> &species,
                       const std::string &comment);

// Append a frame. What a killed run left incomplete at the end of the file is cut off first; if the frame
// does not fit on the disk, the file is left as it was. Throws std::runtime_error with the reason.
void append_frame(const std::string &path, const std::string &frame);

}  // namespace nnpkit

#endif
