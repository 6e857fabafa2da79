#include "species.h"

#include <cmath>

namespace nnpkit {

namespace {

struct Element {
  const char *symbol;
  double mass;
};

// Standard atomic weights, g/mol (IUPAC 2016); 0 for elements that have none.
constexpr Element ELEMENTS[] = {
    {"H", 1.008},    {"He", 4.0026},  {"Li", 6.94},    {"Be", 9.01218}, {"B", 10.81},    {"C", 12.011},
    {"N", 14.007},   {"O", 15.999},   {"F", 18.9984},  {"Ne", 20.1797}, {"Na", 22.9898}, {"Mg", 24.305},
    {"Al", 26.9815}, {"Si", 28.085},  {"P", 30.9738},  {"S", 32.06},    {"Cl", 35.45},   {"Ar", 39.948},
    {"K", 39.0983},  {"Ca", 40.078},  {"Sc", 44.9559}, {"Ti", 47.867},  {"V", 50.9415},  {"Cr", 51.9961},
    {"Mn", 54.938},  {"Fe", 55.845},  {"Co", 58.9332}, {"Ni", 58.6934}, {"Cu", 63.546},  {"Zn", 65.38},
    {"Ga", 69.723},  {"Ge", 72.63},   {"As", 74.9216}, {"Se", 78.971},  {"Br", 79.904},  {"Kr", 83.798},
    {"Rb", 85.4678}, {"Sr", 87.62},   {"Y", 88.9058},  {"Zr", 91.224},  {"Nb", 92.9064}, {"Mo", 95.95},
    {"Tc", 0},       {"Ru", 101.07},  {"Rh", 102.906}, {"Pd", 106.42},  {"Ag", 107.868}, {"Cd", 112.414},
    {"In", 114.818}, {"Sn", 118.71},  {"Sb", 121.76},  {"Te", 127.6},   {"I", 126.904},  {"Xe", 131.293},
    {"Cs", 132.905}, {"Ba", 137.327}, {"La", 138.905}, {"Ce", 140.116}, {"Pr", 140.908}, {"Nd", 144.242},
    {"Pm", 0},       {"Sm", 150.36},  {"Eu", 151.964}, {"Gd", 157.25},  {"Tb", 158.925}, {"Dy", 162.5},
    {"Ho", 164.93},  {"Er", 167.259}, {"Tm", 168.934}, {"Yb", 173.054}, {"Lu", 174.967}, {"Hf", 178.49},
    {"Ta", 180.948}, {"W", 183.84},   {"Re", 186.207}, {"Os", 190.23},  {"Ir", 192.217}, {"Pt", 195.084},
    {"Au", 196.967}, {"Hg", 200.592}, {"Tl", 204.38},  {"Pb", 207.2},   {"Bi", 208.98},  {"Po", 0},
    {"At", 0},       {"Rn", 0},       {"Fr", 0},       {"Ra", 0},       {"Ac", 0},       {"Th", 232.038},
    {"Pa", 231.036}, {"U", 238.029},  {"Np", 0},       {"Pu", 0},       {"Am", 0},       {"Cm", 0},
    {"Bk", 0},       {"Cf", 0},       {"Es", 0},       {"Fm", 0},       {"Md", 0},       {"No", 0},
    {"Lr", 0},
};
constexpr Element ISOTOPES[] = {{"H", 2.014}, {"H", 3.016}};  // deuterium and tritium
constexpr double SAME_MASS = 0.05;                            // argon and calcium are 0.13 apart

}  // namespace

bool is_element(const std::string &symbol) {
  for (const Element &element : ELEMENTS)
    if (symbol == element.symbol) return true;
  return false;
}

std::string element_of_mass(double mass) {
  for (const Element &element : ISOTOPES)
    if (std::abs(mass - element.mass) < SAME_MASS) return element.symbol;
  std::string found;
  for (const Element &element : ELEMENTS) {
    if (element.mass == 0.0 || std::abs(mass - element.mass) > SAME_MASS) continue;
    if (!found.empty()) return "";
    found = element.symbol;
  }
  return found;
}

}  // namespace nnpkit
