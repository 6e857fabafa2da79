// A potential behind nnpkit.h: a file, its kernel, and forces and virial of the gradients of the edges.

#ifndef NNPKIT_POTENTIAL_H
#define NNPKIT_POTENTIAL_H

#include "fused_model.h"
#include "model.h"
#include "neighbor_graph.h"
#include "nnpkit.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace nnpkit {

// Why a call fails: one of enum nnpkit_status and a line.
class Failure : public std::runtime_error {
 public:
  Failure(int status, const std::string &what) : std::runtime_error(what), status(status) {}
  const int status;
};

class Potential {
 public:
  Potential(const std::string &path, int n_threads);

  const ModelInfo &info() const { return description; }
  int n_features() const { return model->n_features(); }

  void evaluate(const nnpkit_atoms &atoms, const nnpkit_neighbors &neighbors, nnpkit_results &results);
  void evaluate(const nnpkit_atoms &atoms, const double *cell, const int *periodic, nnpkit_results &results);

 private:
  ModelInfo description;
  std::unique_ptr<FusedModel> model;
  int n_threads;

  // kept from one evaluation to the next
  NeighborGraph graph;
  Evaluation evaluation;

  // What is handed over once all is well.
  struct Sums {
    double energy = 0.0, virial[9] = {};
    int64_t extrapolations = 0;
    uint64_t balance = 0;  // of both ends of all pairs of centres; 0 in a full list
    std::vector<double> forces, energies, features;
    std::vector<char> is_center;
  };
  void check(const nnpkit_atoms &atoms, const nnpkit_neighbors &neighbors) const;
  void build_graph(const nnpkit_atoms &atoms, const nnpkit_neighbors &neighbors, int64_t first, int64_t last,
                   Sums &sums);
  void add_up(Sums &sums) const;
};

}  // namespace nnpkit

#endif
