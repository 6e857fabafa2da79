/* Potentials of nnpkit for programs in C, or in any language that calls C. libnnpkit.so needs neither Python
 * nor torch nor LAMMPS. See docs/c_library.md; a complete program is examples/c_library/nve.c.
 *
 * Units: eV and angstrom. Arrays of vectors are (n, 3), one vector after the other.
 *
 * Functions that can fail return NNPKIT_OK or another number of enum nnpkit_status, and write one line of
 * reason into `message` (of `size` bytes, ended by a zero; it may be NULL). What they should have written is
 * left as it was then. No C++ exception leaves this library, nothing is printed, and the process is never
 * ended.
 *
 * Every function may be called from any thread. Calls of nnpkit_evaluate and nnpkit_evaluate_cell for one
 * potential wait for each other; load the file once per thread to evaluate at the same time. A potential must
 * not be freed while it is in use.
 */

#ifndef NNPKIT_H
#define NNPKIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NNPKIT_PUBLIC __attribute__((visibility("default")))

/* Of this header. A library with another number must not be used: nnpkit_interface() != NNPKIT_INTERFACE. */
#define NNPKIT_INTERFACE 1
NNPKIT_PUBLIC int nnpkit_interface(void);

enum nnpkit_status {
  NNPKIT_OK = 0,
  NNPKIT_BAD_ARGUMENT =
      1, /* a call that makes no sense: a null pointer, an index that is too large, half a list */
  NNPKIT_NO_FILE = 2,     /* the file cannot be read */
  NNPKIT_BAD_MODEL = 3,   /* no model file, or one that is damaged or of another format */
  NNPKIT_NOT_COVERED = 4, /* a sound model that the compiled kernels do not evaluate; LAMMPS and Python do */
  NNPKIT_BAD_STRUCTURE = 5, /* atoms at the same place, or energies and forces that are not finite */
  NNPKIT_NO_MEMORY = 6
};
/* The status in words; never NULL. */
NNPKIT_PUBLIC const char *nnpkit_status_text(int status);

/* ---- a potential
 * ------------------------------------------------------------------------------------------- */

typedef struct nnpkit_potential nnpkit_potential;

/* Load a model.pt, or a committee.pt, whose mean is evaluated then. The checksum and the self-test of the
 * file are verified. Atoms are shared between n_threads threads (1 or more) in every evaluation. */
NNPKIT_PUBLIC int nnpkit_load(const char *path, int n_threads, nnpkit_potential **potential, char *message,
                              size_t size);
/* NULL is allowed. */
NNPKIT_PUBLIC void nnpkit_free(nnpkit_potential *potential);

/* Of a potential that is NULL there are 0 elements, members and features, and no type and symbol. */
NNPKIT_PUBLIC int nnpkit_n_elements(const nnpkit_potential *potential);
/* Symbol of the element of a type, "H"; NULL if there is no such type. */
NNPKIT_PUBLIC const char *nnpkit_element(const nnpkit_potential *potential, int type);
/* The type of an element, from 0; -1 if the potential does not know it. */
NNPKIT_PUBLIC int nnpkit_type(const nnpkit_potential *potential, const char *element);
NNPKIT_PUBLIC double nnpkit_cutoff(const nnpkit_potential *potential); /* angstrom */
NNPKIT_PUBLIC int nnpkit_n_members(const nnpkit_potential *potential); /* of a committee; else 1 */
/* Features of an atom, the most of any element. */
NNPKIT_PUBLIC int nnpkit_n_features(const nnpkit_potential *potential);

/* ---- evaluation
 * -------------------------------------------------------------------------------------------- */

struct nnpkit_atoms {
  int64_t n_atoms;         /* with copies of atoms that other cells or processes hold, if there are any */
  const double *positions; /* (n_atoms, 3) */
  const int *types;        /* (n_atoms); negative: the potential does not see this atom */
};

/* A full list: of two neighbours each has the other. Pairs beyond the cutoff may be in it, so that one list
 * serves as long as no atom has moved half of its skin. */
struct nnpkit_neighbors {
  int64_t n_centers;      /* atoms that have an energy */
  const int64_t *centers; /* (n_centers) which ones; NULL: the first n_centers */
  const int64_t
      *offsets; /* (n_centers + 1): neighbours of centre k are offsets[k] .. offsets[k + 1] - 1 of */
  const int64_t *neighbors; /* (offsets[n_centers]) */
  const double *shifts;     /* (offsets[n_centers], 3), added to the neighbour's position: a lattice vector;
                               NULL: none, images are atoms of their own */
};

/* Where results go. NULL for an array that is not wanted. */
struct nnpkit_results {
  double energy;    /* sum over the centres */
  double virial[9]; /* W = -dE/dstrain = -sum r (x) dE/dr, xx xy xz yx ... zz; the stress is -W / volume */
  int64_t extrapolations; /* features outside of the range of the training data; -1: the file has no ranges */
  double *forces;   /* (n_atoms, 3) -dE/dposition; those on copies belong to the atoms they are copies of */
  double *energies; /* (n_centers) */
  double *features; /* (n_centers, nnpkit_n_features), shorter sets padded with zeros */
};

NNPKIT_PUBLIC int nnpkit_evaluate(nnpkit_potential *potential, const struct nnpkit_atoms *atoms,
                                  const struct nnpkit_neighbors *neighbors, struct nnpkit_results *results,
                                  char *message, size_t size);

/* The same for a cell, whose neighbours are searched for: every atom of a type that is not negative is a
 * centre, in the order of the atoms (energies and features have n_atoms rows, zeros for the others). cell:
 * the vectors a, b, c one after the other; periodic: not 0 along those that repeat, the others are not looked
 * at. Atoms may be outside of the cell, and the cell smaller than the cutoff. */
NNPKIT_PUBLIC int nnpkit_evaluate_cell(nnpkit_potential *potential, const struct nnpkit_atoms *atoms,
                                       const double cell[9], const int periodic[3],
                                       struct nnpkit_results *results, char *message, size_t size);

#ifdef __cplusplus
}
#endif

#endif
