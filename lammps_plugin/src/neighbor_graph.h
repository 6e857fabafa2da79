// Graph that a model sees: edges around a range of local atoms, in flat buffers that are reused.

#ifndef NNPKIT_NEIGHBOR_GRAPH_H
#define NNPKIT_NEIGHBOR_GRAPH_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace LAMMPS_NS {
class NeighList;
}

namespace nnpkit {

// Two atoms that are closer than its root are at the same place, angstrom^2.
constexpr double SAME_PLACE_SQUARED = 1.0e-8;

class NeighborGraph {
 public:
  // What the model reads; angstrom. Edges are sorted by centre: those of graph atom a are
  // offsets[a] .. offsets[a+1]-1.
  // The buffers only grow, so they may be longer than n_atoms() and n_edges() say.
  std::vector<double> edge_vec;        // 3 per edge: x[neighbor] - x[centre]
  std::vector<int64_t> neighbor_type;  // per edge: model index of the neighbour's element
  std::vector<int64_t> offsets;        // per graph atom, plus one
  std::vector<int64_t> types;          // per graph atom: model index of its element

  // Where results go: indices into LAMMPS' per-atom arrays (local, then ghost).
  std::vector<int> center;    // per graph atom
  std::vector<int> neighbor;  // per edge

  // Square of the shortest distance since the caller has set it to infinity.
  double closest_squared;

  int64_t n_atoms() const { return atoms; }
  int64_t n_edges() const { return edges; }
  double memory_usage() const;  // bytes

  // For a graph that somebody else has written into the buffers.
  void set_size(int64_t n_atoms, int64_t n_edges) {
    atoms = n_atoms;
    edges = n_edges;
  }

  // Fill the buffers with the atoms ilist[first] .. ilist[last-1] of a full neighbour list.
  // element[type] is the model index of a LAMMPS atom type, negative for NULL: such atoms are neither
  // centres nor neighbours. Pairs beyond the cutoff (the list has a skin) are left out.
  void build(const LAMMPS_NS::NeighList &list, const double *const *x, const int *type,
             const std::vector<int> &element, double cutoff, int first, int last);

 private:
  int64_t atoms = 0, edges = 0;

  void reserve(size_t n_centers, size_t most_edges);
};

}  // namespace nnpkit

#endif
