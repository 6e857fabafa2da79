// Products of a symmetric matrix, of which one triangle is stored, with a few vectors. Every number of the
// triangle is read once and used for both of its places.

#ifndef NNPKIT_SYMMETRIC_PRODUCT_H
#define NNPKIT_SYMMETRIC_PRODUCT_H

#include <cstdint>

namespace nnpkit {

constexpr int SYMMETRIC_TILE = 64;  // rows and columns that are worked on together, in the nearest cache

// y (n, wide) += A x (n, wide). Element (r, c) of A is matrix[r + c * ld] where r >= c if `lower`, else r <=
// c.
template <typename T>
struct SymmetricTask {
  const T *matrix;
  int64_t n, ld;
  bool lower;
  int wide;  // a multiple of the lanes of any vector
  const T *x;
  T *y;
  T *tile;  // (SYMMETRIC_TILE, SYMMETRIC_TILE), scratch
};

namespace portable {
void symmetric_product(const SymmetricTask<double> &task);
void symmetric_product(const SymmetricTask<float> &task);
}  // namespace portable
namespace avx2 {
void symmetric_product(const SymmetricTask<double> &task);
void symmetric_product(const SymmetricTask<float> &task);
}  // namespace avx2
namespace avx512 {
void symmetric_product(const SymmetricTask<double> &task);
void symmetric_product(const SymmetricTask<float> &task);
}  // namespace avx512

}  // namespace nnpkit

#endif
