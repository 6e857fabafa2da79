// load_model() for the plugin: opens libnnpkit_model.so, and with it libtorch, when a model is first needed.

#include "model.h"

#include <dlfcn.h>
#include <cstdio>
#include <stdexcept>

namespace nnpkit {

namespace {

const char REBUILD[] = ": run 'nnpkit build' again, see 'nnpkit doctor'";

// folder of this shared object, with the final slash
std::string own_folder() {
  Dl_info self;
  if (!dladdr(reinterpret_cast<const void *>(&own_folder), &self) || !self.dli_fname)
    throw std::runtime_error("cannot find the folder of nnpkitplugin.so");
  const std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

#ifdef NNPKIT_TORCH_BESIDE
// A wheel: torch is installed beside nnpkit, wherever that is. The same release for CUDA, "2.13.0+cu130" for
// "2.13.0+cpu", has the same interface, and models test themselves.
std::string torch_folder() {
  return own_folder() + NNPKIT_TORCH_BESIDE;
}
std::string compared(const std::string &version) {
  return version.substr(0, version.find('+'));
}
#else
std::string torch_folder() {
  return NNPKIT_TORCH_DIR;
}
std::string compared(const std::string &version) {
  return version;
}
#endif

// __version__ = '2.13.0+cpu' from torch/version.py; empty if there is no such file or line
std::string installed_torch() {
  FILE *file = fopen((torch_folder() + "/version.py").c_str(), "r");
  if (!file) return "";
  std::string version;
  char line[512];
  while (version.empty() && fgets(line, sizeof(line), file)) {
    const std::string text = line;
    if (text.rfind("__version__", 0) != 0) continue;
    const auto begin = text.find_first_of("'\""), end = text.find_last_of("'\"");
    if (begin != std::string::npos && end > begin) version = text.substr(begin + 1, end - begin - 1);
  }
  fclose(file);
  return version;
}

// libtorch promises no binary compatibility between versions: ask before opening it
void check_torch() {
  const std::string now = installed_torch();
  if (now.empty())
    throw std::runtime_error("the plugin was compiled against torch " NNPKIT_TORCH_VERSION
                             " which is not in " +
                             torch_folder() + REBUILD);
  // volatile keeps one copy of the text, the one that the message shows and that a test can change
  static const char *volatile compiled = NNPKIT_TORCH_VERSION;
  if (compared(now) != compared(compiled))
    throw std::runtime_error("the plugin was compiled against torch " + std::string(compiled) +
                             " but torch " + now + " is installed now" + REBUILD);
}

ModelFactory *open_factory() {
  check_torch();
  const std::string path = own_folder() + "libnnpkit_model.so";
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // stays open: libtorch cannot be closed
  if (!library) throw std::runtime_error(std::string("cannot load libtorch: ") + dlerror() + REBUILD);
  void *symbol = dlsym(library, MODEL_FACTORY);
  if (!symbol) throw std::runtime_error(path + " lacks its entry point" + REBUILD);
  return reinterpret_cast<ModelFactory *>(symbol);
}

}  // namespace

std::unique_ptr<Model> load_model(const std::string &bytes, const Placement &placement) {
  static ModelFactory *const factory = open_factory();
  return std::unique_ptr<Model>(factory(bytes, placement));
}

}  // namespace nnpkit
