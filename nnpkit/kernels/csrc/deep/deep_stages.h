// The stages of evaluating a Deep Potential, as tables of functions: one table per instruction set.
//
// Plain pointers and plain functions only. The files that define them are compiled with instructions that not
// every processor has, so nothing that the linker could share with the rest of the program may be in them.

#ifndef NNPKIT_DEEP_STAGES_H
#define NNPKIT_DEEP_STAGES_H

#include "activation.h"
#include "cutoff.h"

#include <cstdint>

namespace nnpkit {
namespace deep {

// Atoms of one element that are evaluated together; a multiple of every tile.
constexpr int MAX_ATOMS = 96;
// Rows are padded to a multiple of this, so that loops over them need no remainder.
constexpr int ROW_PADDING = 16;
// Features of the first layer that are expanded, multiplied and forgotten together (about).
constexpr int PANEL = 128;

// How s(r) = fc(r) / r of an edge becomes a row of the environment matrix.
struct Environment {
  CutoffKind kind;
  double cutoff, inner;                           // angstrom; fc is 1 below inner
  double mean, inverse_std, inverse_std_angular;  // of the element of the centre
};

// Neighbours of one element of the atoms of a block, sorted by atom; arrays are padded to ROW_PADDING.
template <typename Real>
struct Rows {
  int64_t n;
  const double *vec[3];  // angstrom
  double *argument;      // R_0 in double precision: argument of the embedding network
  Real *row[4];          // R
  // dE/dvec = vec (p dE/dR_0 + q sum_k vec_k dE/dR_k) + w (dE/dR_1, dE/dR_2, dE/dR_3)
  Real *p, *q, *w;
  int32_t *interval;  // of the table; -1: outside
  Real *t;            // place in the interval, 0 .. 1
};

// Piecewise quintic: on interval i, output m is sum_k node[(i * 6 + k) * width + m] t^k.
template <typename Real>
struct Table {
  const Real *node;
  int width;  // outputs, padded to lanes
  int64_t n_intervals;
  double start, inverse_spacing;
};

// y = timestep * f(W x + b) + shortcut
template <typename Real>
struct Layer {
  int n_in, n_out, copies;
  Activation activation;
  const Real
      *forward;  // W in groups of `group` outputs, each (n_in, group); of the first layer: panel by panel
  const Real *backward;  // W^T likewise
  const Real *bias;
  const Real *timestep;  // or null
};

// Network of one element: descriptor D = T T_<^T, layers, linear node.
template <typename Real>
struct Fitting {
  int width, axis;              // M, M_<
  int padded_width;             // of T in memory
  int panel_rows;               // rows of T that make a panel
  Real normalisation;           // T is the sum over neighbours times this
  const Real *factor, *offset;  // scaled feature = factor * feature + offset; or null
  int n_layers;
  const Layer<Real> *layers;
  const Real *output;  // (n_out of the last layer)
  double output_bias;
};

// Features (axis, padded width) in the training data; whatever is padded is unbounded.
template <typename Real>
struct FeatureRange {
  const Real *minimum, *maximum;
};

template <typename Real>
struct Stages {
  int lanes;  // numbers in a register
  int tile;   // atoms of a tile
  int group;  // outputs of a layer that are computed together

  // Rows but for interval and t.
  void (*environment)(const Environment &, const Rows<Real> &);
  // Interval and t; returns how many rows are outside of the table (interval -1, t 0).
  int64_t (*locate)(const Table<Real> &, const Rows<Real> &);
  // sums (n_atoms, 4, width) += sum over rows first[a] .. first[a + 1] - 1 of R_k G_m
  void (*embed)(const Table<Real> &, const Rows<Real> &, const int64_t *first, int n_atoms, Real *sums);
  // gradient (rows, 4) = (or +=) dE/dR, from dE/dsums; the argument's share is in dE/dR_0.
  void (*embed_gradient)(const Table<Real> &, const Rows<Real> &, const int64_t *first, int n_atoms,
                         const Real *sums_gradient, Real *gradient, bool add);
  // Chain rule of `Rows`: dE/dvec (rows, 3) from dE/dR (rows, 4).
  void (*edge_gradient)(const Rows<Real> &, const Real *gradient, double *edge_gradient);
  // Adds features outside of the range: to each atom, and to each feature (n_features).
  void (*count)(const Fitting<Real> &, const FeatureRange<Real> &, int n_atoms, const Real *sums,
                int64_t *per_atom, int64_t *per_feature);
  // Numbers of workspace that `fit` needs.
  int64_t (*fit_workspace)(const Fitting<Real> &);
  // Network outputs (n_atoms) and their gradients with respect to the sums, in place of these.
  void (*fit)(const Fitting<Real> &, int n_atoms, Real *sums, double *output, Real *workspace);
};

namespace portable {
const Stages<double> &stages_double();
const Stages<float> &stages_float();
}  // namespace portable
namespace avx2 {
const Stages<double> &stages_double();
const Stages<float> &stages_float();
}  // namespace avx2
namespace avx512 {
const Stages<double> &stages_double();
const Stages<float> &stages_float();
}  // namespace avx512

// f and f' for activations without a fast path; y may be z. In a file of its own, for every processor.
template <typename Real>
void activate(Activation kind, int64_t n, const Real *z, Real *y, Real *derivative);
// fc and dfc/dr for the cutoff functions without a fast path.
void cutoff_values(const Environment &, int64_t n, const double *r, double *value, double *derivative);

}  // namespace deep
}  // namespace nnpkit

#endif
