// The tensors that data.pkl of a TorchScript archive names. Nothing of the pickle is executed.

#ifndef NNPKIT_PICKLE_H
#define NNPKIT_PICKLE_H

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nnpkit {

// Where the numbers of a tensor are: element (i, j) at offset + i * strides[0] + j * strides[1] of a storage.
struct TensorView {
  std::string storage_type, storage;  // "torch DoubleStorage", name of the file that holds it
  int64_t offset = 0;
  std::vector<int64_t> shape, strides;
};

// By their names in the module and its submodules, "model.scaling.shift". Throws std::runtime_error.
std::map<std::string, TensorView> tensors_of_pickle(const std::string &bytes);

}  // namespace nnpkit

#endif
