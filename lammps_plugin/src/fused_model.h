// The evaluators of a model as the plugin and the C library use them, one for each thread or one on a device,
// checked against the self-test of the file. No torch
// here.

#ifndef NNPKIT_FUSED_MODEL_H
#define NNPKIT_FUSED_MODEL_H

#include "kernel.h"
#include "model.h"

#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

// A frame and what the model that was exported made of it.
struct StoredTest {
  std::vector<double> edge_vec, atomic_energy, gradient;
  std::vector<int64_t> neighbor_type, offsets, types;
};

// |dE| <= energy * max(1 eV, |E|) and |dg| <= gradient * scale_of_gradients (eV/A)
struct Tolerance {
  double energy, gradient;
};
constexpr Tolerance SELF_TEST{1.0e-10, 1.0e-8};        // what every loader of a model.pt asks for
constexpr Tolerance SELF_TEST_SINGLE{1.0e-3, 1.0e-3};  // in single precision: rounding, not tampering

// Largest deviations from a stored test: of energies relative to max(1 eV, |E|), of gradients in eV/angstrom
// relative to scale_of_gradients.
struct Deviation {
  double energy = 0.0, gradient = 0.0;

  bool is_within(const Tolerance &allowed) const {  // not if one of them is not a number
    return energy <= allowed.energy && gradient <= allowed.gradient;
  }
};

// Rounding grows with the numbers that are rounded: up to 1 eV/angstrom deviations count as they are, above
// it relative to the largest gradient.
inline double scale_of_gradients(double largest) {
  return largest > 1.0 ? largest : 1.0;
}

class FusedModel {
 public:
  // On a GPU, or, for -1, on the processor, where so many threads share the atoms. Null, with a line of
  // reason, if there is no kernel for this model.
  static std::unique_ptr<FusedModel> make(const std::vector<KernelInput> &members, Arithmetic precision,
                                          int gpu, int n_threads, std::string &reason);

  Deviation deviation(const StoredTest &test, int64_t n_elements);
  int n_functions() const { return kernel->n_functions(); }
  int n_features() const { return kernel->n_features(); }
  int n_threads() const { return 1 + static_cast<int>(helpers.size()); }
  // What the user allowed at export for tables comes on top.
  Tolerance with_tables(const Tolerance &allowed) const {
    const double tables = kernel->table_tolerance();
    return {allowed.energy + 10.0 * tables, allowed.gradient + 100.0 * tables};
  }
  std::string name() const { return "fused, " + place; }  // "fused, avx512" or "fused, cuda"
  // Where its gradients are; on a device it takes systems as well.
  Memory memory() const { return kernel->memory(); }

  // `charges` (graph atoms), e, of a model whose networks see them.
  void evaluate(const NeighborGraph &graph, const Request &request, Evaluation &result,
                const double *charges = nullptr);
  void evaluate(const System &system, SystemResults &results) { whole->evaluate(system, results); }

 private:
  // Every thread takes a range of the atoms, with a kernel of its own.
  void evaluate_parts(const Edges &edges, bool mean_only, const Results &results, size_t n_counts);

  std::unique_ptr<Evaluator> kernel;
  std::vector<std::unique_ptr<Evaluator>> helpers;   // of the other threads
  std::vector<Timing> timings;                       // of each thread
  std::vector<std::vector<int64_t>> extrapolations;  // (n_elements, n_functions) of each
  DeviceEvaluator *whole = nullptr;                  // the first, if it is on a device
  std::string place;
  int n_members = 1;
};

}  // namespace nnpkit

#endif
