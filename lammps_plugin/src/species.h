// Elements of the periodic table, for frames that hold more than the model knows.

#ifndef NNPKIT_SPECIES_H
#define NNPKIT_SPECIES_H

#include <string>

namespace nnpkit {

bool is_element(const std::string &symbol);
// The one element with this mass (g/mol), isotopes of hydrogen included; empty if there is none or several.
std::string element_of_mass(double mass);

}  // namespace nnpkit

#endif
