// Waves on a mesh: B-splines spread charges and read their potential back, so that
// forces and stresses are the derivatives of the energy that the mesh gives. U. Essmann et al., J. Chem.
// Phys. 103, 8577 (1995); what is put on the waves is what makes the error of the energy least, R. W. Hockney
// and J. W. Eastwood, Computer Simulation Using Particles (1988), with the waves beyond the mesh left out.

#include "lattice_waves.h"

#include "eights.h"
#include "fourier.h"
#include "splines.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace nnpkit {

namespace {

constexpr int ORDER = 16;           // of the splines: one of their rows is two eights
constexpr int DOUBLES = 6 * ORDER;  // for an atom: splines along the axes, and their slopes
constexpr double MORE = 1.1;        // than the spacing that was asked for, before another mesh is taken
constexpr double MOST_POINTS = 2.0e8;
static_assert(ORDER == 2 * EIGHT, "rows of splines are added as eights");

// What the points of a row from `place` on get of a charge at place + t. That the whole mesh is moved by half
// a spline does not matter.
void splines_at(double t, double *values, double *slopes) {
  double lower[ORDER], upper[ORDER];
  spline(ORDER - 1, t, lower);
  lower[ORDER - 1] = 0.0;
  for (int j = 0; j < ORDER; j++) {
    const double x = t + j, before = j > 0 ? lower[j - 1] : 0.0;
    upper[j] = (x * lower[j] + (ORDER - x) * before) / (ORDER - 1);
    values[ORDER - 1 - j] = upper[j];
    slopes[ORDER - 1 - j] = lower[j] - before;
  }
}

struct Mesh {
  std::array<int, 3> n;
  size_t row;  // points of a row, of which the last ORDER are its first ones again
  size_t size() const { return static_cast<size_t>(n[0]) * n[1] * row; }
  // of the j-th of the rows that a spline at `place` touches
  size_t at(int place_x, int i, int place_y, int j) const {
    const int x = place_x + i, y = place_y + j;
    return (static_cast<size_t>(x < n[0] ? x : x - n[0]) * n[1] + (y < n[1] ? y : y - n[1])) * row;
  }
};

NNPKIT_VECTORS
void spread_atom(const Mesh &mesh, const int *place, const double *splines, double charge, double *points) {
  const Eight *const along = eights(splines + 2 * ORDER);
  const Eight first = along[0] * charge, second = along[1] * charge;
  for (int i = 0; i < ORDER; i++)
    for (int j = 0; j < ORDER; j++) {
      const double factor = splines[i] * splines[ORDER + j];
      Eight *const row = eights(points + mesh.at(place[0], i, place[1], j) + place[2]);
      row[0] += factor * first;
      row[1] += factor * second;
    }
}

// Value; with slopes those along the axes of the mesh.
NNPKIT_VECTORS
void read_atom(const Mesh &mesh, const int *place, const double *splines, const double *points, bool slopes,
               double *result) {
  const Eight *const along = eights(splines + 2 * ORDER), *const falls = eights(splines + 5 * ORDER);
  Eight sum[2] = {}, x[2] = {}, y[2] = {};
  for (int i = 0; i < ORDER; i++) {
    Eight line[2] = {}, line_y[2] = {};
    for (int j = 0; j < ORDER; j++) {
      const Eight *const row = eights(points + mesh.at(place[0], i, place[1], j) + place[2]);
      for (int h = 0; h < 2; h++) line[h] += splines[ORDER + j] * row[h];
      for (int h = 0; h < 2 && slopes; h++) line_y[h] += splines[4 * ORDER + j] * row[h];
    }
    for (int h = 0; h < 2; h++) sum[h] += splines[i] * line[h];
    for (int h = 0; h < 2 && slopes; h++) {
      x[h] += splines[3 * ORDER + i] * line[h];
      y[h] += splines[i] * line_y[h];
    }
  }
  const auto along_row = [](const Eight *a, const Eight *b) __attribute__((always_inline)) {
    const Eight both = a[0] * b[0] + a[1] * b[1];
    return total(both);
  };
  result[0] = along_row(sum, along);
  if (!slopes) return;
  result[1] = along_row(x, along);
  result[2] = along_row(y, along);
  result[3] = along_row(sum, falls);
}

double spacing(double splitting, double accuracy) {
  // measured: errors of the forces of random charges, relative to what neighbours at the mean distance exert
  constexpr double ERROR = 7.0e-3;  // where the spacing is the width
  return splitting * std::pow(accuracy / ERROR, 1.0 / ORDER);
}

class MeshWaves : public LatticeWaves {
 public:
  MeshWaves(double splitting, double accuracy, MPI_Comm world)
      : eta(splitting), accuracy(accuracy), world(world) {}
  void set(const ChargedAtoms &given) override;
  void field(const std::vector<double> &charges, bool stretches, std::vector<double> &made) override;
  WaveSums at(size_t atom, const std::vector<double> &field, bool slopes, bool stretches) const override;

 private:
  double eta, accuracy;
  MPI_Comm world;
  ChargedAtoms atoms;
  std::array<double, 9> cell{}, reciprocal{};
  Mesh mesh{};
  std::unique_ptr<MeshFourier> fourier;
  std::vector<double> weights[7];  // of the waves: of the value, then of the stretches, where they are known
  std::vector<double> splines, points;
  std::vector<int> places;
  MeshFourier::Spectrum charges_of_waves, changed;

  void choose_mesh();
  void set_places();
  void set_weights(bool stretches);
  void put_wave(const std::array<int, 3> &wave, double factor, size_t at, bool stretches);
};

void MeshWaves::choose_mesh() {
  const Lattice lattice(atoms.cell);
  reciprocal = lattice.reciprocal;
  const double most = MORE * spacing(eta, accuracy);
  bool fine = fourier != nullptr;
  for (int a = 0; a < 3 && fine; a++) fine = lattice.lengths[a] <= most * mesh.n[a];
  if (fine) return;
  mesh.n = mesh_sizes(atoms.cell, eta, accuracy);
  mesh.row = mesh.n[2] + ORDER;
  fourier = std::make_unique<MeshFourier>(mesh.n, mesh.row);
  for (auto &table : weights) table.clear();
}

void MeshWaves::set(const ChargedAtoms &given) {
  atoms = given;
  choose_mesh();
  if (cell != atoms.cell)
    for (auto &table : weights) table.clear();
  cell = atoms.cell;
  set_places();
}

void MeshWaves::set_places() {
  const auto &centers = *atoms.centers;
  splines.resize(DOUBLES * centers.size());
  places.resize(3 * centers.size());
  for (size_t a = 0; a < centers.size(); a++) {
    const double *const x = atoms.positions + 3 * static_cast<size_t>(centers[a]);
    for (int k = 0; k < 3; k++) {
      const double *const b = reciprocal.data() + 3 * k;
      double part = (b[0] * x[0] + b[1] * x[1] + b[2] * x[2]) / (2.0 * PI);
      part = (part - std::floor(part)) * mesh.n[k];
      // a position that is no number is found by what it makes of the energy
      const int place = part >= 0.0 ? std::min(static_cast<int>(part), mesh.n[k] - 1) : 0;
      places[3 * a + k] = place;
      double *const own = splines.data() + DOUBLES * a + ORDER * k;
      splines_at(part - place, own, own + 3 * ORDER);
    }
  }
}

// One wave, numbers along the axes from -n / 2 to n / 2.
void MeshWaves::put_wave(const std::array<int, 3> &wave, double factor, size_t at, bool stretches) {
  constexpr int FIRST[6] = {0, 1, 2, 0, 0, 1}, SECOND[6] = {0, 1, 2, 1, 2, 2};
  double k[3], square = 0.0;
  for (int c = 0; c < 3; c++) {
    k[c] = wave[0] * reciprocal[c] + wave[1] * reciprocal[3 + c] + wave[2] * reciprocal[6 + c];
    square += k[c] * k[c];
  }
  const double value = factor * std::exp(-0.5 * eta * eta * square) / square;
  weights[0][at] += value;
  if (!stretches) return;
  const double stretch = value * (2.0 / square + eta * eta);
  for (int s = 0; s < 6; s++) weights[1 + s][at] += stretch * k[FIRST[s]] * k[SECOND[s]];
}

void MeshWaves::set_weights(bool stretches) {
  if (!weights[stretches ? 1 : 0].empty()) return;
  const auto &n = mesh.n;
  const size_t waves = fourier->waves();
  for (int s = 0; s < (stretches ? 7 : 1); s++)
    weights[s].assign(static_cast<size_t>(n[0]) * n[1] * waves, 0.0);
  std::vector<double> of_axis[3];
  for (int a = 0; a < 3; a++) of_axis[a] = influence_of_splines(ORDER, n[a]);
  const double scale = COULOMB * 4.0 * PI / Lattice(cell).volume;
  for (int i = 0; i < n[0]; i++)
    for (int j = 0; j < n[1]; j++)
      for (int k = 0; k <= n[2] / 2; k++) {
        if (i + j + k == 0) continue;
        const std::array<int, 3> wave = {2 * i > n[0] ? i - n[0] : i, 2 * j > n[1] ? j - n[1] : j, k};
        const double factor = scale * of_axis[0][i] * of_axis[1][j] * of_axis[2][k];
        const size_t at = (static_cast<size_t>(i) * n[1] + j) * waves + k;
        // at the end of an axis the mesh cannot tell a wave from that with the other sign there
        for (int flips = 0; flips < 8; flips++) {
          std::array<int, 3> flipped = wave;
          bool ends = true;
          for (int a = 0; a < 3; a++)
            if (flips >> a & 1) {
              ends = ends && 2 * wave[a] == n[a];
              flipped[a] = -wave[a];
            }
          if (ends) put_wave(flipped, factor, at, stretches);
        }
      }
}

void MeshWaves::field(const std::vector<double> &charges, bool stretches, std::vector<double> &made) {
  const auto &centers = *atoms.centers;
  set_weights(stretches);
  points.assign(mesh.size(), 0.0);
  for (size_t a = 0; a < centers.size(); a++)
    spread_atom(mesh, &places[3 * a], &splines[DOUBLES * a], charges[centers[a]], points.data());
  const size_t n_rows = static_cast<size_t>(mesh.n[0]) * mesh.n[1];
  for (size_t r = 0; r < n_rows; r++) {
    double *const row = points.data() + r * mesh.row;
    for (int z = 0; z < ORDER; z++) row[z] += row[mesh.n[2] + z];
  }
  MPI_Allreduce(MPI_IN_PLACE, points.data(), static_cast<int>(points.size()), MPI_DOUBLE, MPI_SUM, world);
  fourier->forward(points, charges_of_waves);
  const int parts = stretches ? 7 : 1;
  made.resize(parts * mesh.size());
  for (int s = 0; s < parts; s++) {
    if (s + 1 < parts)
      changed = charges_of_waves;
    else
      std::swap(changed, charges_of_waves);
    const std::vector<double> &weight = weights[s];
    for (size_t w = 0; w < weight.size(); w++) {
      changed.real[w] *= weight[w];
      changed.imaginary[w] *= weight[w];
    }
    double *const to = made.data() + s * mesh.size();
    fourier->backward(changed, to);
    for (size_t r = 0; r < n_rows; r++) std::copy_n(to + r * mesh.row, ORDER, to + r * mesh.row + mesh.n[2]);
  }
}

WaveSums MeshWaves::at(size_t atom, const std::vector<double> &field, bool slopes, bool stretches) const {
  WaveSums sums{};
  const int *const place = &places[3 * atom];
  const double *const own = &splines[DOUBLES * atom];
  double found[4] = {};
  read_atom(mesh, place, own, field.data(), slopes, found);
  sums.value = found[0];
  for (int a = 0; a < 3 && slopes; a++)
    for (int c = 0; c < 3; c++)
      sums.slope[c] += found[1 + a] * mesh.n[a] * reciprocal[3 * a + c] / (2.0 * PI);
  for (int s = 0; s < 6 && stretches; s++)
    read_atom(mesh, place, own, field.data() + (1 + s) * mesh.size(), false, sums.stretch + s);
  return sums;
}

}  // namespace

std::array<int, 3> mesh_sizes(const std::array<double, 9> &cell, double splitting, double accuracy) {
  const Lattice lattice(cell);
  std::array<int, 3> sizes{};
  double points = 1.0;
  for (int a = 0; a < 3; a++) {
    const double wanted = std::ceil(lattice.lengths[a] / spacing(splitting, accuracy));
    points *= wanted;
    sizes[a] = Fourier::size_from(std::max(ORDER, static_cast<int>(std::min(wanted, MOST_POINTS))));
  }
  if (!(points < MOST_POINTS))
    throw std::runtime_error("the mesh of this box would have too many points: a larger ewald accuracy");
  return sizes;
}

std::unique_ptr<LatticeWaves> mesh_waves(double splitting, double accuracy, MPI_Comm world) {
  return std::make_unique<MeshWaves>(splitting, accuracy, world);
}

}  // namespace nnpkit
