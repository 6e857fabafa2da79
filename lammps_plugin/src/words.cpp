#include "words.h"

#include "error.h"
#include "fmt/format.h"
#include "utils.h"

#include <limits>

using namespace LAMMPS_NS;

Words::Words(LAMMPS *lmp, std::string command, std::vector<std::string> words)
    : Pointers(lmp), command(std::move(command)), words(std::move(words)) {}

std::string Words::value() {
  if (!more()) error->all(FLERR, fmt::format("{}: keyword {} has no value", command, key));
  return words[at++];
}

void Words::refuse(const std::string &found, const std::string &expected) {
  error->all(FLERR, fmt::format("{}: {} is '{}', expected {}", command, key, found, expected));
}

bigint Words::whole(bigint least, const std::string &expected) {
  // steps and counts are added to each other: half of the range is left for the sums
  constexpr bigint most = std::numeric_limits<bigint>::max() / 2;
  const std::string text = value();
  if (!utils::is_integer(text)) refuse(text, expected);
  if (text.size() > 18) refuse(text, fmt::format("{}, not above {}", expected, most));
  const bigint number = utils::bnumeric(FLERR, text, false, lmp);
  if (number < least) refuse(text, expected);
  return number;
}

int Words::whole_int(int least, const std::string &expected) {
  const bigint number = whole(least, expected);
  if (number > std::numeric_limits<int>::max())
    refuse(fmt::format("{}", number),
           fmt::format("{}, not above {}", expected, std::numeric_limits<int>::max()));
  return static_cast<int>(number);
}

double Words::number(double least, const std::string &expected) {
  const std::string text = value();
  if (text == "INF") return std::numeric_limits<double>::infinity();
  if (!utils::is_double(text)) refuse(text, expected);
  const double found = utils::numeric(FLERR, text, false, lmp);
  if (!(found >= least)) refuse(text, expected);
  return found;
}

bool Words::yes() {
  const std::string text = value();
  if (text != "yes" && text != "no") refuse(text, "yes or no");
  return text == "yes";
}

std::string Words::file() {
  const std::string text = value();
  return text == "NULL" ? "" : text;
}
