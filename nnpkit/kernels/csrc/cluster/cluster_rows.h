// Host side of the training of cluster expansions: plans, memory, and the loop over centres.

#ifndef NNPKIT_CLUSTER_ROWS_H
#define NNPKIT_CLUSTER_ROWS_H

#include "acsf_memory.h"
#include "c_api.h"
#include "cluster_rows_plan.h"
#include "json.h"
#include "kernel.h"

#include <string>
#include <vector>

namespace nnpkit {
namespace cluster {

RowsStages rows_stages_of(Isa isa);

// What does not change with the weights. `spec` is JSON, see c_api.h; throws if it contradicts itself.
struct RowsDescription {
  explicit RowsDescription(const Json &spec);

  RowsPlan plan{};
  struct Layer {
    int n_in, n_out;
    Activation activation;
  };
  std::vector<std::vector<Layer>> networks;  // of each element; none: features alone
  int64_t n_parameters = 0;
  int widest = 0, most_nodes = 0;  // padded: any layer or the features; all layers of one element

 private:
  acsf::Storage storage;

  Radial read_radial(const Json &spec, const std::string &which);
  void read_networks(const Json &spec);
};

// First and second derivatives of the invariants with these terms (invariant, coefficient, factors).
struct Term {
  int invariant;
  double coefficient;
  std::vector<int> factors;
};
void plan_derivatives(const std::vector<Term> &terms, int n_invariants, RowsPlan &plan,
                      acsf::Storage &storage);

class ExpansionTraining {
 public:
  ExpansionTraining(const Json &spec, Isa isa);

  const char *isa() const { return name; }
  int64_t n_parameters() const { return description.n_parameters; }
  int n_features() const { return description.plan.n_features; }
  void set(const nnpkit_expansion_weights &weights);
  void features(const nnpkit_edges &edges, double *features);
  void measure(const nnpkit_edges &edges, const int64_t *neighbor, const nnpkit_expansion_rows &wanted);

 private:
  const char *const name;
  const RowsStages stages;
  const RowsDescription description;
  const RowsPlan &plan;
  std::vector<double> weights, scaling;  // of all centres, padded; shifts, then factors
  std::vector<RowsLayer> layers;
  std::vector<RowsCenter> centers;  // per type
  Site site{};
  acsf::Buffer<double> center_memory, edge_memory;
  std::vector<int> counts,
      order;  // of edges: per type; the edge of the structure, from the first of the centre
  std::vector<double> changes;
  std::vector<std::vector<int64_t>> moves_of;  // rows that move an atom
  std::vector<int> near_edges;
  int n_waiting = 0;
  double *waiting[BATCH];
  double *waiting_value[BATCH];

  void gather(const nnpkit_edges &edges, int64_t atom);
  void add_gradient(const int64_t *neighbor, int64_t atom, const nnpkit_expansion_rows &wanted);
  void make_room(int n_edges);
  void check(const nnpkit_edges &edges, int64_t least) const;  // type of an atom
  // directions wait until a batch is full
  void push(const RowsCenter &center, double *row, double *value);
  void flush(const RowsCenter &center);
  void move(const RowsCenter &center, const nnpkit_edges &edges, const int64_t *neighbor, int64_t atom,
            const nnpkit_expansion_rows &wanted);
};

}  // namespace cluster
}  // namespace nnpkit

#endif
