// pair_style nnpkit: neural network potentials exported by nnpkit. See docs/pair_nnpkit.md.

#ifndef LMP_PAIR_NNPKIT_H
#define LMP_PAIR_NNPKIT_H

#include "pair.h"

#include "committee.h"
#include "extrapolation.h"
#include "model.h"
#include "neighbor_graph.h"
#include "rank_lists.h"
#include "watch.h"

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
  void setup() override;
  void compute(int, int) override;
  void finish() override;

  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

  void *extract(const char *, int &) override;
  void *extract_peratom(const char *, int &) override;
  double memory_usage() override;

 private:
  // what the input asks for (pair_nnpkit_settings.cpp)
  nnpkit::Placement placement;
  int chunk;       // atoms evaluated at once; 0: all of them
  bool chunk_set;  // given in the input
  int64_t every;   // steps between observations
  double percent;  // of force_std_percentile
  nnpkit::ExtrapolationSettings extrapolation_settings;
  nnpkit::Watch watch;

  void allocate();
  bool placement_keyword(const std::string &key, class Words &words);
  bool watch_keyword(const std::string &key, class Words &words);
  void load(const std::string &file);
  void map_types(const std::string &file, int ntypes_given, char **names);
  void check_what_is_watched();
  void log_model(const std::string &file);

  std::string model_file;
  std::unique_ptr<nnpkit::Model> model;
  std::vector<int> element;  // per atom type: model index, -1 for NULL
  double energy_unit;        // LAMMPS energy units per eV

  // one step (pair_nnpkit.cpp)
  nnpkit::NeighborGraph graph;
  nnpkit::Request request;
  nnpkit::Evaluation evaluation;
  nnpkit::Committee committee;
  nnpkit::Totals totals;
  bool observing;    // this step is observed
  bool member_rows;  // and the forces of the members are kept apart

  void check_special_neighbors();
  void begin_step();
  std::string evaluate_all();
  std::string evaluate_chunk(int first, int last);
  std::string tally_chunk();
  std::string tally_members();
  void tally_virial(int64_t atom, const double *gradient, int n_rows);
  std::string not_finite(int i) const;
  std::string same_place() const;
  void add_mean_forces();

  // all atoms at once, for kernels that make the forces themselves (pair_nnpkit_system.cpp)
  nnpkit::RankLists lists;
  std::string evaluate_system();

  // what is observed (pair_nnpkit_observe.cpp)
  nnpkit::Extrapolation extrapolation;
  nnpkit::Observed observed;           // LAMMPS' units, the same on all ranks
  std::vector<double> force_std;       // per local atom
  std::vector<double> extrapolations;  // per local atom
  bigint observed_step;                // -1: none yet
  bigint ended_step;
  int want_force_std, want_extrapolations;  // set by fix pair for one step

  void observe(const std::string &problem);
  void stop_on(std::string problem);
  void judge_step();
  void collect_frame(const std::string &why);
  void end_run();
  void log_extrapolations(bool whole_run);

  // seconds of this rank in this run, and what was done in them
  struct Work {
    double graph = 0.0, model = 0.0, tally = 0.0, observe = 0.0;
    double atoms = 0.0;  // atom-steps
    int64_t steps = 0;
  } work;
  void log_memory();
  void log_timing();
};

}  // namespace LAMMPS_NS

#endif
