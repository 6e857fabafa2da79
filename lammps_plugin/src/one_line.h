// Errors of libraries as one line that a user can read.

#ifndef NNPKIT_ONE_LINE_H
#define NNPKIT_ONE_LINE_H

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <string>

namespace nnpkit {

// The line that says what is wrong in the pages that libtorch may write, without bytes that are no text.
inline std::string first_line(const std::string &text) {
  std::istringstream lines(text);
  std::string line, found;
  while (std::getline(lines, line)) {
    if (found.empty()) found = line;
    if (line.rfind("RuntimeError:", 0) == 0) found = line;  // the end of a TorchScript traceback
  }
  std::replace_if(found.begin(), found.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return found;
}

// Runs a step; whatever it throws becomes a std::runtime_error of one line that says what was being done.
template <typename Step>
auto in_one_line(const std::string &doing, const Step &step) {
  try {
    return step();
  } catch (const std::exception &error) {
    throw std::runtime_error((doing.empty() ? "" : doing + ": ") + first_line(error.what()));
  }
}

}  // namespace nnpkit

#endif
