// A deployed model (model.pt) as the pair style sees it. Neither torch nor LAMMPS appears here.

#ifndef NNPKIT_MODEL_H
#define NNPKIT_MODEL_H

#include "aligned.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

class NeighborGraph;
struct System;
struct SystemResults;

enum class Device { AUTO, CPU, CUDA };

// MIXED: positions and sums in double precision, the arithmetic between them in single.
enum class Arithmetic { FLOAT64, MIXED, FLOAT32 };

// Where and how a model is evaluated.
struct Placement {
  Device device = Device::AUTO;
  Arithmetic precision = Arithmetic::FLOAT64;
  bool fused = true;     // use the fused kernel where there is one for this model, else TorchScript
  int threads = 1;       // of this rank
  int rank_on_node = 0;  // chooses among the GPUs of a node
  int member = 0;        // of a committee whose members are evaluated one by one
};

// What the training data had of one feature.
struct FeatureRange {
  double minimum, maximum;
};

// What one stage of a model says of every atom and the next one hears of its neighbours: numbers that travel
// from owners to ghosts.
struct Field {
  std::string name;
  int width;  // numbers per atom
};

// What is known of charges, where the first field of a model becomes those of atoms; see
// nnpkit/models/charged_model.py.
struct ChargeInfo {
  std::string generation;                               // "third", "fourth" or "latent"; empty: no charges
  std::vector<double> widths, hardness;                 // of each element, angstrom and eV/e^2
  double screening_inner = 0.0, screening_outer = 0.0;  // angstrom; 0: none
  bool seen = false;                                    // by the networks of the energies
};

// What the file says about itself, and what was made of it.
struct ModelInfo {
  std::string kind;                   // of descriptor: "acsf"; or "committee"
  std::string member_kind;            // of a committee's first member
  std::vector<std::string> elements;  // a type index of the graph is a position in this list
  double cutoff = 0.0;                // angstrom
  long long n_parameters = 0;
  int n_members = 1;      // of a committee
  bool apart = false;     // this is one of these members, which have charges and are evaluated one by one
  bool describes = true;  // its features are among those of the committee
  double spread_factor = 1.0;                // by which deviations of members become expected errors
  int n_functions = 0;                       // columns of Evaluation::function_extrapolations; 0: no ranges
  std::vector<FeatureRange> feature_ranges;  // (elements, n_functions)
  ChargeInfo charges;
  // Energies beside the networks that no kernel knows: the method "terms" of the file. The members of a
  // committee share them, or they are part of what the file says as a whole.
  bool terms = false, different_terms = false;
  std::vector<Field> fields;                  // of each stage but the last; none: the edges decide alone
  std::string nnpkit_version, torch_version;  // that wrote the file
  std::string missing_baseline;               // what this is a correction to, if the file does not hold it

  std::string device;         // "cpu" or "cuda:1"
  std::string precision;      // "float64", "mixed" or "float32"
  std::string kernel;         // "fused, avx512", "fused, cuda", or "torchscript (why)"
  double energy_error = 0;    // self-test: largest deviation, eV
  double gradient_error = 0;  // self-test: largest deviation, eV/angstrom
};

// What is wanted of an evaluation.
struct Request {
  bool members = false;         // a row for each member of a committee; else one row, the mean over them
  bool extrapolations = false;  // count features outside the range of the training data
  bool features = false;        // the features themselves
};

// eV and eV/angstrom; the vectors keep their memory from one evaluation to the next. Rows are innermost.
struct Evaluation {
  int n_rows = 1;
  std::vector<double> atomic_energy;             // (graph atoms, n_rows)
  AlignedVector<double> gradient;                // (edges, 3, n_rows): dE/d edge_vec
  std::vector<double> charge_gradient;           // (graph atoms, n_rows) V, where charges are given
  std::vector<int64_t> atom_extrapolations;      // (graph atoms), written where requested
  std::vector<int64_t> function_extrapolations;  // (elements, n_functions), added to: the caller clears it
  std::vector<double> features;                  // (graph atoms, n_features), written where requested
  double descriptor_seconds = 0, network_seconds = 0, gradient_seconds = 0;  // added to, by fused kernels
};

// What a stage gets: what the one before it has said, nothing at the first. Rows are innermost.
struct StageInputs {
  std::vector<double> own, theirs;    // (graph atoms, width), (edges, width)
  const double *cotangent = nullptr;  // (graph atoms, width of the result); null: no gradients are wanted
  bool features = false;              // wanted: of the last stage only
  bool extrapolations = false;
};

// The field of this stage, or of the last the atomic energies in eV; and the derivatives of their sum,
// weighted with the cotangent.
struct StageResults {
  std::vector<double> values;                        // (graph atoms, width)
  std::vector<double> own_gradient, their_gradient;  // as StageInputs::own and theirs
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo &info() const = 0;
  // Columns of Evaluation::features: raw, as the model's own, shorter sets padded with zeros; 0: it shows
  // none.
  virtual int n_features() = 0;
  // Throws std::runtime_error, nothing else.
  virtual void evaluate(const NeighborGraph &graph, const Request &request, Evaluation &result) = 0;
  // Whether `evaluate` gives all stages at once, as members: the atomic energies, and each number of the one
  // field. Then the energies do not depend on the field.
  virtual bool stages_at_once() const = 0;
  // Whether kernels evaluate one stage after the other, the energies with charges: by `evaluate_kernel` of
  // stage 0, whose energies are the field, and of stage 1 with `charges` (graph atoms).
  virtual bool stages_by_kernels() const = 0;
  virtual void evaluate_kernel(int number, const NeighborGraph &graph, const double *charges,
                               const Request &request, Evaluation &result) = 0;
  // The same of one stage of a model that has fields. By the edge vectors: into evaluation.gradient, where
  // the features and their extrapolations go as well.
  virtual void evaluate_stage(int number, const NeighborGraph &graph, const StageInputs &inputs,
                              StageResults &results, Evaluation &evaluation) = 0;
  // Whether it takes all atoms of a rank at once and makes the forces, and all of this, itself: on a device.
  virtual bool takes_systems(const Request &request) const = 0;
  virtual void evaluate(const System &system, SystemResults &results) = 0;
};

// Throws std::runtime_error with one line of reason if the bytes are no model that passes its self-test.
std::unique_ptr<Model> load_model(const std::string &bytes, const Placement &placement);

// Signature of the one symbol that libnnpkit_model.so exports, and its name.
using ModelFactory = Model *(const std::string &bytes, const Placement &placement);
constexpr const char MODEL_FACTORY[] = "nnpkit_load_model";

}  // namespace nnpkit

#endif
