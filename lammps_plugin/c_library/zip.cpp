#include "zip.h"

#include <stdexcept>

namespace nnpkit {

namespace {

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("no model file: " + what);
}

// APPNOTE.TXT of PKWARE, 4.3.7, 4.3.12 and 4.3.16: signatures and lengths of the fixed parts.
constexpr size_t LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50;
constexpr size_t LOCAL_SIZE = 30, CENTRAL_SIZE = 46, END_SIZE = 22, LONGEST_COMMENT = 0xffff;
constexpr size_t IN_ZIP64 = 0xffffffff;  // the number is elsewhere: files of 4 GB and more

}  // namespace

size_t Zip::number(size_t at, int n_bytes) const {
  if (at > bytes.size() || bytes.size() - at < static_cast<size_t>(n_bytes)) fail("the archive is cut off");
  size_t value = 0;
  for (int k = n_bytes - 1; k >= 0; k--) value = value << 8 | static_cast<unsigned char>(bytes[at + k]);
  return value;
}

Zip::Zip(const std::string &archive) : bytes(archive) {
  size_t end = bytes.size();
  if (end < END_SIZE) fail("it is too short");
  const size_t least = end > END_SIZE + LONGEST_COMMENT ? end - END_SIZE - LONGEST_COMMENT : 0;
  for (end -= END_SIZE; number(end, 4) != END; end--)
    if (end == least) fail("it is no archive");
  const size_t n_entries = number(end + 10, 2);
  size_t at = number(end + 16, 4);
  if (n_entries == 0xffff || at == IN_ZIP64) fail("archives of this size are not supported");
  for (size_t n = 0; n < n_entries; n++) {
    if (number(at, 4) != CENTRAL) fail("the table of contents is damaged");
    const Place place{number(at + 42, 4), number(at + 24, 4), static_cast<unsigned>(number(at + 10, 2))};
    const size_t length = number(at + 28, 2), extra = number(at + 30, 2), comment = number(at + 32, 2);
    if (bytes.size() - at < CENTRAL_SIZE + length) fail("the archive is cut off");
    entries[bytes.substr(at + CENTRAL_SIZE, length)] = place;
    at += CENTRAL_SIZE + length + extra + comment;
  }
}

std::string Zip::root() const {
  const std::string name = "/constants.pkl";
  for (const auto &entry : entries) {
    const std::string &path = entry.first;
    if (path.size() > name.size() && path.compare(path.size() - name.size(), name.size(), name) == 0)
      return path.substr(0, path.size() - name.size() + 1);
  }
  fail("it is no TorchScript archive");
}

ZipEntry Zip::at(const std::string &name) const {
  const auto found = entries.find(name);
  if (found == entries.end()) fail("there is no " + name + " in it");
  const Place &place = found->second;
  if (place.method != 0 || place.size == IN_ZIP64) fail(name + " is compressed or too large");
  if (number(place.header, 4) != LOCAL) fail("the entry " + name + " is damaged");
  const size_t begin =
      place.header + LOCAL_SIZE + number(place.header + 26, 2) + number(place.header + 28, 2);
  if (begin > bytes.size() || bytes.size() - begin < place.size) fail("the archive is cut off");
  return {bytes.data() + begin, place.size};
}

std::string Zip::text(const std::string &name) const {
  const ZipEntry entry = at(name);
  return {entry.data, entry.size};
}

}  // namespace nnpkit
