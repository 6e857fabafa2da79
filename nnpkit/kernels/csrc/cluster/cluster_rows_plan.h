// Training of a cluster expansion: energies, their derivatives along directions, and the derivatives of all
// these by the weights, centre after centre. The closed form is that of
// families/cluster_expansion/expansion_rows.py.
//
// Plain pointers and plain functions only, for the same reason as in cluster_plan.h. Everything is in double
// precision.

#ifndef NNPKIT_CLUSTER_ROWS_PLAN_H
#define NNPKIT_CLUSTER_ROWS_PLAN_H

#include "cluster_plan.h"

#include <cstdint>

namespace nnpkit {
namespace cluster {

constexpr int BATCH = 8;  // directions that touch a centre and are worked on together

// Combinations h_q = sum_k combinations[q][k] f_k of the functions, and how many channels are mixed of them.
struct Radial {
  Basis<double> basis;
  const double *combinations;  // (n, n)
  int n_channels;
  int by_function() const { return padded(basis.n); }
  int by_channel() const { return padded(n_channels); }
};

// One term of a second derivative of an invariant, by where factors begin in the array of the coefficients;
// behind these is a row of ones.
struct SecondTerm {
  double coefficient;
  int factor[2];
};

// Harmonics are counted as in harmonics.py; coefficients A of an atom are (n_rows, padded channels).
struct RowsPlan {
  int n_types, l_max, n_harmonics, n_rows;  // n_rows: the harmonics, padded
  Radial radial, angular;
  const double *norms;            // (l_max + 1, l_max + 1) of the harmonic l, m
  Invariants<double> invariants;  // first derivatives
  const int *column_first;        // (n_harmonics + 1): derivatives by each coefficient A_k
  const int *column_invariant, *column_derivative;
  const int *curvature_first;  // (n_harmonics + 1): second derivatives by A_k and another one
  const int *curvature_row, *curvature_value;
  int n_curvatures;        // different ones
  const int *group_first;  // (n_curvatures + 1): invariants that one of them comes from
  const int *group_invariant, *term_first;
  const SecondTerm *terms;
  int n_features;
};

struct RowsLayer {
  int n_in, n_out;
  Activation activation;
  const double *weight, *transposed, *bias;  // (n_out, padded n_in), (n_in, padded n_out), (padded n_out)
  int64_t weight_at, bias_at;                // in a row
};

// Of the type of a centre.
struct RowsCenter {
  const double *radial, *angular;  // (types, functions, padded channels)
  const double *shift, *factor;    // (n_features)
  double lower, energy_scale;
  int n_layers;
  const RowsLayer *layers;
  int64_t radial_at, angular_at;  // in a row
};

// What one centre needs. Edges of one type are together, and of these the ones within the angular cutoff
// first.
struct Site {
  int n_edges, capacity;
  const int *begin, *n_all, *n_near;  // (types)
  double *x, *y, *z;                  // (capacity) angstrom; those behind the last edge are far away
  // edge by edge
  double *unit, *inverse;           // (edges, 3), 1/r
  double *radial, *radial_slope;    // (edges, padded radial functions) h_q and dh_q/dr
  double *angular, *angular_slope;  // (edges, padded angular functions)
  double *radial_mixed;             // (edges, padded radial channels) dg/dr
  double *mixed, *mixed_slope;      // (edges, padded angular channels) g and dg/dr
  double *harmonics, *turns;        // (edges, rows), (edges, 3, rows): changes with the vector
  double *stretched, *turned;       // (edges, rows): along one direction
  double *lanes;                    // scratch of functions
  // of the centre
  double *radial_moments, *moments;         // (types, padded functions), (types, rows, padded functions)
  double *sums;                             // (padded radial channels)
  double *coefficients;                     // A (harmonics + 1, padded channels), at last ones
  double *invariants, *derivatives;         // (invariants, padded), (derivatives, padded)
  double *curvatures;                       // (curvatures, padded)
  double *slope;                            // S = dE/dA (rows, padded channels)
  double *inputs;                           // of the network, scaled (padded)
  double *features, *feature_slope;         // raw, dE/dfeature
  double *node, *first, *second, *adjoint;  // layer by layer (padded): f(z), f', f'' u, f' u
  double energy;                            // without reference
  double *gradient;                         // (edges, 3) eV/angstrom
  // of the directions of a batch
  double *change;                      // (BATCH, rows, padded channels) of A
  double *change_radial;               // (BATCH, padded radial channels)
  double *tangents, *back;             // (BATCH, width): changes of features, and v
  double *node_change, *node_back;     // (BATCH, all padded nodes), (BATCH, widest)
  double *through;                     // Q (BATCH, rows, padded channels)
  double *by_radial, *by_angular;      // (BATCH, types, padded channels, padded functions) dh/dw
  double *strained, *strained_radial;  // moments of one direction
  double *values;                      // (BATCH) dE along the direction
  int width, widest, all_nodes;
};

struct RowsStages {
  int width;  // lanes of a vector
  // functions of all edges, and their derivatives
  void (*functions)(const RowsPlan &, Site &);
  // features
  void (*describe)(const RowsPlan &, const RowsCenter &, Site &);
  // energy, dE/dA
  void (*energy)(const RowsPlan &, const RowsCenter &, Site &);
  void (*energy_row)(const RowsPlan &, const RowsCenter &, Site &, double *row);
  // what edges need beside, once before any of those below
  void (*mix_edges)(const RowsPlan &, const RowsCenter &, Site &);
  void (*gradient)(const RowsPlan &, const RowsCenter &, Site &);
  void (*curvature)(const RowsPlan &, const RowsCenter &, Site &);
  // direction `slot` of a batch: some edges of one type change by `change` (3) each, or all by (edges, 3)
  void (*move_some)(const RowsPlan &, const RowsCenter &, Site &, int slot, int type, const int *edges, int n,
                    const double *change);
  void (*move_all)(const RowsPlan &, const RowsCenter &, Site &, int slot, const double *change);
  // adds what the first n directions change to rows; rows may be null, then only values
  void (*finish)(const RowsPlan &, const RowsCenter &, Site &, int n, double *const *rows);
};

}  // namespace cluster

namespace portable {
void cluster_rows_stages(cluster::RowsStages &stages);
}
namespace avx2 {
void cluster_rows_stages(cluster::RowsStages &stages);
}
namespace avx512 {
void cluster_rows_stages(cluster::RowsStages &stages);
}

}  // namespace nnpkit

#endif
