// Files in a zip archive that are stored without compression, as torch writes numbers.

#ifndef NNPKIT_ZIP_H
#define NNPKIT_ZIP_H

#include <cstddef>
#include <map>
#include <string>

namespace nnpkit {

struct ZipEntry {
  const char *data;
  size_t size;
};

// Throws std::runtime_error for whatever does not fit.
class Zip {
 public:
  // `bytes` have to outlive this.
  explicit Zip(const std::string &bytes);

  // The folder that holds everything, with its slash.
  std::string root() const;
  bool has(const std::string &name) const { return entries.count(name) > 0; }
  ZipEntry at(const std::string &name) const;
  std::string text(const std::string &name) const;

 private:
  const std::string &bytes;
  struct Place {
    size_t header, size;
    unsigned method;
  };
  std::map<std::string, Place> entries;

  size_t number(size_t at, int n_bytes) const;  // little endian
};

}  // namespace nnpkit

#endif
