// Fused evaluation of a model: neighbours -> descriptor -> networks -> gradient, one call for a block of
// atoms.
//
// Neither torch nor LAMMPS appears in this folder, so that kernels can be tested, sanitised and fuzzed alone.
// Whatever is wrong with an input throws std::runtime_error; nothing is printed.

#ifndef NNPKIT_KERNEL_H
#define NNPKIT_KERNEL_H

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

// The model's view of a block of atoms: edges sorted by centre, angstrom. Edges longer than the cutoff may be
// present and contribute nothing; an atom may have no edges, and there may be no atoms.
struct Edges {
  const double *edge_vec;        // (n_edges, 3), from the centre to the neighbour
  const int64_t *neighbor_type;  // (n_edges)
  const int64_t *offsets;        // (n_atoms + 1): edges of atom i are offsets[i] .. offsets[i + 1] - 1
  const int64_t *types;          // (n_atoms)
  int64_t n_atoms;
  int64_t n_edges() const { return offsets[n_atoms] - offsets[0]; }
};

// One tensor of a model file, row-major.
struct Array {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

// One potential: the text of metadata.json (its "spec" says what the model is) and the parameters and buffers
// by their names in AtomicModel, for example "networks.networks.0.layers.0.weight" or "scaling.shift".
struct KernelInput {
  std::string metadata;
  std::map<std::string, Array> tensors;
};

// MIXED: distances and sums in double precision, the arithmetic between them in single. SINGLE: all that may
// be.
enum class Precision { DOUBLE, MIXED, SINGLE };

enum class Isa { PORTABLE, AVX2, AVX512 };
// The best one of this processor, or what NNPKIT_ISA=portable|avx2|avx512 asks for.
// Throws if that is not a name or this processor lacks it.
Isa choose_isa();
bool has_isa(Isa isa);
Isa isa_called(const std::string &name);  // empty: choose_isa()
const char *isa_name(Isa isa);

// Seconds, added up over calls.
struct Timing {
  double descriptor = 0.0, network = 0.0, gradient = 0.0;
};

// Where results go. A row is a member of the committee, or the mean over them (n_rows == 1 for a single
// potential and for the mean). Rows are the innermost index: eight members are one AVX-512 register.
struct Results {
  double *atomic_energy;  // (n_atoms, n_rows) eV, written
  double *gradient;       // (n_edges, 3, n_rows) eV/angstrom, written: dE/d edge_vec
  // Features outside the range of the training data (metadata "feature_ranges", of any member); may be null.
  int64_t *atom_extrapolations = nullptr;      // (n_atoms), written: how many features of this atom
  int64_t *function_extrapolations = nullptr;  // (n_elements, n_functions), added to
  double *features =
      nullptr;  // (n_atoms, n_features), written: raw, shorter sets padded with zeros; may be null
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual int n_members() const = 0;
  // Columns of function_extrapolations; 0 if the file has no ranges or this kind does not count.
  virtual int n_functions() const { return 0; }
  // Columns of features, those of members with different descriptors side by side; 0: this kernel shows none.
  virtual int n_features() const { return 0; }
  // Largest relative deviation of tables that stand for parts of the model; 0: the kernel has none.
  virtual double table_tolerance() const { return 0.0; }
  // mean_only: one row, the mean over the members; else n_members rows. The order of every sum is fixed:
  // equal input gives equal bits. Not safe to call from two threads at once.
  virtual void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) = 0;
};

// Members must agree in elements. Null, with a line of reason, if there is no kernel for this kind of model
// or one of its options: TorchScript evaluates it then. Throws if the input contradicts itself.
std::unique_ptr<Kernel> make_kernel(const std::vector<KernelInput> &members, Precision precision, Isa isa,
                                    std::string &reason);

// The same for a place by its name, which is returned as `name`: an instruction set, empty for the best one.
// In the library of CUDA kernels, a device: "cuda:0".
std::unique_ptr<Kernel> make_kernel_for(const std::vector<KernelInput> &members, Precision precision,
                                        const std::string &place, std::string &name, std::string &reason);

// Of the kinds; same arguments and results as make_kernel.
std::unique_ptr<Kernel> make_acsf_kernel(const std::vector<KernelInput> &members, Precision precision,
                                         Isa isa, std::string &reason);
std::unique_ptr<Kernel> make_deep_kernel(const std::vector<KernelInput> &members, Precision precision,
                                         Isa isa, std::string &reason);
std::unique_ptr<Kernel> make_cluster_kernel(const std::vector<KernelInput> &members, Precision precision,
                                            Isa isa, std::string &reason);

}  // namespace nnpkit

#endif
