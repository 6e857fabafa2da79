// The TorchScript of a model file, behind a header without torch.

#ifndef NNPKIT_TORCHSCRIPT_H
#define NNPKIT_TORCHSCRIPT_H

#include "cuda_library.h"
#include "fused_model.h"
#include "kernel_inputs.h"
#include "model.h"

#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

class NeighborGraph;

// Throws std::runtime_error of one line, nothing else.
class TorchScript {
 public:
  // Opened where `placement` says; where CUDA kernels have a GPU, torch need not. `bytes` have a valid seal.
  TorchScript(const std::string &bytes, const Placement &placement, const Gpu &gpu);
  ~TorchScript();

  // The text of metadata.json; of a committee whose members are evaluated one by one that of the member.
  const std::string &metadata() const { return text; }
  const ModelInfo &info() const { return description; }  // what it says
  std::string device() const;                            // "cpu" or "cuda:1"
  bool on_cpu() const;
  NamedArrays arrays() const;

  // The frame stored in the file and what the model that was exported made of it, and how far this one is
  // off.
  StoredTest stored_test();
  Deviation deviation();
  void use_single_precision();

  // One row, or one for each member of a committee, as Evaluation.
  void evaluate(const NeighborGraph &graph, bool members, Evaluation &result);
  // Of a model with terms that kernels do not know: what it says less these terms, and these terms beside
  // what a kernel has said.
  void take_terms(StoredTest &test);
  void add_terms(const NeighborGraph &graph, Evaluation &result);
  // A stage as Model evaluates it, without features.
  void evaluate_stage(int number, const NeighborGraph &graph, const StageInputs &inputs,
                      StageResults &results, Evaluation &evaluation);
  // Raw features (graph atoms, columns), of the last stage if there are several.
  std::vector<double> features(const NeighborGraph &graph);
  std::vector<double> features(const NeighborGraph &graph, const StageInputs &inputs);
  int n_features();  // 0: it shows none

 private:
  struct Script;  // all that is of torch
  std::unique_ptr<Script> module;
  std::string text;
  ModelInfo description;
};

}  // namespace nnpkit

#endif
