#include "kernel_inputs.h"

#include "metadata.h"

namespace nnpkit {

namespace {

bool starts_with(const std::string &text, const std::string &prefix) {
  return text.rfind(prefix, 0) == 0;
}

std::vector<KernelInput> described_by(const std::vector<std::string> &metadata) {
  std::vector<KernelInput> inputs;
  for (const std::string &text : metadata) inputs.push_back({text, {}});
  return inputs;
}

}  // namespace

std::vector<KernelInput> inputs_of_members(const std::string &metadata, const NamedArrays &arrays) {
  std::vector<KernelInput> members = described_by(member_metadata(metadata));
  for (size_t m = 0; m < members.size(); m++) {
    const std::string prefix = members.size() == 1 ? "model." : "member_" + std::to_string(m) + ".";
    for (const auto &[name, array] : arrays)
      if (starts_with(name, prefix)) members[m].tensors[name.substr(prefix.size())] = array;
  }
  return members;
}

std::vector<KernelInput> inputs_of_stages(const std::string &metadata, const NamedArrays &arrays) {
  const std::string whole = "model.", own = whole + "networks.";
  std::vector<KernelInput> stages = described_by(stage_metadata(metadata));
  for (size_t s = 0; s < stages.size(); s++) {
    const std::string channel = whole + "charge_networks." + std::to_string(s - 1) + ".";
    for (const auto &[name, array] : arrays) {
      if (!starts_with(name, whole) || (s > 0 && starts_with(name, own))) continue;
      const bool of_channel = s > 0 && starts_with(name, channel);
      stages[s].tensors[of_channel ? "networks." + name.substr(channel.size()) : name.substr(whole.size())] =
          array;
    }
  }
  return stages;
}

}  // namespace nnpkit
