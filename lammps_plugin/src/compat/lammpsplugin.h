// Declarations of LAMMPS' documented plugin interface (LAMMPS developer guide, "Writing plugins"), for
// LAMMPS installations that ship their headers without lammpsplugin.h.
#ifndef NNPKIT_COMPAT_LAMMPSPLUGIN_H
#define NNPKIT_COMPAT_LAMMPSPLUGIN_H

extern "C" {

typedef void *(lammpsplugin_factory1)(void *);
typedef void *(lammpsplugin_factory2)(void *, int, char **);

typedef struct {
  const char *version;  // LAMMPS version the plugin was compiled for
  const char *style;    // kind of style: "pair"
  const char *name;     // name of the style in the input
  const char *info;     // one line for the log
  const char *author;
  union {
    lammpsplugin_factory1 *v1;  // pair styles
    lammpsplugin_factory2 *v2;  // computes, fixes
  } creator;
  void *handle;  // of the shared object
} lammpsplugin_t;

typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);

void lammpsplugin_init(void *lmp, void *handle, void *register_plugin);
}

#endif
