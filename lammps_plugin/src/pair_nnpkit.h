// pair_style nnpkit: neural network potentials exported by nnpkit. See docs/pair_nnpkit.md.

#ifndef LMP_PAIR_NNPKIT_H
#define LMP_PAIR_NNPKIT_H

#include "pair.h"

#include "committee.h"
#include "electrostatics.h"
#include "exclusions.h"
#include "history.h"
#include "model.h"
#include "neighbor_graph.h"
#include "observation.h"
#include "rank_lists.h"

#include <memory>
#include <set>
#include <string>
#include <vector>

namespace LAMMPS_NS {

// Energies, forces and virials, and, where it is asked for, disagreement and extrapolation of the
// configuration just evaluated. It does not know what a trajectory is: LAMMPS evaluates trial moves and
// displacements as well. A fix nnpkit/watch of its own tells it which configurations are steps
// (fix_nnpkit_watch.h).
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

  int pack_forward_comm(int, int *, double *, int, int *) override;
  void unpack_forward_comm(int, int, double *) override;
  int pack_reverse_comm(int, int, double *) override;
  void unpack_reverse_comm(int, int *, double *) override;

  void *extract(const char *, int &) override;
  void *extract_peratom(const char *, int &) override;
  double memory_usage() override;

  // For fix nnpkit/watch and compute nnpkit (pair_nnpkit_observe.cpp).
  // The style that `command` speaks of: the one that the fix `watch` belongs to, the `instance`-th, or the
  // only one.
  static PairNNPKit *find(class LAMMPS *lmp, const std::string &command, int instance,
                          const std::string &watch = "");
  bool loaded() const { return !members.empty(); }
  const nnpkit::ModelInfo &info() const { return whole; }
  const std::string &file() const { return model_file; }
  int element_of_type(int type) const { return element[type]; }
  int n_features() { return all_features; }
  double unit_of_energy() const { return energy_unit; }
  bool quiet() const { return post_no; }
  int64_t command() const {
    return commands;
  }  // runs, minimisations and reruns are told apart by this number
  bool is_watched_by(const std::string &fix) const { return fix == watch_id; }

  void ask() { asked = true; }                     // to observe the next evaluation
  void ask_for_forces() { always_forces = true; }  // in all observations until the next command
  void add_compute(const std::string &compute) {
    computes.insert(compute);
  }  // observe the steps that need it
  void add_compute_of_features(const std::string &compute) { feature_computes.insert(compute); }
  void keep();  // the configuration just evaluated is that of the step
  const nnpkit::Observation &kept() const { return of_step; }
  // What a watch has made of this step: shown by compute pair.
  void show_run(double extrapolations, double frames, bool ended);
  void add_to_run(double frames, bool ended);

 private:
  // what the input asks for (pair_nnpkit_settings.cpp)
  nnpkit::Placement placement;
  int chunk;                             // atoms evaluated at once; 0: all of them
  bool chunk_set;                        // given in the input
  int64_t every;                         // steps between observations; 0: only where something asks
  double percent;                        // of force_std_percentile
  std::vector<std::string> watch_words;  // for the fix of its own
  std::string watch_id;                  // of that fix, empty: there is none yet

  friend struct PairKeywords;
  void allocate();
  void load(const std::string &file);
  void describe_members();
  void clear_model();
  void map_types(const std::string &file, int ntypes_given, char **names);
  void make_watch();
  void drop_watch();
  void log_model(const std::string &file);

  std::string model_file;
  // The model; of a committee with charges its members, which are evaluated one by one.
  std::vector<std::unique_ptr<nnpkit::Model>> members;
  nnpkit::Model *model;      // that is evaluated now
  int member;                // its number
  nnpkit::ModelInfo whole;   // of the file
  int all_features;          // columns that members show side by side
  int first_feature;         // of this model
  bool initialised;          // since this model was loaded
  std::vector<int> element;  // per atom type: model index, -1 for NULL
  double energy_unit;        // LAMMPS energy units per eV
  double unit;               // the same of a model's share in the mean of all members

  // one step (pair_nnpkit.cpp)
  nnpkit::Exclusions exclusions;
  const int *types;  // of all atoms; 0 for those that are excluded from everything
  nnpkit::NeighborGraph graph;
  nnpkit::Request request;
  nnpkit::Evaluation evaluation;
  nnpkit::Committee committee;
  nnpkit::Totals totals;
  bool observing;    // this evaluation is observed
  bool member_rows;  // and the forces of the members are kept apart

  void check_special_neighbors();
  void begin_step();
  bool to_be_observed();
  bool is_step_of(const std::set<std::string> &computes) const;
  std::string evaluate_model();
  std::string evaluate_members();
  std::string evaluate_all();
  std::string evaluate_chunk(int first, int last);
  void note_features();
  std::string tally_chunk();
  std::string tally_members();
  void tally_virial(int64_t atom, const double *gradient, int n_rows);
  std::string not_finite(int i) const;
  std::string same_place() const;
  void add_mean_forces();

  // all atoms at once, for kernels that make the forces themselves (pair_nnpkit_system.cpp)
  nnpkit::RankLists lists;
  std::string evaluate_system();

  // stage by stage, with what atoms tell each other in between (pair_nnpkit_stages.cpp)
  nnpkit::StageInputs stage;
  nnpkit::StageResults stage_results;
  std::vector<std::vector<double>> field;           // of each stage but the last: (local and ghosts, width)
  std::vector<std::vector<double>> field_gradient;  // dE by it
  std::vector<double> cotangent;
  std::vector<double> *travelling;  // what forward and reverse communication carry; null: the members' forces
  int travelling_width;
  std::string evaluate_stages();
  std::vector<double> kept_energies, kept_gradients;  // of all stages at once, until the charges are known
  std::vector<double> kept_slopes;                    // of the field, where the energies see charges
  std::string evaluate_stages_at_once();
  std::string evaluate_with_charges();
  std::string over_chunks(bool again, const std::function<std::string()> &one);
  std::string run_stage(int number, int first, int last, bool backward);
  void exchange(std::vector<double> &rows, int width, bool backward);

  // what the charges of a model do (pair_nnpkit_charges.cpp)
  static constexpr double USUAL_ACCURACY = 1.0e-5;
  double ewald_accuracy, total_charge;  // of the input
  std::string mesh;                     // likewise: auto, yes or no
  bool charge_words = false;            // any of these was given
  // How the charges of one model interact.
  struct Interaction {
    std::unique_ptr<nnpkit::Electrostatics> sum;
    double reach = 0.0;  // of pairs in Ewald's sum, angstrom; 0: a cluster
    // charges of the steps before, and how energies changed with electronegativities; null: no equilibrium
    std::unique_ptr<nnpkit::History> solutions, answers;
  };
  std::vector<Interaction> interactions;     // of each member; none: there are no charges
  nnpkit::NeighborGraph near;                // those pairs
  std::vector<int> charged, species;         // local atoms of the model; element of all atoms
  std::vector<std::vector<double>> charges;  // of each channel: (local and ghosts), e
  std::vector<double> mean_charges;          // of the members, (local and ghosts), e
  std::vector<int64_t> tags;                 // of the local atoms of the model
  std::vector<double> predicted(const nnpkit::History &history, bool charges) const;
  void note(nnpkit::History &history, const std::vector<double> &values) const;
  std::array<double, 9> cell() const;
  int open_direction() const;
  std::array<double, 9> cell_with_vacuum(const nnpkit::ChargeInfo &info, int open) const;
  void init_charges();
  void refuse_other_charges() const;
  Interaction new_interaction();
  double reach() const;
  void set_charges();
  void check_total_charge() const;
  std::string make_charges();
  std::string use_charges();

  // what is observed (pair_nnpkit_observe.cpp)
  nnpkit::Observation latest;   // of the configuration just evaluated
  nnpkit::Observation of_step;  // of the last that was one of a run, minimisation or rerun
  nnpkit::Observed shown;       // of_step, and what the watch has made of it
  int64_t evaluations;
  bool asked, always_forces;
  std::set<std::string> computes, feature_computes;
  int want_force_std, want_extrapolations;  // set by fix pair for one step

  void observe(const std::string &problem);
  void stop_on(std::string problem);
  void publish();

  // seconds of this rank in this run, and what was done in them
  struct Work {
    double graph = 0.0, model = 0.0, charges = 0.0, tally = 0.0, observe = 0.0;
    double atoms = 0.0;               // atom-steps
    int64_t steps = 0, products = 0;  // of the interactions of charges with vectors
  } work;
  int64_t commands;
  bool post_no;          // of the run command
  bool memory_is_known;  // the log has said what this model needs
  void begin_command();
  void log_memory();
  void log_timing();
};

}  // namespace LAMMPS_NS

#endif
