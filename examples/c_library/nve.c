/* Molecular dynamics at constant energy in a cubic box, with a potential of nnpkit and nothing else:
 *
 *   d=...                                               the folder that `nnpkit doctor` names for the C
 * library gcc -std=c99 -O2 nve.c -I"$d" -L"$d" -lnnpkit -Wl,-rpath,"$d" -lm -o nve
 *   ./nve model.pt structure.xyz 12.42 1000 0.5        box length in angstrom, steps, time step in fs
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nnpkit.h"

#define ACCELERATION 9.648533212e-3 /* angstrom / fs^2 of 1 eV / angstrom on 1 u */

static const struct {
  const char *symbol;
  double mass; /* u */
} ELEMENTS[] = {{"H", 1.008}, {"C", 12.011}, {"N", 14.007}, {"O", 15.999}, {"Si", 28.085}, {"Cu", 63.546}};

static void *room(size_t n, size_t size) {
  void *memory = calloc(n + 1, size);
  if (!memory) exit(1);
  return memory;
}

int main(int argc, char **argv) {
  char why[500], symbol[8];
  nnpkit_potential *potential = NULL;
  if (argc != 6 || nnpkit_interface() != NNPKIT_INTERFACE) return 2;
  if (nnpkit_load(argv[1], 1, &potential, why, sizeof(why))) return fprintf(stderr, "%s\n", why), 1;
  const double length = atof(argv[3]), dt = atof(argv[5]),
               cell[9] = {length, 0, 0, 0, length, 0, 0, 0, length};
  const int periodic[3] = {1, 1, 1}, n_steps = atoi(argv[4]);

  int n = 0;
  FILE *file = fopen(argv[2], "r");
  if (!file || fscanf(file, "%d", &n) < 1 || n < 1) return fprintf(stderr, "no structure\n"), 1;
  for (int lines = 0, c = 0; lines < 2 && c != EOF; lines += c == '\n') c = fgetc(file); /* and the comment */
  double *x = room(3 * n, sizeof(double)), *v = room(3 * n, sizeof(double)), *f = room(3 * n, sizeof(double)),
         *mass = room(n, sizeof(double));
  int *types = room(n, sizeof(int));
  for (int i = 0; i < n; i++) {
    if (fscanf(file, "%7s%lf%lf%lf%*[^\n]", symbol, x + 3 * i, x + 3 * i + 1, x + 3 * i + 2) < 4) return 1;
    types[i] = nnpkit_type(potential, symbol);
    for (size_t e = 0; e < sizeof(ELEMENTS) / sizeof(ELEMENTS[0]); e++)
      if (strcmp(ELEMENTS[e].symbol, symbol) == 0) mass[i] = ELEMENTS[e].mass;
    if (types[i] < 0 || mass[i] == 0.0) return fprintf(stderr, "element %s is not known\n", symbol), 1;
  }
  fclose(file);

  struct nnpkit_atoms atoms = {n, x, types};
  struct nnpkit_results results = {0};
  results.forces = f;
  double first = 0.0, largest = 0.0;
  for (int step = 0; step <= n_steps; step++) { /* velocity Verlet */
    for (int k = 0; k < 3 * n && step > 0; k++) {
      v[k] += 0.5 * dt * ACCELERATION * f[k] / mass[k / 3];
      x[k] += dt * v[k];
    }
    if (nnpkit_evaluate_cell(potential, &atoms, cell, periodic, &results, why, sizeof(why)))
      return fprintf(stderr, "step %d: %s\n", step, why), 1;
    double kinetic = 0.0;
    for (int k = 0; k < 3 * n; k++) {
      if (step > 0) v[k] += 0.5 * dt * ACCELERATION * f[k] / mass[k / 3];
      kinetic += 0.5 * mass[k / 3] * v[k] * v[k] / ACCELERATION;
    }
    if (step == 0) first = results.energy + kinetic;
    largest = fmax(largest, fabs(results.energy + kinetic - first));
    if (step % (n_steps / 10 + 1) == 0 || step == n_steps)
      printf("step %6d  potential %.12f  kinetic %.12f  total %.12f eV\n", step, results.energy, kinetic,
             results.energy + kinetic);
  }
  printf("the energy is conserved to %.3e eV per atom\n", largest / n);
  nnpkit_free(potential);
  free(x), free(v), free(f), free(mass), free(types);
  return 0;
}
