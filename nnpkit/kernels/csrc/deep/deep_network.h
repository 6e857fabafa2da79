// A Deep Potential as its file describes it, and its embedding networks evaluated exactly.

#ifndef NNPKIT_DEEP_NETWORK_H
#define NNPKIT_DEEP_NETWORK_H

#include "deep_stages.h"
#include "kernel.h"

#include <vector>

namespace nnpkit {
namespace deep {

// y = timestep * f(W x + b) + shortcut
struct DenseLayer {
  int n_in = 0, n_out = 0;
  int copies = 0;  // of x that are added to y side by side: 0, 1 or 2
  Activation activation = Activation::LINEAR;
  std::vector<double> weight;  // (n_out, n_in)
  std::vector<double> bias;
  std::vector<double> timestep;  // empty: 1
};

// Layers and a linear node; an embedding network has no node.
struct Network {
  std::vector<DenseLayer> layers;
  std::vector<double> output;
  double output_bias = 0.0;
};

// Where an embedding network is tabulated; without intervals it is evaluated exactly everywhere.
struct Grid {
  double start = 0.0, spacing = 1.0;
  int64_t n_intervals = 0;
};

struct Model {
  int n_types = 0;
  CutoffKind cutoff_kind = CutoffKind::POLY2;
  double cutoff = 0.0, inner = 0.0;  // angstrom
  bool one_side = true;
  int width = 0, axis = 0;               // M, M_<
  std::vector<double> mean;              // (n_types)
  std::vector<double> std;               // (n_types, 2)
  std::vector<double> expected;          // (n_types, n_types)
  std::vector<Network> embeddings;       // one per element, or per pair
  std::vector<Grid> grids;               // of each embedding
  double tolerance = 0.0;                // that the tables keep
  std::vector<Network> fitting;          // one per element
  std::vector<double> factor, offset;    // (n_types, features): scaled = factor * feature + offset
  bool scaled = false;                   // whether that changes anything
  std::vector<double> minimum, maximum;  // (n_types, features) in the training data; empty: not known
  double energy_scale = 1.0;
  std::vector<double> reference_energies;  // eV

  int embedding_of(int center, int neighbor) const {
    return one_side ? neighbor : center * n_types + neighbor;
  }
  double absent(int center) const { return -mean[center] / std[2 * center]; }  // R_0 of no neighbour
  double normalisation(int center) const;                                      // N_c
  bool shares_environment_with(const Model &other) const;
};

// Throws std::runtime_error if the file contradicts itself.
Model read_model(const KernelInput &input);

// Outputs of an embedding network at x, and two derivatives if asked for.
void embedding_at(const Network &network, double x, double *value, double *first, double *second);

}  // namespace deep
}  // namespace nnpkit

#endif
