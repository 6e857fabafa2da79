// metadata.json of a model.pt: read and checked.

#ifndef NNPKIT_METADATA_H
#define NNPKIT_METADATA_H

#include "model.h"

namespace nnpkit {

// Fills what the file says about itself. Throws std::runtime_error if this plugin cannot use such a file.
ModelInfo parse_metadata(const std::string &json_text);

// The same text of each member of a committee; of a single potential its own.
std::vector<std::string> member_metadata(const std::string &json_text);

// One of the members of a `committee` that are evaluated one by one, from its own text: charges, fields and
// ranges are its own, the rest is that of the committee.
ModelInfo parse_member(const ModelInfo &committee, const std::string &json_text);

// What a kernel needs to know of each stage of a model that has several; none if no kernel evaluates them.
std::vector<std::string> stage_metadata(const std::string &json_text);

}  // namespace nnpkit

#endif
