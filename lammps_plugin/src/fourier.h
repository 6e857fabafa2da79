// Fourier transforms of real meshes, for sums over the charges of a crystal.

#ifndef NNPKIT_FOURIER_H
#define NNPKIT_FOURIER_H

#include <array>
#include <cstddef>
#include <vector>

namespace nnpkit {

// Transforms of one length, eight side by side: Stockham's algorithm with the factors 2, 3, 4 and 5.
class Fourier {
 public:
  static constexpr int LANES = 8;

  explicit Fourier(int n);             // a product of 2, 3 and 5
  static int size_from(int at_least);  // the smallest length that is even and such a product

  // real, imaginary: (n, 8); of e^(-i ...), with the two exchanged of e^(+i ...); nothing is normalised
  void transform(std::vector<double> &real, std::vector<double> &imaginary);

 private:
  struct Pass {
    int radix;
    size_t rest, stride;        // rows that are combined are rest * stride apart
    std::vector<double> turns;  // cosine and sine for each of the rest, (radix - 1) times
  };
  size_t n;
  std::vector<Pass> passes;
  std::vector<double> other_real, other_imaginary;
};

// Real meshes (n0, n1, row()), of which n2 in a row count, and their waves (n0, n1, waves()) with half of the
// last axis.
class MeshFourier {
 public:
  struct Spectrum {
    std::vector<double> real, imaginary;
  };

  MeshFourier(const std::array<int, 3> &sizes, size_t row);
  size_t waves() const { return n_waves; }
  size_t used() const { return static_cast<size_t>(n[2] / 2 + 1); }

  void forward(const std::vector<double> &mesh, Spectrum &spectrum);
  void backward(Spectrum &spectrum, double *mesh);  // overwrites the spectrum

 private:
  std::array<int, 3> n;
  size_t row, n_waves;  // the latter filled up to whole eights
  std::array<Fourier, 3> axes;
  std::vector<double> real, imaginary;

  void along(int axis, Spectrum &spectrum, bool back);
  void rows_forward(const std::vector<double> &mesh, Spectrum &spectrum);
  void rows_backward(const Spectrum &spectrum, double *mesh);
};

}  // namespace nnpkit

#endif
