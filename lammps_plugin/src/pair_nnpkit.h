// pair_style nnpkit: neural network potentials exported by nnpkit. See docs/pair_nnpkit.md.

#ifndef LMP_PAIR_NNPKIT_H
#define LMP_PAIR_NNPKIT_H

#include "pair.h"

#include "model.h"
#include "neighbor_graph.h"

#include <memory>
#include <string>
#include <vector>

namespace LAMMPS_NS {

class PairNNPKit : public Pair {
 public:
  PairNNPKit(class LAMMPS *);
  ~PairNNPKit() override;

  void settings(int, char **) override;
  void coeff(int, char **) override;
  void init_style() override;
  double init_one(int, int) override;
  void compute(int, int) override;
  double memory_usage() override;

 private:
  nnpkit::Placement placement;
  int chunk;       // atoms evaluated at once; 0: all of them
  bool chunk_set;  // given in the input

  std::unique_ptr<nnpkit::Model> model;
  std::vector<int> element;  // per atom type: model index, -1 for NULL
  double energy_unit;        // LAMMPS energy units per eV

  nnpkit::NeighborGraph graph;
  nnpkit::Evaluation evaluation;

  void allocate();
  void load(const std::string &file);
  void map_types(const std::string &file, int ntypes_given, char **names);
  void log_model(const std::string &file);
  void check_special_neighbors();

  void evaluate_chunk(int first, int last);
  void tally_chunk();
};

}  // namespace LAMMPS_NS

#endif
