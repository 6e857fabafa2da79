// Text for a caller in C.

#ifndef NNPKIT_C_MESSAGE_H
#define NNPKIT_C_MESSAGE_H

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <exception>

namespace nnpkit {

inline void say(const char *text, char *message, size_t size) {
  if (!message || size == 0) return;
  const size_t n = std::min(size - 1, std::strlen(text));
  std::memcpy(message, text, n);
  message[n] = '\0';
}

// 0 if work() succeeds; else 1, and the reason is in `message`.
template <typename Work>
int guarded(char *message, size_t size, const Work &work) {
  try {
    work();
    return 0;
  } catch (const std::exception &error) {
    say(error.what(), message, size);
    return 1;
  }
}

}  // namespace nnpkit

#endif
