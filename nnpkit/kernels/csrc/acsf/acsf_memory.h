// Memory of a kernel, and the stages for an instruction set.

#ifndef NNPKIT_ACSF_MEMORY_H
#define NNPKIT_ACSF_MEMORY_H

#include "acsf_model.h"

namespace nnpkit {
namespace acsf {

// Memory at a cache line that only grows; what was in it is lost.
template <typename T>
class Buffer {
 public:
  T *room(int64_t n) {
    if (n > size) {
      storage = Storage();
      data = reinterpret_cast<T *>(storage.room(static_cast<size_t>(n + n / 4 + PADDING) * sizeof(T)));
      size = n + n / 4;
    }
    return data;
  }

 private:
  Storage storage;
  T *data = nullptr;
  int64_t size = -1;
};

template <typename T>
Stages<T> stages_of(Isa isa) {
  Stages<T> stages{};
#ifndef NNPKIT_ONLY_PORTABLE
  if (isa == Isa::AVX512) return avx512::acsf_stages(stages), stages;
  if (isa == Isa::AVX2) return avx2::acsf_stages(stages), stages;
#endif
  portable::acsf_stages(stages);
  return stages;
}

}  // namespace acsf
}  // namespace nnpkit

#endif
