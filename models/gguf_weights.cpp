#include "models/gguf_weights.h"

#include <utility>

namespace heddle {
namespace {

TensorView view_of(const GgufTensor& tensor, const std::byte* base) {
  TensorView view;
  view.data = const_cast<std::byte*>(base + tensor.offset);
  view.dims = tensor.dims;
  view.rank = tensor.rank;
  view.dtype = tensor.dtype;
  return view;
}

}  // namespace

std::unique_ptr<GgufWeights> GgufWeights::open(const std::string& path) {
  return from(MappedFile(path));
}

std::unique_ptr<GgufWeights> GgufWeights::open(const Folder& folder, const std::string& name) {
  return from(folder.map(name, "shard_path"));
}

std::unique_ptr<GgufWeights> GgufWeights::from(MappedFile file) {
  GgufDirectory directory = GgufDirectory::parse(
      file.bytes(), file.path(),
      [&file](std::size_t begin, std::size_t end) { file.release(begin, end - begin); });
  std::unique_ptr<GgufWeights> weights(new GgufWeights(std::move(directory)));
  weights->keep(std::move(file));
  return weights;
}

std::unique_ptr<GgufWeights> GgufWeights::over(std::span<const std::byte> bytes,
                                               const std::string& source) {
  return std::unique_ptr<GgufWeights>(new GgufWeights(GgufDirectory::parse(bytes, source)));
}

GgufWeights::GgufWeights(GgufDirectory directory)
    : TensorTable(directory.source()), directory_(std::move(directory)) {
  for (const GgufTensor& tensor : directory_.tensors()) {
    add({std::string(tensor.name), view_of(tensor, directory_.bytes().data()), ""});
  }
}

}  // namespace heddle
