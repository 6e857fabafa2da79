#include "metadata.h"

#include "json.h"  // shipped with LAMMPS

#include <algorithm>
#include <stdexcept>

namespace nnpkit {

namespace {

using LAMMPS_NS::json;
constexpr int FORMAT_VERSION = 1;

void expect(const char *key, const std::string &found, const std::string &wanted) {
  if (found != wanted)
    throw std::runtime_error(std::string("metadata: ") + key + " is '" + found + "', expected '" + wanted +
                             "'");
}

// {"O": {"min": [...], "max": [...]}, ...} as a table; sets shorter than the longest have features that are 0
void read_ranges(const json &ranges, ModelInfo &info) {
  size_t width = 0;
  for (const auto &element : info.elements) width = std::max(width, ranges.at(element).at("min").size());
  info.n_functions = static_cast<int>(width);
  for (const auto &element : info.elements) {
    const auto low = ranges.at(element).at("min").get<std::vector<double>>();
    const auto high = ranges.at(element).at("max").get<std::vector<double>>();
    if (low.size() != high.size()) throw std::runtime_error("metadata: feature_ranges do not fit each other");
    for (size_t f = 0; f < width; f++)
      info.feature_ranges.push_back(f < low.size() ? FeatureRange{low[f], high[f]} : FeatureRange{0.0, 0.0});
  }
}

// [["charge", 1], ...]
void read_fields(const json &fields, ModelInfo &info) {
  for (const json &field : fields) {
    info.fields.push_back({field.at(0).get<std::string>(), field.at(1).get<int>()});
    if (info.fields.back().width < 1) throw std::runtime_error("metadata: a field without numbers");
  }
}

void read_charges(const json &charges, ModelInfo &info) {
  ChargeInfo &found = info.charges;
  found.generation = charges.at("generation").get<std::string>();
  found.widths = charges.at("widths").get<std::vector<double>>();
  if (charges.at("hardness").is_array()) found.hardness = charges.at("hardness").get<std::vector<double>>();
  if (charges.at("screening").is_array()) {
    found.screening_inner = charges.at("screening").at(0).get<double>();
    found.screening_outer = charges.at("screening").at(1).get<double>();
  }
  found.seen = charges.value("seen", false);
  const bool fourth = found.generation == "fourth";
  if (found.generation != "third" && found.generation != "latent" && !fourth)
    throw std::runtime_error("metadata: charges of an unknown generation '" + found.generation + "'");
  if (found.widths.size() != info.elements.size() ||
      (fourth && found.hardness.size() != info.elements.size()))
    throw std::runtime_error("metadata: widths or hardness do not fit the elements");
  if (info.fields.size() != 1) throw std::runtime_error("metadata: charges without their field");
}

json terms_of(const json &metadata) {
  const json spec = metadata.value("spec", json::object());
  const json terms = spec.is_object() ? spec.value("terms", json()) : json();
  return terms.is_object() ? terms : json::object();
}

void read_terms(const json &metadata, ModelInfo &info) {
  if (!metadata.contains("members")) {
    info.terms = !terms_of(metadata).empty();
    return;
  }
  const json &members = metadata.at("members"), first = terms_of(members.at(0));
  for (const json &member : members)
    if (terms_of(member) != first) info.different_terms = true;
  info.terms = !first.empty() && !info.different_terms;
}

ModelInfo read(const json &metadata) {
  expect("format", metadata.at("format").get<std::string>(), "nnpkit-model");
  const int version = metadata.at("format_version").get<int>();
  if (version != FORMAT_VERSION)
    throw std::runtime_error("model file has format version " + std::to_string(version) +
                             ", this plugin reads version " + std::to_string(FORMAT_VERSION) +
                             ": export the model again with the nnpkit that built the plugin");
  const json &units = metadata.at("units");
  expect("units.length", units.at("length").get<std::string>(), "angstrom");
  expect("units.energy", units.at("energy").get<std::string>(), "eV");
  expect("sign", metadata.at("sign").get<std::string>(), "virial = -dE/dstrain");

  ModelInfo info;
  info.kind = metadata.value("kind", std::string("model"));
  info.elements = metadata.at("elements").get<std::vector<std::string>>();
  info.cutoff = metadata.at("cutoff").get<double>();
  if (info.elements.empty()) throw std::runtime_error("metadata: no elements");
  if (!(info.cutoff > 0.0)) throw std::runtime_error("metadata: the cutoff is not positive");
  if (metadata.contains("n_parameters")) info.n_parameters = metadata.at("n_parameters").get<long long>();
  if (metadata.contains("members")) info.n_members = static_cast<int>(metadata.at("members").size());
  if (info.n_members < 1) throw std::runtime_error("metadata: a committee without members");
  if (metadata.contains("members")) {
    const json &first = metadata.at("members").at(0);
    info.member_kind = first.value("kind", std::string());
    info.apart = first.contains("electrostatics") && first.at("electrostatics").is_object();
  }
  info.describes = metadata.value("describes", true);
  info.spread_factor = metadata.value("spread_factor", 1.0);
  if (!(info.spread_factor > 0.0)) throw std::runtime_error("metadata: the spread factor is not positive");
  if (metadata.contains("feature_ranges") && metadata.at("feature_ranges").is_object())
    read_ranges(metadata.at("feature_ranges"), info);
  read_terms(metadata, info);
  if (metadata.contains("fields")) read_fields(metadata.at("fields"), info);
  if (metadata.contains("electrostatics") && metadata.at("electrostatics").is_object())
    read_charges(metadata.at("electrostatics"), info);
  if (metadata.contains("baseline") && metadata.at("baseline").is_object() &&
      !metadata.at("baseline").value("included", false))
    info.missing_baseline = metadata.at("baseline").value("name", std::string("something else"));
  if (metadata.contains("versions")) {
    info.nnpkit_version = metadata.at("versions").value("nnpkit", std::string());
    info.torch_version = metadata.at("versions").value("torch", std::string());
  }
  return info;
}

}  // namespace

std::vector<std::string> member_metadata(const std::string &json_text) {
  const json metadata = json::parse(json_text);
  if (!metadata.contains("members")) return {json_text};
  std::vector<std::string> members;
  for (const json &member : metadata.at("members")) members.push_back(member.dump());
  return members;
}

ModelInfo parse_member(const ModelInfo &committee, const std::string &json_text) {
  ModelInfo info = parse_metadata(json_text);
  info.kind = committee.kind;
  info.member_kind = committee.member_kind;
  info.cutoff = committee.cutoff;
  info.n_parameters = committee.n_parameters;
  info.n_members = committee.n_members;
  info.spread_factor = committee.spread_factor;
  info.missing_baseline = committee.missing_baseline;
  info.apart = true;
  if (info.elements != committee.elements || info.charges.generation.empty())
    throw std::runtime_error("metadata: a member of other elements, or without charges");
  return info;
}

std::vector<std::string> stage_metadata(const std::string &json_text) {
  const json metadata = json::parse(json_text);
  std::vector<std::string> members;
  if (metadata.contains("kernel_members") && metadata.at("kernel_members").is_array())
    for (const json &member : metadata.at("kernel_members")) members.push_back(member.dump());
  return members;
}

ModelInfo parse_metadata(const std::string &json_text) {
  if (json_text.empty())
    throw std::runtime_error("TorchScript file without nnpkit metadata: write it with 'nnpkit export'");
  try {
    return read(json::parse(json_text));
  } catch (const json::exception &error) {
    throw std::runtime_error(std::string("metadata.json of the model file is damaged: ") + error.what());
  }
}

}  // namespace nnpkit
