// Text for a caller in C.

#ifndef NNPKIT_C_MESSAGE_H
#define NNPKIT_C_MESSAGE_H

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace nnpkit {

inline void say(const char *text, char *message, size_t size) {
  if (!message || size == 0) return;
  const size_t n = std::min(size - 1, std::strlen(text));
  std::memcpy(message, text, n);
  message[n] = '\0';
}

}  // namespace nnpkit

#endif
