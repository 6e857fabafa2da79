// Vectors that begin at a cache line, for rows of eight members, which then do not cross one.

#ifndef NNPKIT_ALIGNED_H
#define NNPKIT_ALIGNED_H

#include <cstddef>
#include <new>
#include <vector>

namespace nnpkit {

template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t LINE{64};

  LineAllocator() = default;
  template <typename Other>
  LineAllocator(const LineAllocator<Other> &) {}
  T *allocate(std::size_t n) { return static_cast<T *>(::operator new(n * sizeof(T), LINE)); }
  void deallocate(T *memory, std::size_t) { ::operator delete(memory, LINE); }
  template <typename Other>
  bool operator==(const LineAllocator<Other> &) const {
    return true;
  }
  template <typename Other>
  bool operator!=(const LineAllocator<Other> &) const {
    return false;
  }
};

template <typename T>
using AlignedVector = std::vector<T, LineAllocator<T>>;

}  // namespace nnpkit

#endif
