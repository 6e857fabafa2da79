// What the fused kernels want to know of a model file: its numbers under the names that they use.

#ifndef NNPKIT_KERNEL_INPUTS_H
#define NNPKIT_KERNEL_INPUTS_H

#include "kernel.h"

#include <map>
#include <string>
#include <vector>

namespace nnpkit {

// Floating parameters and buffers by their names in the file, "model.scaling.shift".
using NamedArrays = std::map<std::string, Array>;

// What a kernel takes of a single potential, or of each member of a committee.
std::vector<KernelInput> inputs_of_members(const std::string &metadata, const NamedArrays &arrays);

// Stages that hear nothing of each other, as members that share their features: the short-range part, and it
// with each network of the first field in the place of its own. None if no kernel evaluates them so.
std::vector<KernelInput> inputs_of_stages(const std::string &metadata, const NamedArrays &arrays);

}  // namespace nnpkit

#endif
