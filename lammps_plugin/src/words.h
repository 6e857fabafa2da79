// The words of a command, read one after the other; all ranks stop at the first that makes no sense.

#ifndef NNPKIT_WORDS_H
#define NNPKIT_WORDS_H

#include "pointers.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace LAMMPS_NS {

class Words : protected Pointers {
 public:
  // `command` begins every message: "Pair style nnpkit".
  Words(LAMMPS *lmp, std::string command, std::vector<std::string> words);

  bool more() const { return at < words.size(); }
  size_t position() const { return at; }
  std::string keyword() { return key = words[at++]; }
  std::string value();
  [[noreturn]] void refuse(const std::string &found, const std::string &expected);

  // A whole number from `least` to what fits the type.
  bigint whole(bigint least, const std::string &expected);
  int whole_int(int least, const std::string &expected);
  double number(double least, const std::string &expected);  // or INF
  bool yes();
  std::string file();  // empty for NULL

 private:
  std::string command;
  std::vector<std::string> words;
  size_t at = 0;
  std::string key;
};

// What each keyword of a command does with the words behind it.
template <typename Settings>
using Keywords = std::map<std::string, std::function<void(Words &, Settings &)>>;

template <typename Settings>
std::string names(const Keywords<Settings> &keywords) {
  std::string text;
  for (const auto &entry : keywords) text += (text.empty() ? "" : ", ") + entry.first;
  return text;
}

}  // namespace LAMMPS_NS

#endif
