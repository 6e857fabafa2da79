// One Deep Potential in the layout that the stages want: tables, packed weights.

#ifndef NNPKIT_DEEP_MEMBER_H
#define NNPKIT_DEEP_MEMBER_H

#include "deep_buffer.h"
#include "deep_network.h"

#include <list>

namespace nnpkit {
namespace deep {

template <typename Real>
class Member {
 public:
  Member(const Model &model, const Stages<Real> &stages);
  Member(Member &&) = default;

  Model model;
  std::vector<Table<Real>> tables;         // of each embedding network
  std::vector<Fitting<Real>> fitting;      // of each element, in units of eV
  std::vector<FeatureRange<Real>> ranges;  // of each element; none if they are not known
  int64_t workspace = 0;                   // numbers that `fit` needs

  // A missing neighbour's share of the sums, (width): G(R_0) R_0
  const Real *absent(int center, int neighbor) const {
    return absent_neighbors.data() + (center * model.n_types + neighbor) * padded_width;
  }
  int padded_width = 0;

 private:
  void tabulate();
  void lay_out_ranges();
  void pack(const Stages<Real> &stages);
  const Real *keep(const std::vector<double> &values);

  std::list<Buffer<Real>> memory;
  std::list<std::vector<Layer<Real>>> layers;
  Buffer<Real> absent_neighbors;
};

}  // namespace deep
}  // namespace nnpkit

#endif
