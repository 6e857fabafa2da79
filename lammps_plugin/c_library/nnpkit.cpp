#include "nnpkit.h"

#include "c_message.h"
#include "potential.h"

#include <algorithm>
#include <mutex>
#include <new>

struct nnpkit_potential {
  nnpkit::Potential potential;
  std::mutex in_use;

  nnpkit_potential(const char *path, int n_threads) : potential(path, n_threads) {}
};

namespace {

// Nothing is thrown at a caller in C.
template <typename Work>
int guarded(char *message, size_t size, const Work &work) {
  try {
    work();
    return NNPKIT_OK;
  } catch (const nnpkit::Failure &failure) {
    nnpkit::say(failure.what(), message, size);
    return failure.status;
  } catch (const std::bad_alloc &) {
    nnpkit::say("there is not enough memory", message, size);
    return NNPKIT_NO_MEMORY;
  } catch (const std::exception &problem) {
    nnpkit::say(problem.what(), message, size);  // of a kernel, about what it was given
    return NNPKIT_BAD_STRUCTURE;
  } catch (...) {
    nnpkit::say("an unknown problem", message, size);
    return NNPKIT_BAD_ARGUMENT;
  }
}

void need(const void *pointer, const char *what) {
  if (!pointer) throw nnpkit::Failure(NNPKIT_BAD_ARGUMENT, std::string(what) + " is a null pointer");
}

}  // namespace

int nnpkit_interface(void) {
  return NNPKIT_INTERFACE;
}

const char *nnpkit_status_text(int status) {
  switch (status) {
    case NNPKIT_OK:
      return "all is well";
    case NNPKIT_BAD_ARGUMENT:
      return "a call that makes no sense";
    case NNPKIT_NO_FILE:
      return "the file cannot be read";
    case NNPKIT_BAD_MODEL:
      return "no model file, or a damaged one";
    case NNPKIT_NOT_COVERED:
      return "a model that the compiled kernels do not evaluate";
    case NNPKIT_BAD_STRUCTURE:
      return "a structure that cannot be evaluated";
    case NNPKIT_NO_MEMORY:
      return "not enough memory";
    default:
      return "an unknown status";
  }
}

int nnpkit_load(const char *path, int n_threads, nnpkit_potential **potential, char *message, size_t size) {
  return guarded(message, size, [&] {
    need(path, "path");
    need(potential, "potential");
    constexpr int most = 1024;
    if (n_threads < 1 || n_threads > most)
      throw nnpkit::Failure(NNPKIT_BAD_ARGUMENT, "n_threads is " + std::to_string(n_threads) +
                                                     ", expected 1 to " + std::to_string(most));
    *potential = new nnpkit_potential(path, n_threads);
  });
}

void nnpkit_free(nnpkit_potential *potential) {
  delete potential;
}

int nnpkit_n_elements(const nnpkit_potential *potential) {
  return potential ? static_cast<int>(potential->potential.info().elements.size()) : 0;
}

const char *nnpkit_element(const nnpkit_potential *potential, int type) {
  if (!potential) return nullptr;
  const auto &elements = potential->potential.info().elements;
  return type >= 0 && type < static_cast<int>(elements.size()) ? elements[type].c_str() : nullptr;
}

int nnpkit_type(const nnpkit_potential *potential, const char *element) {
  if (!potential) return -1;
  const auto &elements = potential->potential.info().elements;
  for (size_t t = 0; element && t < elements.size(); t++)
    if (elements[t] == element) return static_cast<int>(t);
  return -1;
}

double nnpkit_cutoff(const nnpkit_potential *potential) {
  return potential ? potential->potential.info().cutoff : 0.0;
}

int nnpkit_n_members(const nnpkit_potential *potential) {
  return potential ? potential->potential.info().n_members : 0;
}

int nnpkit_n_features(const nnpkit_potential *potential) {
  return potential ? potential->potential.n_features() : 0;
}

int nnpkit_evaluate(nnpkit_potential *potential, const nnpkit_atoms *atoms, const nnpkit_neighbors *neighbors,
                    nnpkit_results *results, char *message, size_t size) {
  return guarded(message, size, [&] {
    need(potential, "potential");
    need(atoms, "atoms");
    need(neighbors, "neighbors");
    need(results, "results");
    const std::lock_guard<std::mutex> alone(potential->in_use);
    potential->potential.evaluate(*atoms, *neighbors, *results);
  });
}

int nnpkit_evaluate_cell(nnpkit_potential *potential, const nnpkit_atoms *atoms, const double cell[9],
                         const int periodic[3], nnpkit_results *results, char *message, size_t size) {
  return guarded(message, size, [&] {
    need(potential, "potential");
    need(atoms, "atoms");
    need(cell, "cell");
    need(periodic, "periodic");
    need(results, "results");
    const std::lock_guard<std::mutex> alone(potential->in_use);
    potential->potential.evaluate(*atoms, cell, periodic, *results);
  });
}
