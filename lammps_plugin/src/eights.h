// Eight numbers at once, in the compiler's own terms.

#ifndef NNPKIT_EIGHTS_H
#define NNPKIT_EIGHTS_H

#include <cstddef>

// Worth the vectors of the processor that runs it.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define NNPKIT_VECTORS __attribute__((target_clones("default", "avx2,fma", "avx512f")))
#else
#define NNPKIT_VECTORS
#endif

namespace nnpkit {

typedef double Eight __attribute__((vector_size(8 * sizeof(double)), aligned(sizeof(double)), may_alias));
constexpr size_t EIGHT = 8;

inline double total(const Eight &values) {
  double sum = 0.0;
  for (size_t k = 0; k < EIGHT; k++) sum += values[k];
  return sum;
}

inline const Eight *eights(const double *from) {
  return reinterpret_cast<const Eight *>(from);
}

inline Eight *eights(double *from) {
  return reinterpret_cast<Eight *>(from);
}

}  // namespace nnpkit

#endif
