#include "kernel.h"

#include "drawn_members.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <stdexcept>

namespace nnpkit {

namespace {
constexpr Isa ALL[] = {Isa::AVX512, Isa::AVX2, Isa::PORTABLE};  // the best one first

// Filled by what the sources of the kernels declare, while the library is loaded.
std::map<std::string, KernelFactory *> &factories() {
  static std::map<std::string, KernelFactory *> by_kind;
  return by_kind;
}

}  // namespace

KernelOfKind::KernelOfKind(const char *kind, KernelFactory *make) {
  factories()[kind] = make;
}

const char *isa_name(Isa isa) {
  return isa == Isa::AVX512 ? "avx512" : isa == Isa::AVX2 ? "avx2" : "portable";
}

bool has_isa(Isa isa) {
  if (isa == Isa::PORTABLE) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::AVX2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
#else
  return false;
#endif
}

Isa choose_isa() {
  const char *const asked = std::getenv("NNPKIT_ISA");
  const std::string wanted = asked ? asked : "";
  for (const Isa isa : ALL) {
    if (wanted.empty() ? !has_isa(isa) : wanted != isa_name(isa)) continue;
    if (!has_isa(isa)) throw std::runtime_error("NNPKIT_ISA=" + wanted + ": this processor lacks it");
    return isa;
  }
  throw std::runtime_error("NNPKIT_ISA=" + wanted + ": expected portable, avx2 or avx512");
}

Isa isa_called(const std::string &name) {
  if (name.empty()) return choose_isa();
  for (const Isa isa : ALL) {
    if (name != isa_name(isa)) continue;
    if (!has_isa(isa)) throw std::runtime_error("this processor lacks " + name);
    return isa;
  }
  throw std::runtime_error("unknown instruction set " + name);
}

std::unique_ptr<Kernel> make_kernel(const std::vector<KernelInput> &members, Precision precision, Isa isa,
                                    std::string &reason) {
  if (members.empty()) throw std::runtime_error("a model without members");
  if (drawn_around_the_first(members)) {
    std::vector<KernelInput> alike = members;
    for (KernelInput &member : alike) member.metadata = members[0].metadata;
    auto all = make_kernel(alike, precision, isa, reason);
    auto first = all ? make_kernel({members[0]}, precision, isa, reason) : nullptr;
    if (!first) return nullptr;
    return std::make_unique<DrawnMembers<Kernel>>(std::move(all), std::move(first));
  }
  std::string kind;
  if (!have_one_kind(members, kind, reason)) return nullptr;
  const auto found = factories().find(kind);
  if (found != factories().end()) return found->second(members, precision, isa, reason);
  reason = "no kernel for models of kind '" + kind + "'";
  return nullptr;
}

std::unique_ptr<Evaluator> make_evaluator_for(const std::vector<KernelInput> &members, Precision precision,
                                              const std::string &place, std::string &name,
                                              std::string &reason) {
  const Isa isa = isa_called(place);
  name = isa_name(isa);
  return make_kernel(members, precision, isa, reason);
}

}  // namespace nnpkit
