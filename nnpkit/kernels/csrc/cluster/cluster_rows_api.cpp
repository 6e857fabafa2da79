// Training of cluster expansions as C functions.

#include "c_message.h"
#include "cluster_rows.h"

namespace {

using nnpkit::guarded;
using nnpkit::cluster::ExpansionTraining;

}  // namespace

void *nnpkit_expansion_new(const char *spec, const char *isa, int *status, char *message,
                           size_t message_size) {
  ExpansionTraining *made = nullptr;
  *status =
      guarded(message, message_size,
              [&] {
                made = new ExpansionTraining(nnpkit::Json::parse(spec), nnpkit::isa_called(isa ? isa : ""));
              })
          ? 2
          : 0;
  return made;
}

void nnpkit_expansion_delete(void *expansion) {
  delete static_cast<ExpansionTraining *>(expansion);
}

const char *nnpkit_expansion_isa(const void *expansion) {
  return static_cast<const ExpansionTraining *>(expansion)->isa();
}

int64_t nnpkit_expansion_parameters(const void *expansion) {
  return static_cast<const ExpansionTraining *>(expansion)->n_parameters();
}

int nnpkit_expansion_set(void *expansion, const nnpkit_expansion_weights *weights, char *message,
                         size_t message_size) {
  return guarded(message, message_size, [&] { static_cast<ExpansionTraining *>(expansion)->set(*weights); });
}

int nnpkit_expansion_features(void *expansion, const nnpkit_edges *edges, double *features, char *message,
                              size_t message_size) {
  return guarded(message, message_size,
                 [&] { static_cast<ExpansionTraining *>(expansion)->features(*edges, features); });
}

int nnpkit_expansion_measure(void *expansion, const nnpkit_edges *edges, const int64_t *neighbor,
                             const nnpkit_expansion_rows *wanted, char *message, size_t message_size) {
  return guarded(message, message_size,
                 [&] { static_cast<ExpansionTraining *>(expansion)->measure(*edges, neighbor, *wanted); });
}
