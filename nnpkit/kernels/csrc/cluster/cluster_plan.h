// The cluster expansion as plain arrays, and the stages that evaluate it for one atom: one table of functions
// per instruction set.
//
// Plain pointers and plain functions only: what fills these structures is compiled for every processor, what
// works on them (cluster_isa.cpp) is not, so nothing that the linker could share may be in here.

#ifndef NNPKIT_CLUSTER_PLAN_H
#define NNPKIT_CLUSTER_PLAN_H

#include "acsf_plan.h"

#include <cstdint>

namespace nnpkit {
namespace cluster {

constexpr int EIGHT = 8;        // channels and functions are padded to a multiple of this
constexpr int MAX_FACTORS = 4;  // of a term of an invariant: five bodies
constexpr int MAX_L = 8;        // of the harmonics
constexpr int ATOMS = 4;        // of one element that go through invariants and network together
constexpr int RADIAL = 6;       // numbers that are kept of the radial functions of a slot

inline constexpr int padded(int n) {
  return (n + EIGHT - 1) / EIGHT * EIGHT;
}

// Spherical harmonics as the kernel has them: up to factors, polynomials of the unit vector. For m = 0 one
// row for each l from 0, then for each m > 0 and each l from m two rows, with the cosine and the sine of m
// phi.
inline constexpr int n_harmonics(int l_max) {
  return (l_max + 1) * (l_max + 1);
}
inline constexpr int row_of_harmonic(int l_max, int l, int m) {  // m < 0: the sine of |m| phi
  if (m == 0) return l;
  const int order = m > 0 ? m : -m;
  int row = l_max + 1;
  for (int below = 1; below < order; below++) row += 2 * (l_max + 1 - below);
  return row + 2 * (l - order) + (m < 0);
}

enum class CutoffKind { COSINE, POLY2, POLY3 };

// f_k(r) = (T_k(x) + 1) / 2 fc(r) for k < n, x = stretch 2 (r / cutoff - 1)^2 - 1
template <typename T>
struct Basis {
  int n;
  CutoffKind kind;
  T cutoff;   // angstrom
  T stretch;  // 1 as published; larger, -1 < x < 1 begins where neighbours do: see Channels
};

// What is summed over the neighbours of any atom.
template <typename T>
struct Expansion {
  int n_types;
  Basis<T> radial, angular;
  int l_max;
  int first_row;  // harmonics that no invariant needs come first: 1 if l = 0 is one of them, else 0
  constexpr int n_rows() const { return n_harmonics(l_max); }
};

// Channels of a centre of one type: sum over types and functions of coefficient times moment.
template <typename T>
struct Mixing {
  int n_channels;
  const T *forward;   // (types, functions, padded channels)
  const T *backward;  // (types, channels, padded functions)
};

// An invariant of this degree, by its derivatives: that by row `rows[e]` of the channels is a sum of
// monomials of one degree less, and the invariant itself the sum of channel times derivative over its degree.
// Rows are given by where they begin in the array of the channels.
template <typename T>
struct Monomial {
  T coefficient;
  int factor[MAX_FACTORS - 1];
};
template <typename T>
struct Invariant {
  int degree;
  int n_rows;
  const int *rows, *first_monomial;  // (n_rows), (n_rows + 1)
  const Monomial<T> *monomials;
};
// A derivative that belongs to some row: by where it and the gradient of its invariant begin.
struct Share {
  int invariant, derivative;
};
template <typename T>
struct Invariants {
  int n, n_derivatives;  // of all
  const Invariant<T> *invariants;
  const int *first_share = nullptr;  // (n_rows of the expansion + 1)
  const Share *shares = nullptr;     // those of one row together
};

// Of one member and the type of a centre. Features: the radial channels, then for each invariant its angular
// channels.
template <typename T>
struct Center {
  Mixing<T> radial, angular;
  Invariants<T> invariants;
  int n_features() const { return radial.n_channels + invariants.n * angular.n_channels; }
};

// What one atom needs. Neighbours lie in slots, those of one type together and of these the ones within the
// shorter cutoff first. Slots are worked on a vector at a time; what comes behind the last neighbour of a
// type is far away. Arrays with several numbers for a slot are (vectors of slots, numbers, lanes); those of
// the angular part have the vectors within its cutoff only, type after type.
template <typename T>
struct Workspace {
  int n_slots;
  int *begin, *n_radial, *n_angular;        // (n_types) first slot, and slots within the cutoffs
  T *x, *y, *z;                             // (n_slots) angstrom; describe makes unit vectors of them
  T *r, *inverse;                           // distance, 1/r
  T *radial;                                // of RADIAL: see radial_moments
  T *basis, *slope;                         // of n functions f_k or channels g_n: values and derivatives by r
  T *harmonics;                             // of n_rows
  T *scratch;                               // (the most of rows and twice the functions, lanes)
  T *gradient_x, *gradient_y, *gradient_z;  // (n_slots) eV/angstrom, written by differentiate

  T *radial_moments;                            // (types, padded functions)
  T *moments;                                   // (types, n_rows, padded functions)
  T *radial_moment_gradient, *moment_gradient;  // the same of dE
  T *channels, *channel_gradient;               // (n_rows, padded channels)
  T *invariants;                                // (padded radial channels), (invariants, padded channels)
  T *derivatives;                               // (derivatives of invariants, padded channels)
};

// Edges of an atom in groups, 2 t and 2 t + 1 of type t: within both cutoffs, and between them; behind them
// one of those that are too long. Up to GROUP_SLACK entries may be written behind the end of a group.
constexpr int GROUP_SLACK = 32;
template <typename T>
struct Groups {
  int n_types, capacity;
  double inner, outer;  // squares of the cutoffs
  int *size;            // (groups)
  T *vectors;           // (groups, 3, capacity)
  int32_t *edges;       // (groups, capacity)
};

// There are two ways from neighbours to channels. Moments of the functions are the same for all members of a
// committee and are mixed to channels afterwards, type by type. For one member it is less work to mix the
// functions of each neighbour first, if channels are fewer or types many: then `direct` is its centre,
// moments are not there, and the stages begin and end with channels.
template <typename T>
struct Stages {
  int width;  // lanes of a vector
  // n edges to the ends of their groups; false if there is an unknown type
  bool (*sort_edges)(const double *vec, const int64_t *types, int n, const Groups<T> &);
  // of the edges in their groups, distances and unit vectors in slots
  void (*place)(const Groups<T> &, Workspace<T> &);
  // moments or channels of the atom; keeps what the gradient needs
  void (*describe)(const Expansion<T> &, const Center<T> *direct, Workspace<T> &);
  // of n_atoms atoms of one element: features (n_atoms, width); keeps channels and derivatives of invariants.
  // There are ATOMS workspaces, if need be one of them several times.
  void (*features)(const Expansion<T> &, const Center<T> &, bool direct, Workspace<T> *const *, int n_atoms,
                   T *features, int width);
  // how many of n features are outside their ranges; to counts (n) each of them is added, unless null
  int64_t (*count_outside)(const T *features, const T *low, const T *high, int n, int64_t *counts);
  // outputs of ATOMS atoms and, in place of their features (ATOMS, width), `factor` times the derivatives by
  // them; nodes: ATOMS times what acsf::nodes_needed says
  void (*networks)(const acsf::Network<T> &, T factor, T *features, int width, double *outputs, T *nodes);
  // from dE/dfeature (n_atoms, width): added to the gradients of the moments, or that of the channels
  void (*feature_gradient)(const Expansion<T> &, const Center<T> &, bool direct, Workspace<T> *const *,
                           int n_atoms, const T *gradient, int width);
  // from these: of each slot
  void (*differentiate)(const Expansion<T> &, const Center<T> *direct, Workspace<T> &);
};

}  // namespace cluster

// Defined by cluster_isa.cpp, once per instruction set.
namespace portable {
void cluster_stages(cluster::Stages<double> &stages);
void cluster_stages(cluster::Stages<float> &stages);
}  // namespace portable
namespace avx2 {
void cluster_stages(cluster::Stages<double> &stages);
void cluster_stages(cluster::Stages<float> &stages);
}  // namespace avx2
namespace avx512 {
void cluster_stages(cluster::Stages<double> &stages);
void cluster_stages(cluster::Stages<float> &stages);
}  // namespace avx512

}  // namespace nnpkit

#endif
