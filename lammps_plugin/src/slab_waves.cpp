#include "slab_waves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace nnpkit {

namespace {

constexpr double MARGIN = 1.05;  // of a height that is chosen, over what is needed
constexpr double MOST = 1.25;    // times what is needed, before it is chosen anew
constexpr int MOMENTS = 4;       // of charges: sums of q, q z, q z^2, q s^2

// Of the direction that is normal to the two others.
std::array<double, 3> normal(const std::array<double, 9> &cell, int open) {
  const double *const a = &cell[3 * ((open + 1) % 3)], *const b = &cell[3 * ((open + 2) % 3)];
  std::array<double, 3> unit{};
  double square = 0.0;
  for (int k = 0; k < 3; k++) {
    unit[k] = a[(k + 1) % 3] * b[(k + 2) % 3] - a[(k + 2) % 3] * b[(k + 1) % 3];
    square += unit[k] * unit[k];
  }
  for (double &part : unit) part /= std::sqrt(square);
  return unit;
}

double across(const std::array<double, 3> &unit, const double *x) {
  return unit[0] * x[0] + unit[1] * x[1] + unit[2] * x[2];
}

class SlabWaves : public LatticeWaves {
 public:
  SlabWaves(std::unique_ptr<LatticeWaves> crystal, int open, const std::vector<double> &widths,
            MPI_Comm world)
      : crystal(std::move(crystal)), open(open), widths(widths), world(world) {}
  void set(const ChargedAtoms &given) override;
  void field(const std::vector<double> &charges, bool stretches, std::vector<double> &made) override;
  WaveSums at(size_t atom, const std::vector<double> &field, bool slopes, bool stretches) const override;

 private:
  std::unique_ptr<LatticeWaves> crystal;
  int open;
  std::vector<double> widths;
  MPI_Comm world;
  ChargedAtoms atoms;
  std::array<double, 3> unit{};
  double height = 0.0, factor = 0.0;

  double z(int i) const { return across(unit, atoms.positions + 3 * static_cast<size_t>(i)); }
};

void SlabWaves::set(const ChargedAtoms &given) {
  atoms = given;
  unit = normal(atoms.cell, open);
  height = std::abs(across(unit, &atoms.cell[3 * open]));
  factor = -2.0 * PI * COULOMB / Lattice(atoms.cell).volume;
  crystal->set(given);
}

// Behind what the crystal makes stand the moments of the charges.
void SlabWaves::field(const std::vector<double> &charges, bool stretches, std::vector<double> &made) {
  crystal->field(charges, stretches, made);
  double moments[MOMENTS] = {};
  for (const int i : *atoms.centers) {
    const double q = charges[i], at = z(i), width = widths[(*atoms.species)[i]];
    const double own[MOMENTS] = {q, q * at, q * at * at, q * width * width};
    for (int k = 0; k < MOMENTS; k++) moments[k] += own[k];
  }
  MPI_Allreduce(MPI_IN_PLACE, moments, MOMENTS, MPI_DOUBLE, MPI_SUM, world);
  made.insert(made.end(), moments, moments + MOMENTS);
}

WaveSums SlabWaves::at(size_t atom, const std::vector<double> &field, bool slopes, bool stretches) const {
  constexpr int FIRST[6] = {0, 1, 2, 0, 0, 1}, SECOND[6] = {0, 1, 2, 1, 2, 2};
  WaveSums sums = crystal->at(atom, field, slopes, stretches);
  const double *const moments = field.data() + field.size() - MOMENTS;
  const int i = (*atoms.centers)[atom];
  const double at = z(i), width = widths[(*atoms.species)[i]];
  const double far = moments[0] * (at * at + height * height / 6.0) - 2.0 * at * moments[1] + moments[2];
  sums.value += factor * (far + moments[0] * width * width + moments[3]);
  const double slope = 2.0 * factor * (moments[0] * at - moments[1]);
  for (int k = 0; k < 3 && slopes; k++) sums.slope[k] += slope * unit[k];
  // z / h does not change with a strain, h^2 by twice its part along the normal
  for (int k = 0; k < 6 && stretches; k++)
    sums.stretch[k] += 2.0 * factor * far * unit[FIRST[k]] * unit[SECOND[k]];
  return sums;
}

}  // namespace

Vacuum::Vacuum(int open, double widest, double reach, double accuracy, MPI_Comm world)
    : open(open), widest(widest), reach(reach), accuracy(accuracy), world(world) {}

const std::array<double, 9> &Vacuum::cell_of(const ChargedAtoms &atoms) {
  const std::array<double, 3> unit = normal(atoms.cell, open);
  constexpr double NONE = std::numeric_limits<double>::max();
  double ends[2] = {-NONE, -NONE};  // the top, and the bottom with the other sign
  for (const int i : *atoms.centers) {
    const double z = across(unit, atoms.positions + 3 * static_cast<size_t>(i));
    ends[0] = std::max(ends[0], z);
    ends[1] = std::max(ends[1], -z);
  }
  MPI_Allreduce(MPI_IN_PLACE, ends, 2, MPI_DOUBLE, MPI_MAX, world);
  const double thickness = ends[0] == -NONE ? 0.0 : ends[0] + ends[1];
  cell = atoms.cell;
  std::copy_n(unit.begin(), 3, cell.begin() + 3 * open);
  const std::array<double, 9> reciprocal = Lattice(cell).reciprocal;
  double shortest = NONE;  // wave along the slab
  for (int m = 0; m < 3; m++)
    for (int n = -2; n < 3; n++) {
      if (m == 0 && n == 0) continue;
      double square = 0.0;
      for (int k = 0; k < 3; k++) {
        const double part =
            m * reciprocal[3 * ((open + 1) % 3) + k] + n * reciprocal[3 * ((open + 2) % 3) + k];
        square += part * part;
      }
      shortest = std::min(shortest, std::sqrt(square));
    }
  const double decay = -std::log(accuracy);
  const double wide = std::max(decay / shortest + 2.0 * widest * std::sqrt(2.0 * decay), reach);
  const double needed = thickness + wide;
  if (!(height >= needed && height <= MOST * needed)) height = MARGIN * needed;
  for (int k = 0; k < 3; k++) cell[3 * open + k] *= height;
  return cell;
}

std::unique_ptr<LatticeWaves> slab_waves(std::unique_ptr<LatticeWaves> crystal, int open,
                                         const std::vector<double> &widths, MPI_Comm world) {
  return std::make_unique<SlabWaves>(std::move(crystal), open, widths, world);
}

}  // namespace nnpkit
