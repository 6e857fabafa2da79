// Symmetry functions and atomic networks as plain arrays, and the stages that evaluate them for one atom: one
// table of functions per instruction set.
//
// Plain pointers and plain functions only: what fills these structures is compiled for every processor, what
// works on them (acsf_isa.cpp) is not, so nothing that the linker could share may be in here.

#ifndef NNPKIT_ACSF_PLAN_H
#define NNPKIT_ACSF_PLAN_H

#include "activation.h"
#include "cutoff.h"

#include <cstdint>

namespace nnpkit {
namespace acsf {

constexpr int PADDING = 32;       // entries that may be read or written behind the end of an array
constexpr int NODE_PADDING = 16;  // inputs and nodes of a layer are padded to a multiple of this
constexpr int MAX_RADIAL = 24;    // exponents of one angular group; more make another group
constexpr int MAX_ANGULAR = 24;   // pairs (lambda, zeta), likewise
constexpr int MAX_FACTORS = 4;    // exp(-eta R) as a product of so many others
constexpr int MEMBERS = 8;        // of a committee that share a vector
constexpr int ATOMS = 4;          // of one element that go through the networks of a committee together
constexpr int CHUNK = 256;        // triplets that are worked on together, in the nearest cache
constexpr int MAX_DEGREE = 8;     // of polynomials of the cosine
constexpr int PIECE = 8;          // functions side by side in a vector

template <typename T>
struct Cutoff {
  CutoffKind kind;
  T radius, inner;  // angstrom; fc is 1 below inner
};

// sum_j exp(-eta (r - shift)^2) fc(r) over the neighbours of one type
template <typename T>
struct RadialFunctions {
  int n;
  const T *eta, *shift;
  const int *cutoff, *column;
};

// Up to PIECE functions of an angular group side by side, for their derivatives; what is in lanes without a
// function multiplies zeros.
template <typename T>
struct Piece {
  int n, lanes;               // functions; 4 or 8 lanes
  const T *eta2, *shift;      // (lanes): -2 eta, and 2 eta shift
  const int *part, *angular;  // (lanes): radial part, angular part (n_angular where there is no function)
  const int *column;          // (n)
};

// Angular functions of one pair of neighbour types and one cutoff. Functions are sorted by their radial part:
// those of part p are first_function[p] .. first_function[p + 1] - 1.
template <typename T>
struct AngularGroup {
  int first, second, cutoff;
  bool narrow;   // G3: with the factor of the third side
  bool shifted;  // a shift is not zero
  int n_radial, n_angular, n_functions;
  const T *eta, *shift;
  const int *factors;  // (n_radial, MAX_FACTORS): parts whose exponentials multiply to this one; -1: none
  const T *lambda, *zeta;
  const int *power;  // zeta where it is a whole number above zero, else 0
  const int *first_function, *angular, *column;
  // 2 (1/2 + lambda/2 x)^zeta as polynomials, (n_functions, MAX_DEGREE + 1); degree of the group and of the
  // sums over its radial parts; 0: not all are polynomials
  int degree;
  const int *part_degree;
  const T *polynomial;
  int n_pieces;
  const Piece<T> *pieces;
};

// Everything that is summed around a centre of one type.
template <typename T>
struct Center {
  int n_types, n_features, n_cutoffs, n_groups, n_radial_functions /* the most of any neighbour type */;
  int n_lanes;  // of all pieces of all groups
  const Cutoff<T> *cutoffs;
  const RadialFunctions<T> *radial;  // per neighbour type
  const AngularGroup<T> *groups;
};

// Networks of up to MEMBERS members, side by side if there are more than one.
template <typename T>
struct Layer {
  int n_in, n_out;  // without padding
  Activation activation;
  const T *weight;      // (n_in, padded n_out); of several: (n_in, n_out, MEMBERS)
  const T *transposed;  // (n_out, padded n_in); of several: null
  const T *bias;        // (padded n_out); of several: (n_out, MEMBERS)
};

template <typename T>
struct Network {
  int n_layers;
  const Layer<T> *layers;
  int width;  // of the widest layer or of the inputs, padded
};

// Several networks with the scaling of their inputs and outputs; all arrays have MEMBERS innermost.
template <typename T>
struct MemberNetworks {
  Network<T> network;
  const double *shift, *factor;  // (n_in, MEMBERS): input = (feature - shift) * factor + lower
  const double *lower, *energy_scale, *reference;  // (MEMBERS): energy = output * energy_scale + reference
};

inline constexpr int padded_nodes(int n) {
  return (n + NODE_PADDING - 1) / NODE_PADDING * NODE_PADDING;
}

// What one atom needs. Neighbours lie in slots, those of one type together: the slots of type t are
// begin[t] .. begin[t] + count[t] - 1, and one vector of slots that follow hold points far away.
template <typename T>
struct Workspace {
  int n_slots;
  int *begin, *count;
  T *x, *y, *z, *r2, *inverse;  // (n_slots); inverse: 1/r
  T *envelope, *slope;          // (n_cutoffs, n_slots): fc, and (dfc/dr) / (fc r)
  T *radial;                    // (n_radial_functions, n_slots): summands of the radial functions
  // coefficient of a neighbour's own vector and vector to subtract: of k (4, n_slots), and of j (n_slots, 4)
  T *sums, *row_sums;

  // of each piece, one after the other: (n_slots, 4, lanes), the derivatives of each function by the place of
  // a neighbour: a coefficient of its own vector, to which the component of the next three along that vector
  // has still to be added, and a vector to subtract, see acsf_jacobian.h. Made by describe_members, read by
  // differentiate_members, write_jacobian and push_forward.
  T *jacobian;
  T *records;  // (n_slots, 8), see acsf_jacobian.h

  int line;  // arrays of the triplets of a chunk have this distance
  T *side2, *legs2, *product, *envelopes, *third;
  T *factors;  // (n_radial, line)
  T *forces;   // (5, line), where these arrays were

  // of all chunks of all groups, one after the other
  T *kept;
  uint16_t *bits;  // for each vector of k in each row of j: who makes a triplet
  int32_t *row_slot;
  // for derivatives, of one chunk
  T *partner;  // slot of k, an integer of the size of T
  int32_t *row_begin;
  int *chunk_triplets, *chunk_rows;
  int *group_chunks;  // (n_groups): chunks of the groups up to this one

  double *lane_sums;     // (n_features, 16)
  double *features;      // (n_features)
  T *coefficients;       // (n_features): dE/dG; for members (n_features, MEMBERS)
  T *nodes;              // of the network
  const int64_t *edges;  // (n_slots) where the gradient of a slot goes
};

template <typename T>
struct Stages {
  int width;  // lanes of a vector
  // features of the atom; keeps what the gradient needs
  void (*describe)(const Center<T> &, Workspace<T> &);
  // adds to gradient[3 * edge .. + 2] of every slot, from ws.coefficients
  void (*differentiate)(const Center<T> &, Workspace<T> &, double *gradient);
  // features of the atom and their derivatives
  void (*describe_members)(const Center<T> &, Workspace<T> &);
  // gradient[(3 * edge + k) * n_rows + row + m] for m < n, n <= MEMBERS, from ws.coefficients and derivatives
  void (*differentiate_members)(const Center<T> &, Workspace<T> &, double *gradient, int n_rows, int row,
                                int n);
  // output, and its derivatives by the inputs; nodes: see nodes_needed
  double (*network)(const Network<T> &, const T *inputs, T *input_gradient, T *nodes);
  // energies (n_atoms, MEMBERS) and dE/dG (n_features, MEMBERS) of each of up to ATOMS atoms, from their
  // features; nodes: MEMBERS * ATOMS times nodes_needed
  void (*member_networks)(const MemberNetworks<T> &, int n_atoms, const double *const *features,
                          double *energies, T *const *coefficients, T *nodes);
  // from the derivatives: those of every slot written out, rows[(width * edge + feature) * 3 + k], and added
  // to change[feature] those along direction[3 * edge .. + 2]
  void (*write_jacobian)(const Center<T> &, const Workspace<T> &, int width, double *rows);
  void (*push_forward)(const Center<T> &, Workspace<T> &, const double *direction, double *change);
  // adds to products[3 * width * a + n] component a of the place of every slot times rows[3 * width * edge +
  // n]
  void (*add_products)(const Center<T> &, const Workspace<T> &, int width, const double *rows,
                       double *products);
};

// Defined by acsf_isa.cpp, once per instruction set.
}  // namespace acsf

namespace portable {
void acsf_stages(acsf::Stages<double> &stages);
void acsf_stages(acsf::Stages<float> &stages);
}  // namespace portable
namespace avx2 {
void acsf_stages(acsf::Stages<double> &stages);
void acsf_stages(acsf::Stages<float> &stages);
}  // namespace avx2
namespace avx512 {
void acsf_stages(acsf::Stages<double> &stages);
void acsf_stages(acsf::Stages<float> &stages);
}  // namespace avx512

}  // namespace nnpkit

#endif
