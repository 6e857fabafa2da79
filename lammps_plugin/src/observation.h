// What a pair style has found out about a configuration beside its energy and forces.

#ifndef NNPKIT_OBSERVATION_H
#define NNPKIT_OBSERVATION_H

#include <array>
#include <cstdint>
#include <vector>

namespace nnpkit {

// Elements of the vector that compute pair shows, in LAMMPS' units; the first QUANTITIES can be watched.
enum Observable {
  FORCE_STD_MAX,
  FORCE_STD_MEAN,
  FORCE_STD_PERCENTILE,
  ENERGY_STD,
  EXTRAPOLATIONS,
  EXTRAPOLATIONS_OF_RUN,
  CLOSEST,
  LARGEST_FORCE,
  FRAMES,
  ENDED,
  OBSERVABLES
};
constexpr int QUANTITIES = EXTRAPOLATIONS + 1;
extern const std::array<const char *, OBSERVABLES> OBSERVABLE_NAMES;
using Observed = std::array<double, OBSERVABLES>;

// What one evaluation has shown. The numbers are the same on all ranks; those of the run stay 0 here.
struct Observation {
  int64_t step = -1;       // none yet
  int64_t evaluation = 0;  // counted by the pair style
  bool members = false, extrapolation = false;
  Observed values{};
  std::vector<double> force_std, extrapolations;  // per local atom, LAMMPS' units
  std::vector<double> charge_std;                 // likewise, e; of a committee with charges
  std::vector<int64_t> by_function;               // extrapolations of this rank, (elements, n_functions)
  std::vector<double> member_charges;             // (local atoms, members) e, of a committee with charges
  std::vector<double> member_energies;            // of a committee, LAMMPS' units, the same on all ranks
  std::vector<double> features;                   // (local atoms, n_features) where a compute asked for them
};

}  // namespace nnpkit

#endif
