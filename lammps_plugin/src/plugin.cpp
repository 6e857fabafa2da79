// Entry point that LAMMPS calls when it opens nnpkitplugin.so: registers the styles.

#include "lammpsplugin.h"

#include "compute_nnpkit.h"
#include "error.h"
#include "fix_nnpkit_watch.h"
#include "fmt/format.h"
#include "lammps.h"
#include "pair_nnpkit.h"

#include <dlfcn.h>
#include <mpi.h>
#include <cstring>
#include <string>

using namespace LAMMPS_NS;

namespace {

// first word that tells MPI libraries apart; MPI handles of one mean nothing to another
std::string mpi_compiled() {
#if defined(MPICH_VERSION)
  return "MPICH";
#elif defined(OMPI_MAJOR_VERSION)
  return "Open MPI";
#else
  return "";
#endif
}

std::string mpi_loaded() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  return {text, static_cast<size_t>(length)};
}

// LAMMPS can be compiled with other integer types than these headers were taken for
bool same_integer_sizes(LAMMPS *lmp) {
  using Setting = int(void *, const char *);
  auto *setting = reinterpret_cast<Setting *>(dlsym(RTLD_DEFAULT, "lammps_extract_setting"));
  if (!setting) return true;  // an executable that does not export it
  return setting(lmp, "tagint") == sizeof(tagint) && setting(lmp, "imageint") == sizeof(imageint) &&
         setting(lmp, "bigint") == sizeof(bigint);
}

void check(LAMMPS *lmp) {
  // Class layouts change between LAMMPS releases: going on would read the wrong memory.
  if (strcmp(lmp->version, NNPKIT_LAMMPS_VERSION) != 0)
    lmp->error->all(FLERR, fmt::format("Pair style nnpkit was compiled for LAMMPS {} but this is LAMMPS {}: "
                                       "run 'nnpkit build' again, see 'nnpkit doctor'",
                                       NNPKIT_LAMMPS_VERSION, lmp->version));

  if (!same_integer_sizes(lmp))
    lmp->error->all(
        FLERR,
        "Pair style nnpkit was compiled for other integer sizes than this LAMMPS: run 'nnpkit build' "
        "with --lammps-sizes as 'lmp -h' prints it (smallbig or bigbig)");

  const std::string loaded = mpi_loaded(), compiled = mpi_compiled();
  if (!compiled.empty() &&
      (loaded.find("MPICH") != std::string::npos || loaded.find("Open MPI") != std::string::npos) &&
      loaded.find(compiled) == std::string::npos)
    lmp->error->all(FLERR,
                    fmt::format("Pair style nnpkit was compiled with the headers of {} but LAMMPS uses {}: "
                                "run 'nnpkit build' again with the MPI of LAMMPS, see 'nnpkit doctor'",
                                compiled, loaded.substr(0, loaded.find_first_of(",\n"))));
}

void *create_pair(void *pointer) {
  auto *const lmp = static_cast<LAMMPS *>(pointer);
  check(lmp);
  return new PairNNPKit(lmp);
}

template <typename Style>
void *create(void *pointer, int narg, char **arg) {
  auto *const lmp = static_cast<LAMMPS *>(pointer);
  check(lmp);
  return new Style(lmp, narg, arg);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle,
                                                                         void *register_plugin) {
  const auto add = [&](const char *style, const char *name, const char *info, auto set_creator) {
    lammpsplugin_t plugin{};
    plugin.version = NNPKIT_LAMMPS_VERSION;
    plugin.style = style;
    plugin.name = name;
    plugin.info = info;
    plugin.author = "the nnpkit developers";
    set_creator(plugin);
    plugin.handle = handle;
    (*reinterpret_cast<lammpsplugin_regfunc>(register_plugin))(&plugin, lmp);
  };
  add("pair", "nnpkit", "pair style nnpkit", [](lammpsplugin_t &p) { p.creator.v1 = &create_pair; });
  add("fix", "nnpkit/watch", "fix style nnpkit/watch",
      [](lammpsplugin_t &p) { p.creator.v2 = &create<FixNNPKitWatch>; });
  add("compute", "nnpkit", "compute style nnpkit",
      [](lammpsplugin_t &p) { p.creator.v2 = &create<ComputeNNPKit>; });
  add("compute", "NNPKIT/ACCEPTED", "of fix nnpkit/watch",
      [](lammpsplugin_t &p) { p.creator.v2 = &create<ComputeNNPKitAccepted>; });
}
