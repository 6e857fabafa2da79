// The stages of acsf_plan.h, compiled once for each instruction set.

#include "acsf_gradient.h"
#include "acsf_jacobian.h"
#include "acsf_members.h"
#include "acsf_network.h"
#include "acsf_plan.h"
#include "acsf_rows.h"

namespace nnpkit {
namespace NNPKIT_ISA {

template <typename T>
static void fill(acsf::Stages<T> &stages) {
  stages.width = WIDTH<T>;
  stages.describe = &describe<T>;
  stages.differentiate = &differentiate<T>;
  stages.network = &network<T>;
  stages.describe_members = &describe_members<T>;
  stages.differentiate_members = &differentiate_members<T>;
  stages.member_networks = &member_networks<T>;
  stages.write_jacobian = &write_jacobian<T>;
  stages.push_forward = &push_forward<T>;
  stages.add_products = &add_products<T>;
}

void acsf_stages(acsf::Stages<double> &stages) {
  fill(stages);
}
void acsf_stages(acsf::Stages<float> &stages) {
  fill(stages);
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit
