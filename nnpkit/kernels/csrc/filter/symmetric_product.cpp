// Symmetric products as a C function.

#include "symmetric_product.h"

#include "acsf_memory.h"
#include "c_api.h"
#include "c_message.h"
#include "kernel.h"

#include <algorithm>
#include <stdexcept>

namespace nnpkit {

namespace {

constexpr int LANES = 16;  // of the longest vector

template <typename T>
void multiply(const nnpkit_symmetric &given, Isa isa) {
  const int64_t n = given.n, m = given.n_rows, wide = (m + LANES / 2 - 1) / (LANES / 2) * (LANES / 2);
  const int64_t lanes = sizeof(T) == 4 ? (m + LANES - 1) / LANES * LANES : wide;
  acsf::Storage storage;
  const auto room = [&](int64_t size) {
    return reinterpret_cast<T *>(storage.room(static_cast<size_t>(size) * sizeof(T)));  // zeroed
  };
  T *const x = room(n * lanes), *const y = room(n * lanes),
           *const tile = room(SYMMETRIC_TILE * SYMMETRIC_TILE);
  const T *const rows = static_cast<const T *>(given.rows);
  for (int64_t first = 0; first < n; first += LANES)  // a few cache lines of each row at a time
    for (int64_t k = 0; k < m; k++)
      for (int64_t i = first; i < std::min(n, first + LANES); i++)
        x[i * lanes + k] = rows[k * given.by_row + i];
  const SymmetricTask<T> task{static_cast<const T *>(given.matrix),
                              n,
                              given.ld,
                              given.lower != 0,
                              static_cast<int>(lanes),
                              x,
                              y,
                              tile};
#ifdef NNPKIT_ONLY_PORTABLE
  (void)isa;
  portable::symmetric_product(task);
#else
  if (isa == Isa::AVX512)
    avx512::symmetric_product(task);
  else if (isa == Isa::AVX2)
    avx2::symmetric_product(task);
  else
    portable::symmetric_product(task);
#endif
  T *const out = static_cast<T *>(given.out);
  const T factor = static_cast<T>(given.factor);
  for (int64_t first = 0; first < n; first += LANES)
    for (int64_t k = 0; k < m; k++)
      for (int64_t i = first; i < std::min(n, first + LANES); i++) out[k * n + i] = factor * y[i * lanes + k];
}

}  // namespace

}  // namespace nnpkit

int nnpkit_symmetric_product(const nnpkit_symmetric *given, const char *isa, char *message,
                             size_t message_size) {
  try {
    const nnpkit::Isa with = nnpkit::isa_called(isa ? isa : "");
    if (given->n < 0 || given->n_rows < 0 || given->n_rows > 1 << 20 || given->ld < given->n ||
        given->by_row < given->n)
      throw std::runtime_error("a symmetric product of arrays that do not fit");
    if (given->single_precision)
      nnpkit::multiply<float>(*given, with);
    else
      nnpkit::multiply<double>(*given, with);
    return 0;
  } catch (const std::exception &error) {
    nnpkit::say(error.what(), message, message_size);
    return 1;
  }
}
