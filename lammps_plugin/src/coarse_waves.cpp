#include "coarse_waves.h"

#include "eights.h"
#include "splines.h"

#include <algorithm>
#include <cmath>

namespace nnpkit {

namespace {

constexpr double SPACING = 1.25;  // of the mesh, in widths of the Gaussians
constexpr int FOUR = 4;           // the splines of an atom along one axis

typedef double Four __attribute__((vector_size(FOUR * sizeof(double)), aligned(sizeof(double)), may_alias));

struct Mesh {
  int n_x, n_y;
  size_t row;
  // of the j-th of the rows that the splines at `place` touch, in the i-th of the layers
  size_t at(const int *place, int i, int j) const {
    const int x = place[0] + i, y = place[1] + j;
    return (static_cast<size_t>(x < n_x ? x : x - n_x) * n_y + (y < n_y ? y : y - n_y)) * row + place[2];
  }
};

NNPKIT_VECTORS
void spread_atom(const Mesh &mesh, const int *place, const double *splines, double charge, double *points) {
  const Four along = charge * *reinterpret_cast<const Four *>(splines + 2 * FOUR);
  for (int i = 0; i < FOUR; i++)
    for (int j = 0; j < FOUR; j++)
      *reinterpret_cast<Four *>(points + mesh.at(place, i, j)) += splines[i] * splines[FOUR + j] * along;
}

NNPKIT_VECTORS
double read_atom(const Mesh &mesh, const int *place, const double *splines, const double *points) {
  Four sum = {};
  for (int i = 0; i < FOUR; i++)
    for (int j = 0; j < FOUR; j++)
      sum += splines[i] * splines[FOUR + j] * *reinterpret_cast<const Four *>(points + mesh.at(place, i, j));
  const Four along = sum * *reinterpret_cast<const Four *>(splines + 2 * FOUR);
  return along[0] + along[1] + along[2] + along[3];
}

}  // namespace

static_assert(CoarseWaves::ORDER == FOUR, "splines are added as fours");

void CoarseWaves::set(const ChargedAtoms &given) {
  atoms = given;
  const Lattice lattice(atoms.cell);
  std::array<int, 3> sizes{};
  for (int a = 0; a < 3; a++)
    sizes[a] = Fourier::size_from(
        std::max(2 * ORDER, static_cast<int>(std::ceil(lattice.lengths[a] / (SPACING * eta)))));
  if (!fourier || sizes != n) {
    n = sizes;
    row = static_cast<size_t>(n[2]) + ORDER;
    fourier = std::make_unique<MeshFourier>(n, row);
    weights.clear();
  }
  set_weights(lattice);
  set_places(lattice);
}

void CoarseWaves::set_weights(const Lattice &lattice) {
  if (cell == atoms.cell && !weights.empty()) return;
  cell = atoms.cell;
  std::vector<double> of_axis[3];
  for (int a = 0; a < 3; a++) of_axis[a] = influence_of_splines(ORDER, n[a]);
  const size_t waves = fourier->waves();
  weights.assign(static_cast<size_t>(n[0]) * n[1] * waves, 0.0);
  const auto &b = lattice.reciprocal;
  for (int i = 0; i < n[0]; i++)
    for (int j = 0; j < n[1]; j++)
      for (int k = 0; 2 * k < n[2]; k++) {
        if (i + j + k == 0 || 2 * i == n[0] || 2 * j == n[1]) continue;  // and none at the ends of the axes
        const double x = 2 * i > n[0] ? i - n[0] : i, y = 2 * j > n[1] ? j - n[1] : j, z = k;
        double square = 0.0;
        for (int c = 0; c < 3; c++) {
          const double component = x * b[c] + y * b[3 + c] + z * b[6 + c];
          square += component * component;
        }
        weights[(static_cast<size_t>(i) * n[1] + j) * waves + k] =
            of_axis[0][i] * of_axis[1][j] * of_axis[2][k] * COULOMB * 4.0 * PI / lattice.volume *
            std::exp(-0.5 * eta * eta * square) / square;
      }
}

void CoarseWaves::set_places(const Lattice &lattice) {
  const auto &centers = *atoms.centers;
  splines.resize(3 * ORDER * centers.size());
  places.resize(3 * centers.size());
  for (size_t a = 0; a < centers.size(); a++) {
    const double *const x = atoms.positions + 3 * static_cast<size_t>(centers[a]);
    for (int k = 0; k < 3; k++) {
      const double *const b = lattice.reciprocal.data() + 3 * k;
      double part = (b[0] * x[0] + b[1] * x[1] + b[2] * x[2]) / (2.0 * PI);
      part = (part - std::floor(part)) * n[k];
      const int place = part >= 0.0 ? std::min(static_cast<int>(part), n[k] - 1) : 0;
      double values[ORDER];
      spline(ORDER, part - place, values);
      places[3 * a + k] = place;
      std::reverse_copy(values, values + ORDER, splines.data() + ORDER * (3 * a + k));
    }
  }
}

void CoarseWaves::add(const std::vector<double> &charges, std::vector<double> &result) {
  const auto &centers = *atoms.centers;
  const size_t n_rows = static_cast<size_t>(n[0]) * n[1];
  points.assign(n_rows * row, 0.0);
  const Mesh mesh{n[0], n[1], row};
  for (size_t a = 0; a < centers.size(); a++)
    spread_atom(mesh, &places[3 * a], &splines[3 * ORDER * a], charges[centers[a]], points.data());
  for (size_t r = 0; r < n_rows; r++)
    for (int z = 0; z < ORDER; z++) points[r * row + z] += points[r * row + n[2] + z];
  MPI_Allreduce(MPI_IN_PLACE, points.data(), static_cast<int>(points.size()), MPI_DOUBLE, MPI_SUM, world);
  fourier->forward(points, spectrum);
  for (size_t w = 0; w < weights.size(); w++) {
    spectrum.real[w] *= weights[w];
    spectrum.imaginary[w] *= weights[w];
  }
  fourier->backward(spectrum, points.data());
  for (size_t r = 0; r < n_rows; r++)
    for (int z = 0; z < ORDER; z++) points[r * row + n[2] + z] = points[r * row + z];
  for (size_t a = 0; a < centers.size(); a++)
    result[centers[a]] += read_atom(mesh, &places[3 * a], &splines[3 * ORDER * a], points.data());
}

}  // namespace nnpkit
