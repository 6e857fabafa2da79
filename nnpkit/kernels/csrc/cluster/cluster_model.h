// What metadata and tensors of a model of kind "cluster_expansion" or "nep" say, checked, and as arrays for
// the stages.

#ifndef NNPKIT_CLUSTER_MODEL_H
#define NNPKIT_CLUSTER_MODEL_H

#include "acsf_model.h"
#include "cluster_plan.h"
#include "json.h"
#include "kernel.h"

#include <string>
#include <vector>

namespace nnpkit {
namespace cluster {

// Radial functions, and the coefficients (types, types, channels, functions) that make channels of them.
//
// Nothing teaches a channel at distances where there are no neighbours, so that it becomes large there, and
// at all others a small difference of large terms: up to 1e5 times larger, which single precision cannot
// hold. Polynomials whose argument leaves -1 .. 1 at such distances give the same channels by terms that are
// about as large as they are.
struct Channels {
  double cutoff = 0.0, stretch = 1.0;
  int n_functions = 0, n_channels = 0;
  std::vector<double> coefficients;
};

// One monomial of an invariant; factors are rows of harmonics as the kernel counts them, ascending.
struct Product {
  int invariant;
  double coefficient;
  std::vector<int> factors;
};

struct Description {
  int n_types = 0, n_invariants = 0, l_max = 1;
  CutoffKind cutoff_kind = CutoffKind::COSINE;
  Channels radial, angular;
  std::vector<Product> terms;  // those of one invariant together

  int n_features() const { return radial.n_channels + n_invariants * angular.n_channels; }
  double longest() const { return std::max(radial.cutoff, angular.cutoff); }
  bool same_expansion(const Description &other) const;  // moments are the same
};

// False with a reason if the model uses something that the kernel has not. Throws if it contradicts itself.
// The arrays of `input` have to outlive the elements.
bool read_model(const KernelInput &input, Description &description, std::vector<acsf::ElementModel> &elements,
                std::string &reason);

template <typename T>
Expansion<T> plan_expansion(const Description &description);
// The network of raw features: their scaling is in its weights.
template <typename T>
acsf::Network<T> plan_network(const acsf::ElementModel &element, acsf::Storage &storage);
template <typename T>
Center<T> plan_center(const Description &description, int type, acsf::Storage &storage);

}  // namespace cluster
}  // namespace nnpkit

#endif
