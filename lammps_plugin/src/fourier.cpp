#include "fourier.h"

#include "eights.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace nnpkit {

namespace {

constexpr double PI = 3.14159265358979323846;

// One pass: rows q + s (p + m k) become rows q + s (r p + j), for p < m and q < s; `turns` are those of p.
struct Rows {
  const double *real, *imaginary;
  double *to_real, *to_imaginary;
  size_t m, s;
  const double *turns;
};

inline void put(Eight *re, Eight *im, const Eight &x, const Eight &y, double c, double s) {
  *re = x * c - y * s;
  *im = x * s + y * c;
}

NNPKIT_VECTORS
void pass_2(const Rows &rows) {
  const size_t apart = rows.m * rows.s, s = rows.s;
  for (size_t p = 0; p < rows.m; p++) {
    const double c1 = rows.turns[2 * p], s1 = rows.turns[2 * p + 1];
    const Eight *const re = eights(rows.real) + s * p, *const im = eights(rows.imaginary) + s * p;
    Eight *const tr = eights(rows.to_real) + 2 * s * p, *const ti = eights(rows.to_imaginary) + 2 * s * p;
    for (size_t q = 0; q < s; q++) {
      const Eight ar = re[q], ai = im[q], br = re[q + apart], bi = im[q + apart];
      tr[q] = ar + br;
      ti[q] = ai + bi;
      put(tr + q + s, ti + q + s, ar - br, ai - bi, c1, s1);
    }
  }
}

NNPKIT_VECTORS
void pass_3(const Rows &rows) {
  constexpr double SIN = 0.86602540378443864676;
  const size_t apart = rows.m * rows.s, s = rows.s;
  for (size_t p = 0; p < rows.m; p++) {
    const double *const t = rows.turns + 4 * p;
    const Eight *const re = eights(rows.real) + s * p, *const im = eights(rows.imaginary) + s * p;
    Eight *const tr = eights(rows.to_real) + 3 * s * p, *const ti = eights(rows.to_imaginary) + 3 * s * p;
    for (size_t q = 0; q < s; q++) {
      const Eight ar = re[q], ai = im[q];
      const Eight pr = re[q + apart] + re[q + 2 * apart], pi = im[q + apart] + im[q + 2 * apart];
      const Eight dr = SIN * (re[q + apart] - re[q + 2 * apart]),
                  di = SIN * (im[q + apart] - im[q + 2 * apart]);
      const Eight mr = ar - 0.5 * pr, mi = ai - 0.5 * pi;
      tr[q] = ar + pr;
      ti[q] = ai + pi;
      put(tr + q + s, ti + q + s, mr + di, mi - dr, t[0], t[1]);
      put(tr + q + 2 * s, ti + q + 2 * s, mr - di, mi + dr, t[2], t[3]);
    }
  }
}

NNPKIT_VECTORS
void pass_4(const Rows &rows) {
  const size_t apart = rows.m * rows.s, s = rows.s;
  for (size_t p = 0; p < rows.m; p++) {
    const double *const t = rows.turns + 6 * p;
    const Eight *const re = eights(rows.real) + s * p, *const im = eights(rows.imaginary) + s * p;
    Eight *const tr = eights(rows.to_real) + 4 * s * p, *const ti = eights(rows.to_imaginary) + 4 * s * p;
    for (size_t q = 0; q < s; q++) {
      const Eight ar = re[q], ai = im[q], br = re[q + apart], bi = im[q + apart];
      const Eight cr = re[q + 2 * apart], ci = im[q + 2 * apart];
      const Eight dr = re[q + 3 * apart], di = im[q + 3 * apart];
      const Eight sr = ar + cr, si = ai + ci, er = ar - cr, ei = ai - ci;
      const Eight ur = br + dr, ui = bi + di, vr = br - dr, vi = bi - di;
      tr[q] = sr + ur;
      ti[q] = si + ui;
      put(tr + q + s, ti + q + s, er + vi, ei - vr, t[0], t[1]);
      put(tr + q + 2 * s, ti + q + 2 * s, sr - ur, si - ui, t[2], t[3]);
      put(tr + q + 3 * s, ti + q + 3 * s, er - vi, ei + vr, t[4], t[5]);
    }
  }
}

NNPKIT_VECTORS
void pass_5(const Rows &rows) {
  constexpr double C1 = 0.30901699437494742410, C2 = -0.80901699437494742410;
  constexpr double S1 = 0.95105651629515357212, S2 = 0.58778525229247312917;
  const size_t apart = rows.m * rows.s, s = rows.s;
  for (size_t p = 0; p < rows.m; p++) {
    const double *const t = rows.turns + 8 * p;
    const Eight *const re = eights(rows.real) + s * p, *const im = eights(rows.imaginary) + s * p;
    Eight *const tr = eights(rows.to_real) + 5 * s * p, *const ti = eights(rows.to_imaginary) + 5 * s * p;
    for (size_t q = 0; q < s; q++) {
      const Eight ar = re[q], ai = im[q];
      const Eight pr = re[q + apart] + re[q + 4 * apart], pi = im[q + apart] + im[q + 4 * apart];
      const Eight mr = re[q + apart] - re[q + 4 * apart], mi = im[q + apart] - im[q + 4 * apart];
      const Eight ur = re[q + 2 * apart] + re[q + 3 * apart], ui = im[q + 2 * apart] + im[q + 3 * apart];
      const Eight vr = re[q + 2 * apart] - re[q + 3 * apart], vi = im[q + 2 * apart] - im[q + 3 * apart];
      const Eight fr = ar + C1 * pr + C2 * ur, fi = ai + C1 * pi + C2 * ui;
      const Eight gr = ar + C2 * pr + C1 * ur, gi = ai + C2 * pi + C1 * ui;
      const Eight xr = S1 * mi + S2 * vi, xi = S1 * mr + S2 * vr;
      const Eight yr = S2 * mi - S1 * vi, yi = S2 * mr - S1 * vr;
      tr[q] = ar + pr + ur;
      ti[q] = ai + pi + ui;
      put(tr + q + s, ti + q + s, fr + xr, fi - xi, t[0], t[1]);
      put(tr + q + 2 * s, ti + q + 2 * s, gr + yr, gi - yi, t[2], t[3]);
      put(tr + q + 3 * s, ti + q + 3 * s, gr - yr, gi + yi, t[4], t[5]);
      put(tr + q + 4 * s, ti + q + 4 * s, fr - xr, fi + xi, t[6], t[7]);
    }
  }
}

}  // namespace

Fourier::Fourier(int length) : n(length), other_real(LANES * n), other_imaginary(LANES * n) {
  size_t left = n, stride = 1;
  for (const int radix : {4, 2, 3, 5})
    while (left % radix == 0) {
      Pass pass{radix, left / radix, stride, {}};
      for (size_t p = 0; p < pass.rest; p++)
        for (int j = 1; j < radix; j++) {
          const double angle = -2.0 * PI * static_cast<double>(p * j) / static_cast<double>(left);
          pass.turns.push_back(std::cos(angle));
          pass.turns.push_back(std::sin(angle));
        }
      passes.push_back(pass);
      left /= radix;
      stride *= radix;
    }
  if (left != 1) throw std::runtime_error("a Fourier transform of a length with other factors than 2, 3, 5");
}

int Fourier::size_from(int at_least) {
  for (int size = at_least + at_least % 2;; size += 2) {
    int left = size;
    for (const int factor : {2, 3, 5})
      while (left % factor == 0) left /= factor;
    if (left == 1) return size;
  }
}

void Fourier::transform(std::vector<double> &real, std::vector<double> &imaginary) {
  for (const Pass &pass : passes) {
    const Rows rows{real.data(), imaginary.data(), other_real.data(), other_imaginary.data(),
                    pass.rest,   pass.stride,      pass.turns.data()};
    if (pass.radix == 2) pass_2(rows);
    if (pass.radix == 3) pass_3(rows);
    if (pass.radix == 4) pass_4(rows);
    if (pass.radix == 5) pass_5(rows);
    real.swap(other_real);
    imaginary.swap(other_imaginary);
  }
}

/* ---- meshes ------------------------------------------------------------------------------------------ */

MeshFourier::MeshFourier(const std::array<int, 3> &sizes, size_t row)
    : n(sizes),
      row(row),
      n_waves((static_cast<size_t>(sizes[2] / 2 + 1) + EIGHT - 1) / EIGHT * EIGHT),
      axes{Fourier(sizes[0]), Fourier(sizes[1]), Fourier(sizes[2])} {}

// Two real rows are one complex one: sixteen rows at once.
void MeshFourier::rows_forward(const std::vector<double> &mesh, Spectrum &spectrum) {
  const size_t n_rows = static_cast<size_t>(n[0]) * n[1], length = n[2];
  real.resize(EIGHT * length);
  imaginary.resize(EIGHT * length);
  for (size_t first = 0; first < n_rows; first += 2 * EIGHT) {
    for (size_t lane = 0; lane < EIGHT; lane++) {
      const size_t a = first + 2 * lane, b = a + 1;
      for (size_t z = 0; z < length; z++) {
        real[EIGHT * z + lane] = a < n_rows ? mesh[a * row + z] : 0.0;
        imaginary[EIGHT * z + lane] = b < n_rows ? mesh[b * row + z] : 0.0;
      }
    }
    axes[2].transform(real, imaginary);
    for (size_t lane = 0; lane < EIGHT; lane++) {
      const size_t a = first + 2 * lane, b = a + 1;
      for (size_t k = 0; k < used() && a < n_rows; k++) {
        const size_t here = EIGHT * k + lane, there = EIGHT * (k == 0 ? 0 : length - k) + lane;
        const double pr = real[here], pi = imaginary[here], mr = real[there], mi = imaginary[there];
        spectrum.real[a * n_waves + k] = 0.5 * (pr + mr);
        spectrum.imaginary[a * n_waves + k] = 0.5 * (pi - mi);
        if (b >= n_rows) continue;
        spectrum.real[b * n_waves + k] = 0.5 * (pi + mi);
        spectrum.imaginary[b * n_waves + k] = 0.5 * (mr - pr);
      }
    }
  }
}

void MeshFourier::rows_backward(const Spectrum &spectrum, double *mesh) {
  const size_t n_rows = static_cast<size_t>(n[0]) * n[1], length = n[2];
  real.resize(EIGHT * length);
  imaginary.resize(EIGHT * length);
  for (size_t first = 0; first < n_rows; first += 2 * EIGHT) {
    for (size_t lane = 0; lane < EIGHT; lane++) {
      const size_t a = first + 2 * lane, b = a + 1;
      for (size_t k = 0; k < used(); k++) {
        const bool with_a = a < n_rows, with_b = b < n_rows;
        const double ar = with_a ? spectrum.real[a * n_waves + k] : 0.0,
                     ai = with_a ? spectrum.imaginary[a * n_waves + k] : 0.0,
                     br = with_b ? spectrum.real[b * n_waves + k] : 0.0,
                     bi = with_b ? spectrum.imaginary[b * n_waves + k] : 0.0;
        real[EIGHT * k + lane] = ar - bi;
        imaginary[EIGHT * k + lane] = ai + br;
        if (k == 0 || 2 * k == length) continue;
        real[EIGHT * (length - k) + lane] = ar + bi;
        imaginary[EIGHT * (length - k) + lane] = br - ai;
      }
    }
    axes[2].transform(imaginary, real);
    for (size_t lane = 0; lane < EIGHT; lane++) {
      const size_t a = first + 2 * lane, b = a + 1;
      for (size_t z = 0; z < length && a < n_rows; z++) mesh[a * row + z] = real[EIGHT * z + lane];
      for (size_t z = 0; z < length && b < n_rows; z++) mesh[b * row + z] = imaginary[EIGHT * z + lane];
    }
  }
}

void MeshFourier::along(int axis, Spectrum &spectrum, bool back) {
  const size_t length = n[axis], others = n[1 - axis];
  const size_t step = axis == 0 ? n[1] * n_waves : n_waves, other_step = axis == 0 ? n_waves : n[1] * n_waves;
  real.resize(EIGHT * length);
  imaginary.resize(EIGHT * length);
  for (size_t other = 0; other < others; other++)
    for (size_t k = 0; k < n_waves; k += EIGHT) {
      double *const re = spectrum.real.data() + other * other_step + k;
      double *const im = spectrum.imaginary.data() + other * other_step + k;
      for (size_t x = 0; x < length; x++) {
        std::copy_n(re + x * step, EIGHT, real.data() + EIGHT * x);
        std::copy_n(im + x * step, EIGHT, imaginary.data() + EIGHT * x);
      }
      if (back)
        axes[axis].transform(imaginary, real);
      else
        axes[axis].transform(real, imaginary);
      for (size_t x = 0; x < length; x++) {
        std::copy_n(real.data() + EIGHT * x, EIGHT, re + x * step);
        std::copy_n(imaginary.data() + EIGHT * x, EIGHT, im + x * step);
      }
    }
}

void MeshFourier::forward(const std::vector<double> &mesh, Spectrum &spectrum) {
  const size_t size = static_cast<size_t>(n[0]) * n[1] * n_waves;
  spectrum.real.assign(size, 0.0);
  spectrum.imaginary.assign(size, 0.0);
  rows_forward(mesh, spectrum);
  along(1, spectrum, false);
  along(0, spectrum, false);
}

void MeshFourier::backward(Spectrum &spectrum, double *mesh) {
  along(0, spectrum, true);
  along(1, spectrum, true);
  rows_backward(spectrum, mesh);
}

}  // namespace nnpkit
