// What evaluates a model, for everybody who uses one: the LAMMPS plugin, the library for programs in C, and
// Python (c_api.h). A class that evaluates says all of it itself; nothing has a default that does nothing.
//
// Neither torch nor LAMMPS appears in this folder, so that kernels can be tested, sanitised and fuzzed alone.
// Whatever is wrong with an input throws std::runtime_error; nothing is printed.

#ifndef NNPKIT_EVALUATOR_H
#define NNPKIT_EVALUATOR_H

#include <cstdint>

namespace nnpkit {

// The model's view of a block of atoms: edges sorted by centre, angstrom. Edges longer than the cutoff may be
// present and contribute nothing; an atom may have no edges, and there may be no atoms.
struct Edges {
  const double *edge_vec;        // (n_edges, 3), from the centre to the neighbour
  const int64_t *neighbor_type;  // (n_edges)
  const int64_t *offsets;        // (n_atoms + 1): edges of atom i are offsets[i] .. offsets[i + 1] - 1
  const int64_t *types;          // (n_atoms)
  int64_t n_atoms;
  // (n_atoms): what the networks of a model with "charge_input" see behind the features, their charge in e
  const double *inputs = nullptr;
  int64_t n_edges() const { return offsets[n_atoms] - offsets[0]; }
};

// Where results of edges go. A row is a member of the committee, or the mean over them (n_rows == 1 for a
// single potential and for the mean). Rows are the innermost index: eight members are one AVX-512 register.
struct Results {
  double *atomic_energy;  // (n_atoms, n_rows) eV, written
  double *gradient;       // (n_edges, 3, n_rows) eV/angstrom, written: dE/d edge_vec
  // Features outside the range of the training data (metadata "feature_ranges", of any member); may be null.
  int64_t *atom_extrapolations = nullptr;      // (n_atoms), written: how many features of this atom
  int64_t *function_extrapolations = nullptr;  // (n_elements, n_functions), added to
  double *features =
      nullptr;  // (n_atoms, n_features), written: raw, shorter sets padded with zeros; may be null
  double *input_gradient = nullptr;  // (n_atoms, n_rows) eV/e, written: dE by the inputs; may be null
};

// Seconds, added up over calls.
struct Timing {
  double descriptor = 0.0, network = 0.0, gradient = 0.0;
};

// All atoms of an MPI rank: 0 .. n_all - 1 are local, then ghosts. Neighbours are those of a list with a
// skin.
struct System {
  int n_all;
  const double *positions;  // (n_all, 3) angstrom
  const int *types;         // (n_all): element of the model; negative: not seen by it
  int n_centers;            // atoms that have an energy: none of a negative type
  const int *centers;       // (n_centers)
  const int64_t *offsets;   // (n_centers + 1)
  const int *neighbors;     // (offsets[n_centers])
  bool new_lists;           // any of these but the positions has changed since the last call
  bool per_center;          // energies and virials of the centres are wanted
  bool members;             // a row for each member of a committee, else one row, the mean over them
  bool extrapolations;      // features outside the range of the training data are to be counted
  int chunk;                // centres at a time, which bounds the memory; 0: chosen
};

// eV, angstrom. The pointers hold until the next call. Energy and virial are means over the members.
struct SystemResults {
  double energy = 0.0;
  double virial[9] = {};            // xx yy zz xy xz yz yx zx zy of W = - sum r (x) dE/dr
  double closest_squared = 0.0;     // angstrom^2: of all pairs in the lists, infinity if there is none
  int n_rows = 1;                   // innermost index of what follows
  double *forces = nullptr;         // (n_all, 3, n_rows), of ghosts too
  double *energies = nullptr;       // (n_rows)
  const double *centers = nullptr;  // (n_centers, 11): energy, virial as above, closest_squared; if wanted
  // if wanted, as of Results: (n_centers) and (n_elements, n_functions)
  const unsigned long long *atom_extrapolations = nullptr, *function_extrapolations = nullptr;
};

// Where the gradients of edges are when they have been made. On the host the caller adds them up as he needs
// them. From a device it takes longer to bring them back than to make them, so it is asked for sums.
enum class Memory { HOST, DEVICE };

class Evaluator {
 public:
  virtual ~Evaluator() = default;
  virtual Memory memory() const = 0;
  virtual int n_members() const = 0;
  // Columns of function_extrapolations; 0 if the file has no ranges.
  virtual int n_functions() const = 0;
  // Columns of features, those of members with different descriptors side by side; 0: it shows none.
  virtual int n_features() const = 0;
  // Largest relative deviation of tables that stand for parts of the model; 0: there are none.
  virtual double table_tolerance() const = 0;
  // mean_only: one row, the mean over the members; else n_members rows. The order of every sum is fixed:
  // equal input gives equal bits. Not safe to call from two threads at once.
  virtual void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) = 0;
};

// One whose gradients are in the memory of a device: energies, forces, virials and counts are added up there,
// those of members as well. One wait for the device per call.
class DeviceEvaluator : public Evaluator {
 public:
  using Evaluator::evaluate;
  Memory memory() const final { return Memory::DEVICE; }
  virtual void evaluate(const System &system, SystemResults &results) = 0;
};

}  // namespace nnpkit

#endif
