// The stages of cluster_plan.h, compiled once for each instruction set.

#include "cluster_channels.h"
#include "cluster_moments.h"
#include "cluster_network.h"
#include "cluster_plan.h"
#include "cluster_sort.h"

namespace nnpkit {
namespace NNPKIT_ISA {

template <typename T>
static void fill(cluster::Stages<T> &stages) {
  stages.width = WIDTH<T>;
  stages.sort_edges = &sort_edges<T>;
  stages.place = &place<T>;
  stages.describe = &describe<T>;
  stages.features = &features<T>;
  stages.count_outside = &count_outside<T>;
  stages.networks = &networks<T>;
  stages.feature_gradient = &feature_gradient<T>;
  stages.differentiate = &differentiate<T>;
}

void cluster_stages(cluster::Stages<double> &stages) {
  fill(stages);
}
void cluster_stages(cluster::Stages<float> &stages) {
  fill(stages);
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit
