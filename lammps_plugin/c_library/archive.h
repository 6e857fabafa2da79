// The numbers of a model.pt without torch: a zip archive that stores them as they are.

#ifndef NNPKIT_ARCHIVE_H
#define NNPKIT_ARCHIVE_H

#include "kernel.h"

#include <map>
#include <string>

namespace nnpkit {

struct StoredTensor {
  Array array;  // of integers too
  bool floating;
};

struct Archive {
  std::string metadata;                         // text of metadata.json
  std::map<std::string, StoredTensor> tensors;  // by their names in the module, "model.scaling.shift"
};

// The bytes of a file whose seal has been checked. Throws std::runtime_error if it is no such archive.
Archive read_archive(const std::string &bytes);

}  // namespace nnpkit

#endif
