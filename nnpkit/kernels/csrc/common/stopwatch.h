// How long the stages of a kernel take.

#ifndef NNPKIT_STOPWATCH_H
#define NNPKIT_STOPWATCH_H

#include "kernel.h"

#include <chrono>

namespace nnpkit {

// Seconds of the stages of an evaluation, from some of the atoms, sixteen apart: to look at a clock costs as
// much as a neighbour.
class Stopwatch {
 public:
  void reset(bool wanted) { *this = Stopwatch(wanted); }
  explicit Stopwatch(bool wanted = false) : on(wanted) {}
  void begin(int64_t n_atoms) {
    running = on && atoms >= next;
    if (running) {
      next = atoms + 16;
      timed += n_atoms;
      last = std::chrono::steady_clock::now();
    }
    atoms += n_atoms;
  }
  void lap(double Timing::*stage) {
    if (!running) return;
    const auto now = std::chrono::steady_clock::now();
    sums.*stage += std::chrono::duration<double>(now - last).count();
    last = now;
  }
  void add_to(Timing &timing) const {
    const double each = timed > 0 ? static_cast<double>(atoms) / static_cast<double>(timed) : 0.0;
    timing.descriptor += each * sums.descriptor;
    timing.network += each * sums.network;
    timing.gradient += each * sums.gradient;
  }

 private:
  bool on, running = false;
  int64_t atoms = 0, timed = 0, next = 0;
  Timing sums;
  std::chrono::steady_clock::time_point last;
};

}  // namespace nnpkit

#endif
