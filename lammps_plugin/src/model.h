// A deployed model (model.pt) as the pair style sees it. Neither torch nor LAMMPS appears here.

#ifndef NNPKIT_MODEL_H
#define NNPKIT_MODEL_H

#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

class NeighborGraph;

enum class Device { AUTO, CPU, CUDA };

// Where and how a model is evaluated.
struct Placement {
  Device device = Device::AUTO;
  bool single_precision = false;
  int threads = 1;       // torch threads of this rank
  int rank_on_node = 0;  // chooses among the GPUs of a node
};

// What the file says about itself, and what was made of it.
struct ModelInfo {
  std::string kind;                   // of descriptor: "acsf"
  std::vector<std::string> elements;  // a type index of the graph is a position in this list
  double cutoff = 0.0;                // angstrom
  long long n_parameters = 0;
  std::string nnpkit_version, torch_version;  // that wrote the file

  std::string device;         // "cpu" or "cuda:1"
  std::string precision;      // "float64" or "float32"
  double energy_error = 0;    // self-test: largest deviation, eV
  double gradient_error = 0;  // self-test: largest deviation, eV/angstrom
};

// eV and eV/angstrom; the vectors keep their memory from one evaluation to the next.
struct Evaluation {
  std::vector<double> atomic_energy;  // per graph atom
  std::vector<double> gradient;       // 3 per edge: dE/d edge_vec
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo &info() const = 0;
  // Throws std::runtime_error, nothing else.
  virtual void evaluate(const NeighborGraph &graph, Evaluation &result) = 0;
};

// Throws std::runtime_error with one line of reason if the bytes are no model that passes its self-test.
std::unique_ptr<Model> load_model(const std::string &bytes, const Placement &placement);

// Signature of the one symbol that libnnpkit_model.so exports, and its name.
using ModelFactory = Model *(const std::string &bytes, const Placement &placement);
constexpr const char MODEL_FACTORY[] = "nnpkit_load_model";

}  // namespace nnpkit

#endif
