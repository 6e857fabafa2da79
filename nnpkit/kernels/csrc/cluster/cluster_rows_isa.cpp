// The stages of cluster_rows_plan.h, compiled once for each instruction set.

#include "cluster_rows_directions.h"

namespace nnpkit {
namespace NNPKIT_ISA {

void cluster_rows_stages(cluster::RowsStages &stages) {
  stages.width = WIDTH<double>;
  stages.functions = &edge_functions;
  stages.describe = &describe_center;
  stages.energy = &energy_of_center;
  stages.energy_row = &energy_row;
  stages.mix_edges = &mix_edges;
  stages.gradient = &edge_gradient;
  stages.curvature = &curvature;
  stages.move_some = &move_some;
  stages.move_all = &move_all;
  stages.finish = &finish;
}

}  // namespace NNPKIT_ISA
}  // namespace nnpkit
