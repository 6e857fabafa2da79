// The kernels as C functions, for Python's ctypes (nnpkit/kernels/native.py).

#ifndef NNPKIT_C_API_H
#define NNPKIT_C_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NNPKIT_API __attribute__((visibility("default")))

// Version of the functions below; a change of any of them is a new number.
NNPKIT_API int nnpkit_api_version(void);

// Tensors of all members one after the other: names, numbers of dimensions, shapes and values.
struct nnpkit_model {
  int n_members;
  const char *const *metadata;  // (n_members)
  const int *n_tensors;         // (n_members)
  const char *const *names;     // of all tensors
  const int *n_dimensions;      // of all tensors
  const int64_t *shapes;        // of all tensors, one after the other
  const double *const *values;  // of all tensors
};

// status: 0 and a kernel; 1: there is no kernel for this model, 2: the model is damaged, and `message` says
// why. precision: "float64", "mixed" or "float32"; isa: "portable", "avx2", "avx512", or null for the best
// one. libnnpkit_cuda.so has the same functions, and there it is the device: "cuda:0".
NNPKIT_API void *nnpkit_kernel_new(const struct nnpkit_model *model, const char *precision, const char *isa,
                                   int *status, char *message, size_t message_size);
NNPKIT_API void nnpkit_kernel_delete(void *kernel);
NNPKIT_API int nnpkit_kernel_members(const void *kernel);
NNPKIT_API int nnpkit_kernel_functions(const void *kernel);
NNPKIT_API const char *nnpkit_kernel_isa(const void *kernel);

// Arguments of nnpkit::Evaluator::evaluate; the pointers to counts and seconds may be null. Not 0: `message`
// says why.
NNPKIT_API int nnpkit_kernel_evaluate(void *kernel, const double *edge_vec, const int64_t *neighbor_type,
                                      const int64_t *offsets, const int64_t *types, int64_t n_atoms,
                                      int mean_only, double *atomic_energy, double *gradient,
                                      int64_t *atom_extrapolations, int64_t *function_extrapolations,
                                      double *seconds /* descriptor, network, gradient: added to */,
                                      char *message, size_t message_size);

// Symmetry functions alone, for training; libnnpkit_cuda.so has none. `spec` is JSON: elements, cutoff_kind,
// cutoff_inner, functions, as in the metadata of a model. status, isa and message as above.
NNPKIT_API void *nnpkit_descriptor_new(const char *spec, const char *isa, int *status, char *message,
                                       size_t message_size);
NNPKIT_API void nnpkit_descriptor_delete(void *descriptor);
NNPKIT_API int nnpkit_descriptor_width(const void *descriptor);
NNPKIT_API const char *nnpkit_descriptor_isa(const void *descriptor);

// Edges as of nnpkit_kernel_evaluate, offsets from 0. Not safe to call from two threads at once. Not 0:
// `message` says why.
struct nnpkit_edges {
  const double *edge_vec;
  const int64_t *neighbor_type, *offsets, *types;
  int64_t n_atoms, n_edges;
};
// features (n_atoms, width), padded with zeros
NNPKIT_API int nnpkit_descriptor_features(void *descriptor, const struct nnpkit_edges *edges,
                                          double *features, char *message, size_t message_size);
// jacobian (n_edges, width, 3): the derivatives of the features of the centre by edge_vec
NNPKIT_API int nnpkit_descriptor_jacobian(void *descriptor, const struct nnpkit_edges *edges,
                                          double *jacobian, char *message, size_t message_size);
// gradient (n_edges, 3) = jacobian^T cotangent (n_atoms, width)
NNPKIT_API int nnpkit_descriptor_vjp(void *descriptor, const struct nnpkit_edges *edges,
                                     const double *cotangent, double *gradient, char *message,
                                     size_t message_size);
// change (n_atoms, width) = jacobian tangent (n_edges, 3)
NNPKIT_API int nnpkit_descriptor_jvp(void *descriptor, const struct nnpkit_edges *edges,
                                     const double *tangent, double *change, char *message,
                                     size_t message_size);

// What the labels of a structure are made of: features, and their changes along directions in which atoms
// move. Row k is the force on atom components[k] / 3 along axis components[k] % 3, a sum over samples: the
// change of the features of one atom, of which a row has each at most once, rows and atoms ascending. The
// virial is the sum over all atoms of its six components xx yy zz yz xz xy. neighbor (n_edges): the atom at
// the end of each edge. Nothing is said of derivatives of single edges, which would be most of the memory.
struct nnpkit_directions {
  const int64_t *neighbor, *components;
  int64_t n_components;
  const double *factor;  // (types, width): changes are multiplied by that of the atom's element
  double *features;      // (n_atoms, width), padded with zeros
  double *virial;        // (6, n_atoms, width), or null
  int64_t room;          // samples for which there is memory, at most n_components * (n_atoms + n_edges)
  int64_t n_samples;     // set: how many there are
  int64_t *atom, *row;   // (room)
  double *change;        // (room, width)
};
NNPKIT_API int nnpkit_descriptor_directions(void *descriptor, const struct nnpkit_edges *edges,
                                            struct nnpkit_directions *wanted, char *message,
                                            size_t message_size);

// Training of cluster expansions; libnnpkit_cuda.so has none. `spec` is JSON: n_types, l_max, n_invariants,
// cutoff_kind, terms [[invariant, coefficient, factors ...], ...], radial and angular {cutoff, channels,
// basis, combinations (basis * basis)}, networks [{sizes, activations}, ...] or none, for features alone.
// status, isa and message as above.
NNPKIT_API void *nnpkit_expansion_new(const char *spec, const char *isa, int *status, char *message,
                                      size_t message_size);
NNPKIT_API void nnpkit_expansion_delete(void *expansion);
NNPKIT_API const char *nnpkit_expansion_isa(const void *expansion);
NNPKIT_API int64_t nnpkit_expansion_parameters(const void *expansion);

struct nnpkit_expansion_weights {
  const double *parameters;  // all of them: radial, angular (types, types, channels, basis), then networks
  const double *shift, *factor;  // (types, features) of the scaling
  double lower, energy_scale;
};
NNPKIT_API int nnpkit_expansion_set(void *expansion, const struct nnpkit_expansion_weights *weights,
                                    char *message, size_t message_size);

// Raw features (n_atoms, features) with these weights.
NNPKIT_API int nnpkit_expansion_features(void *expansion, const struct nnpkit_edges *edges, double *features,
                                         char *message, size_t message_size);

// What is wanted of a structure with these weights. Rows are derivatives by all parameters of, in this order,
// the energy if with_energy, the forces on `atoms` along `axes` (n_moves), sums of all forces times one of
// `fields` (n_fields, n_atoms, 3), and the virial along `strains` if with_virial.
struct nnpkit_expansion_rows {
  int with_energy, with_virial;
  int64_t n_moves, n_fields;
  const int64_t *atoms, *axes;
  const double *fields;
  const int *strains;  // (6, 2) components of the virial
  double *energy;      // (1) eV without reference energies
  double *values;      // (n_moves + n_fields + 6 if with_virial), or null: then no rows either
  double *rows;        // (with_energy + values, parameters), added to; may be null
  double *forces;      // (n_atoms, 3) eV/angstrom; may be null
  double *virial;      // (3, 3) eV, where there are forces
};
// neighbor (n_edges): the atom at the end of each edge. An atom of type -1 is a neighbour only: it adds
// nothing to any sum, as another process adds it.
NNPKIT_API int nnpkit_expansion_measure(void *expansion, const struct nnpkit_edges *edges,
                                        const int64_t *neighbor, const struct nnpkit_expansion_rows *wanted,
                                        char *message, size_t message_size);

// out (n_rows, n) = factor * rows A of a symmetric matrix A of which one triangle is stored: its element (r,
// c) is matrix[r + c * ld], where r >= c if `lower`, else r <= c. All arrays in double precision, or in
// single.
struct nnpkit_symmetric {
  const void *matrix;
  int64_t n, ld;
  int lower, single_precision;
  const void *rows;  // (n_rows, by_row)
  int64_t n_rows, by_row;
  double factor;
  void *out;
};
NNPKIT_API int nnpkit_symmetric_product(const struct nnpkit_symmetric *given, const char *isa, char *message,
                                        size_t message_size);

#ifdef __cplusplus
}
#endif

#endif
