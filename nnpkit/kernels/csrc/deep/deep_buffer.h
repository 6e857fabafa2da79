// Memory that starts at a cache line.

#ifndef NNPKIT_DEEP_BUFFER_H
#define NNPKIT_DEEP_BUFFER_H

#include <cstddef>
#include <new>
#include <vector>

namespace nnpkit {
namespace deep {

template <typename T>
struct AtCacheLine {
  using value_type = T;
  static constexpr std::align_val_t LINE{64};
  AtCacheLine() = default;
  template <typename U>
  AtCacheLine(const AtCacheLine<U> &) {}
  T *allocate(size_t n) { return static_cast<T *>(::operator new(n * sizeof(T), LINE)); }
  void deallocate(T *memory, size_t) { ::operator delete(memory, LINE); }
  bool operator==(const AtCacheLine &) const { return true; }
  bool operator!=(const AtCacheLine &) const { return false; }
};

template <typename T>
using Buffer = std::vector<T, AtCacheLine<T>>;

// Buffers only grow: what a block needs, the next one needs again.
template <typename T>
T *room_for(Buffer<T> &buffer, size_t n) {
  if (buffer.size() < n) buffer.resize(n + n / 4);
  return buffer.data();
}

}  // namespace deep
}  // namespace nnpkit

#endif
