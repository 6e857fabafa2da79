// metadata.json of a model.pt: read and checked.

#ifndef NNPKIT_METADATA_H
#define NNPKIT_METADATA_H

#include "model.h"

namespace nnpkit {

// Fills what the file says about itself. Throws std::runtime_error if this plugin cannot use such a file.
ModelInfo parse_metadata(const std::string &json_text);

// The same text of each member of a committee; of a single potential its own.
// Of a model with stages: what a kernel needs to know of each, none if no kernel evaluates them together.
std::vector<std::string> stage_metadata(const std::string &json_text);

std::vector<std::string> member_metadata(const std::string &json_text);

}  // namespace nnpkit

#endif
