// Fused evaluation of a model on the processor: neighbours -> descriptor -> networks -> gradient, one call
// for a block of atoms.

#ifndef NNPKIT_KERNEL_H
#define NNPKIT_KERNEL_H

#include "evaluator.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace nnpkit {

// One tensor of a model file, row-major.
struct Array {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

// One potential: the text of metadata.json (its "spec" says what the model is) and the parameters and buffers
// by their names in AtomicModel, for example "networks.networks.0.layers.0.weight" or "scaling.shift".
struct KernelInput {
  std::string metadata;
  std::map<std::string, Array> tensors;
};

// MIXED: distances and sums in double precision, the arithmetic between them in single. SINGLE: all that may
// be.
enum class Precision { DOUBLE, MIXED, SINGLE };

enum class Isa { PORTABLE, AVX2, AVX512 };
// The best one of this processor, or what NNPKIT_ISA=portable|avx2|avx512 asks for.
// Throws if that is not a name or this processor lacks it.
Isa choose_isa();
bool has_isa(Isa isa);
Isa isa_called(const std::string &name);  // empty: choose_isa()
const char *isa_name(Isa isa);

// What the kernels of the processor have in common.
class Kernel : public Evaluator {
 public:
  Memory memory() const final { return Memory::HOST; }
};

// Members must agree in elements. Null, with a line of reason, if there is no kernel for this kind of model
// or one of its options: TorchScript evaluates it then. Throws if the input contradicts itself.
std::unique_ptr<Kernel> make_kernel(const std::vector<KernelInput> &members, Precision precision, Isa isa,
                                    std::string &reason);

// The same for a place by its name, which is returned as `name`: an instruction set, empty for the best one.
// In the library of CUDA kernels, a device: "cuda:0".
std::unique_ptr<Evaluator> make_evaluator_for(const std::vector<KernelInput> &members, Precision precision,
                                              const std::string &place, std::string &name,
                                              std::string &reason);

// Arguments and results of make_kernel, for one kind of models. The source of a kernel declares
// `static const KernelOfKind registered("acsf", make_acsf_kernel);` and is found by it.
using KernelFactory = std::unique_ptr<Kernel>(const std::vector<KernelInput> &members, Precision precision,
                                              Isa isa, std::string &reason);
struct KernelOfKind {
  KernelOfKind(const char *kind, KernelFactory *make);
};

}  // namespace nnpkit

#endif
