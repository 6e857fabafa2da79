// Walls as piecewise polynomials: what instruction sets evaluate.

#ifndef NNPKIT_WALL_CURVES_H
#define NNPKIT_WALL_CURVES_H

#include <cstdint>

namespace nnpkit {

constexpr int WALL_BATCH = 8;
constexpr int CURVE_STEPS = 512;  // of the switch: errors are below 1e-10 of the repulsion then

// Edges of one atom that are shorter than a distance that depends on the type of the neighbour: their numbers
// and squared lengths, which have room for n + WALL_BATCH. Returns how many there are.
using FindClose = int64_t(const double *edge_vec, const int64_t *neighbor_type, int64_t n,
                          const double *outer_squares, int64_t n_types, int *edge, double *square);

// Where pairs are on their curves: squares of distances, and of each curve where it begins (angstrom^2), the
// inverse of its step, and the first of its coefficients, six for every step.
struct CurvePlaces {
  const double *square, *begin, *inverse_step;
  const int *first;
};

// Polynomials of fifth degree and their derivatives by the square, of n pairs, a multiple of WALL_BATCH.
using EvaluateCurves = void(const double *coefficients, const CurvePlaces &places, int64_t n, double *values,
                            double *slopes);

namespace portable {
FindClose find_close;
EvaluateCurves evaluate_curves;
}  // namespace portable
namespace avx2 {
FindClose find_close;
EvaluateCurves evaluate_curves;
}  // namespace avx2
namespace avx512 {
FindClose find_close;
EvaluateCurves evaluate_curves;
}  // namespace avx512

}  // namespace nnpkit

#endif
