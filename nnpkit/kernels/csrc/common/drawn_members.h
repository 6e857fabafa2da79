// What members of a committee have to do with each other: their kind, and those that were drawn from one.
//
// Committees whose members were drawn around the first one ("drawn" in the metadata of the others).
//
// The first member alone drives: it is their mean. Rows of the others are moved so that this holds exactly,
// by what the mean of their deviations is; only deviations mean something. So a step on which nobody asks for
// members costs what one potential costs, and its forces are those of the steps on which somebody asks.

#ifndef NNPKIT_DRAWN_MEMBERS_H
#define NNPKIT_DRAWN_MEMBERS_H

#include "json.h"
#include "kernel.h"

#include <utility>
#include <vector>

namespace nnpkit {

// The "kind" of model that all members are; false with a reason if they differ.
inline bool have_one_kind(const std::vector<KernelInput> &members, std::string &kind, std::string &reason) {
  kind = Json::parse(members[0].metadata).string("kind", "");
  for (const KernelInput &member : members)
    if (Json::parse(member.metadata).string("kind", "") != kind) {
      reason = "members of different kinds";
      return false;
    }
  return true;
}

inline bool drawn_around_the_first(const std::vector<KernelInput> &members) {
  return members.size() > 2 && Json::parse(members[1].metadata).find("drawn") != nullptr;
}

// `n` times as many numbers as there are rows: the mean of all becomes the first.
inline void move_around_the_first(double *rows, int64_t n, int n_rows) {
  for (int64_t k = 0; k < n; k++, rows += n_rows) {
    double excess = 0.0;
    for (int m = 1; m < n_rows; m++) excess += rows[m] - rows[0];
    excess /= n_rows - 1;
    for (int m = 1; m < n_rows; m++) rows[m] -= excess;
  }
}

// Base: Kernel, or DeviceEvaluator.
template <class Base>
class DrawnMembers : public Base {
 public:
  using Base::evaluate;
  DrawnMembers(std::unique_ptr<Base> of_all, std::unique_ptr<Base> of_first)
      : all(std::move(of_all)), first(std::move(of_first)) {}

  int n_members() const override { return all->n_members(); }
  // Networks are drawn, features are those of the first, also where the kernel has some for each member.
  int n_functions() const override { return first->n_functions(); }
  int n_features() const override { return first->n_features(); }
  double table_tolerance() const override { return all->table_tolerance(); }

  void evaluate(const Edges &edges, bool mean_only, const Results &results, Timing *timing) override {
    if (mean_only) return first->evaluate(edges, true, results, timing);
    const bool same = all->n_functions() == first->n_functions() && all->n_features() == first->n_features();
    Results of_all = results;
    if (!same) {
      of_all.atom_extrapolations = nullptr;
      of_all.function_extrapolations = nullptr;
      of_all.features = nullptr;
    }
    all->evaluate(edges, false, of_all, timing);
    if (!same && (results.atom_extrapolations || results.features)) look_at_features(edges, results);
    move_around_the_first(results.atomic_energy, edges.n_atoms, n_members());
    move_around_the_first(results.gradient, 3 * edges.n_edges(), n_members());
  }

 protected:
  std::unique_ptr<Base> all, first;

 private:
  std::vector<double> energies, slopes;  // of the first, which nobody asks for

  void look_at_features(const Edges &edges, const Results &results) {
    energies.resize(edges.n_atoms);
    slopes.resize(3 * edges.n_edges());
    Results of_first = results;
    of_first.atomic_energy = energies.data();
    of_first.gradient = slopes.data();
    of_first.input_gradient = nullptr;
    first->evaluate(edges, true, of_first, nullptr);
  }
};

}  // namespace nnpkit

#endif
