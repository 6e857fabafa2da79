#include "archive.h"

#include "pickle.h"
#include "zip.h"

#include <cstring>
#include <stdexcept>

namespace nnpkit {

namespace {

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error("no model file: " + what);
}

// Numbers of one type in a storage, as double.
template <typename T>
double number_at(const char *data, int64_t index) {
  T value;
  std::memcpy(&value, data + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return static_cast<double>(value);
}

struct NumberType {
  const char *storage;  // its name in the pickle
  int64_t size;
  bool floating;
  double (*read)(const char *, int64_t);
};
const NumberType NUMBER_TYPES[] = {{"torch DoubleStorage", 8, true, number_at<double>},
                                   {"torch FloatStorage", 4, true, number_at<float>},
                                   {"torch LongStorage", 8, false, number_at<int64_t>},
                                   {"torch IntStorage", 4, false, number_at<int32_t>},
                                   {"torch BoolStorage", 1, false, number_at<uint8_t>}};

// The numbers of a view into a storage, in the order of its indices.
StoredTensor copy(const TensorView &view, const Zip &zip, const std::string &root) {
  const NumberType *type = nullptr;
  for (const NumberType &known : NUMBER_TYPES)
    if (view.storage_type == known.storage) type = &known;
  if (!type) fail("numbers of the unknown type " + view.storage_type);
  const ZipEntry data = zip.at(root + "data/" + view.storage);
  const int64_t available = static_cast<int64_t>(data.size) / type->size;
  int64_t n = 1;
  for (const int64_t extent : view.shape) {
    if (extent < 0 || (extent > 0 && n > available / extent)) fail("a tensor is larger than its storage");
    n *= extent;
  }
  StoredTensor tensor{{view.shape, std::vector<double>(static_cast<size_t>(n))}, type->floating};
  std::vector<int64_t> index(view.shape.size(), 0);
  for (int64_t k = 0; k < n; k++) {
    int64_t at = view.offset;
    for (size_t d = 0; d < index.size(); d++) {
      if (view.strides[d] < 0 || view.strides[d] > available)
        fail("a tensor with strides that make no sense");
      at += index[d] * view.strides[d];
      if (at < 0 || at >= available) fail("a tensor reaches beyond its storage");
    }
    if (at < 0 || at >= available) fail("a tensor reaches beyond its storage");
    tensor.array.values[k] = type->read(data.data, at);
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < view.shape[d]) break;
      index[d] = 0;
    }
  }
  return tensor;
}

}  // namespace

Archive read_archive(const std::string &bytes) {
  const Zip zip(bytes);
  const std::string root = zip.root();
  if (zip.has(root + "byteorder") && zip.text(root + "byteorder") != "little")
    fail("its numbers are in the byte order of another kind of processor");
  Archive archive;
  archive.metadata = zip.text(root + "extra/metadata.json");
  for (const auto &[name, view] : tensors_of_pickle(zip.text(root + "data.pkl")))
    archive.tensors.emplace(name, copy(view, zip, root));
  return archive;
}

}  // namespace nnpkit
