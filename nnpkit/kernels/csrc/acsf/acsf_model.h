// What metadata and tensors of a model of kind "acsf" say, checked, and as arrays for the stages.

#ifndef NNPKIT_ACSF_MODEL_H
#define NNPKIT_ACSF_MODEL_H

#include "acsf_plan.h"
#include "json.h"
#include "kernel.h"

#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace nnpkit {
namespace acsf {

struct Function {
  enum Kind { RADIAL, NARROW, WIDE } kind;
  int center, first, second;  // types; first <= second
  double cutoff, eta, shift, zeta, lambda;
  int column;  // among the functions of its centre
};

// The descriptor, which members of a committee may share.
struct Description {
  int n_types = 0;
  CutoffKind cutoff_kind = CutoffKind::HARD;
  double cutoff_inner = 0.0;
  std::vector<Function> functions;
  std::vector<int> n_features;  // per type
  double longest = 0.0;         // cutoff of all functions

  bool operator==(const Description &other) const;
  int width() const;  // the most features of any type
};

// Network and scaling of one element of one member, all in double precision.
struct Dense {
  int n_in, n_out;
  Activation activation;
  const double *weight, *bias;  // (n_out, n_in), (n_out) of the model file
};
struct ElementModel {
  std::vector<Dense> layers;
  int n_features;                // the first inputs; a charge may come behind them
  const double *shift, *factor;  // scaled = (raw - shift) * factor + lower; a charge is not scaled
  double lower, energy_scale, reference;
  std::vector<double> minimum, maximum;  // of the features in the training data; empty if not known

  int n_in() const { return layers.front().n_in; }
  bool sees_charge() const { return n_in() > n_features; }
};

// The descriptor of a "spec". False with a reason if it uses something that the kernel has not; throws if it
// contradicts itself.
bool read_description(const Json &spec, Description &description, std::string &reason);

// False with a reason if the model uses something that the kernel has not. Throws if it contradicts itself.
// The arrays of `input` have to outlive the result.
bool read_model(const KernelInput &input, Description &description, std::vector<ElementModel> &elements,
                std::string &reason);

// Networks, scaling and ranges of every element whose features the metadata describes, `n_features` of each.
// False with a reason if an activation is not known.
bool read_elements(const KernelInput &input, const Json &metadata, const std::vector<int> &n_features,
                   std::vector<ElementModel> &elements, std::string &reason);
// A tensor of this shape; throws if there is none.
const Array &tensor_of(const KernelInput &input, const std::string &name, const std::vector<int64_t> &shape);

// Arrays that a plan points to. Every array starts at a cache line and may be read PADDING entries too far.
class Storage {
 public:
  template <typename T, typename Values>
  const T *keep(const Values &values) {
    const size_t bytes = (values.size() + PADDING) * sizeof(T);
    T *const copy = reinterpret_cast<T *>(room(bytes));
    size_t n = 0;
    for (const auto &value : values) copy[n++] = static_cast<T>(value);
    return copy;
  }
  // the same of structures, which are kept as they are
  template <typename S>
  const S *keep_all(const std::vector<S> &values) {
    S *const copy = reinterpret_cast<S *>(room(values.size() * sizeof(S) + 1));
    for (size_t n = 0; n < values.size(); n++) new (copy + n) S(values[n]);
    return copy;
  }
  char *room(size_t bytes);  // zeroed

 private:
  struct Free {
    void operator()(char *memory) const;
  };
  std::deque<std::unique_ptr<char[], Free>> blocks;
};

template <typename T>
Center<T> plan_center(const Description &description, int type, Storage &storage);

// One network, or up to MEMBERS side by side, which then must have the same layers.
template <typename T>
Network<T> plan_network(const std::vector<const ElementModel *> &members, Storage &storage);
template <typename T>
MemberNetworks<T> plan_member_networks(const std::vector<const ElementModel *> &members, Storage &storage);
bool same_layers(const ElementModel &a, const ElementModel &b);
int nodes_needed(const ElementModel &element);  // inputs, their gradient, and nodes of one network

}  // namespace acsf
}  // namespace nnpkit

#endif
