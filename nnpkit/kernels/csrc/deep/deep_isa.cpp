// Stages of the Deep Potential for the instruction set NNPKIT_ISA; see deep_stages.h.

#include "deep_stages.h"
#include "simd_packing.h"

#include <cstring>

namespace nnpkit {
namespace deep {
namespace NNPKIT_ISA {

namespace {

using namespace ::nnpkit::NNPKIT_ISA;

#include "deep_embedding.h"
#include "deep_fitting.h"

template <typename Real>
constexpr Stages<Real> STAGES = {WIDTH<Real>,
                                 TILE_VECTORS * WIDTH<Real>,
                                 GROUP,
                                 environment<Real>,
                                 locate<Real>,
                                 embed<Real>,
                                 embed_gradient<Real>,
                                 edge_gradient<Real>,
                                 count<Real>,
                                 fit_workspace<Real>,
                                 fit<Real>};

}  // namespace

const Stages<double> &stages_double() {
  return STAGES<double>;
}
const Stages<float> &stages_float() {
  return STAGES<float>;
}

}  // namespace NNPKIT_ISA
}  // namespace deep
}  // namespace nnpkit
