// The checksum at the end of a model file; see nnpkit/seal.py.

#ifndef NNPKIT_SEAL_H
#define NNPKIT_SEAL_H

#include <string>

namespace nnpkit {

// Throws std::runtime_error unless the bytes end with their own SHA-256.
void check_seal(const std::string &bytes);

// In hexadecimal.
std::string sha256(const char *data, size_t size);

}  // namespace nnpkit

#endif
