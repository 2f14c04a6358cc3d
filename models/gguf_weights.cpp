#include "models/gguf_weights.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/quote_text.h"

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

std::string dims_text(const std::int64_t* dims, std::size_t rank) {
  return fmt::format("[{}]", fmt::join(dims, dims + rank, ", "));
}

}  // namespace

std::unique_ptr<GgufWeights> GgufWeights::open(const std::string& path) {
  MappedFile file(path);
  GgufDirectory directory = GgufDirectory::parse(
      file.bytes(), path,
      [&file](std::size_t begin, std::size_t end) { file.release(begin, end - begin); });
  return std::unique_ptr<GgufWeights>(new GgufWeights(std::move(file), std::move(directory)));
}

std::unique_ptr<GgufWeights> GgufWeights::over(std::span<const std::byte> bytes,
                                               const std::string& source) {
  return std::unique_ptr<GgufWeights>(
      new GgufWeights(std::nullopt, GgufDirectory::parse(bytes, source)));
}

GgufWeights::GgufWeights(std::optional<MappedFile> file, GgufDirectory directory)
    : file_(std::move(file)), directory_(std::move(directory)) {
  tensors_.reserve(directory_.tensors().size());
  for (const GgufTensor& tensor : directory_.tensors()) {
    tensors_.push_back({std::string(tensor.name), view_of(tensor, directory_.bytes().data())});
  }
  bound_.resize(tensors_.size(), false);
}

std::optional<std::size_t> GgufWeights::index(std::string_view name) const {
  const GgufTensor* tensor = directory_.find_tensor(name);
  if (tensor == nullptr) return std::nullopt;
  return static_cast<std::size_t>(tensor - directory_.tensors().data());
}

TensorView GgufWeights::require(std::string_view name,
                                std::initializer_list<std::int64_t> shape,
                                std::initializer_list<DType> dtypes) {
  const std::string wanted = dims_text(shape.begin(), shape.size());
  const std::optional<std::size_t> at = index(name);
  if (!at) {
    throw bad_input(fmt::format("{}: tensor {} is missing, wanted shape {}", source(),
                                quote_text(name), wanted));
  }
  const TensorView& view = tensors_[*at].view;
  if (!std::equal(shape.begin(), shape.end(), view.dims.begin(), view.dims.begin() + view.rank)) {
    throw bad_input(fmt::format("{}: tensor {}: shape is {}, wanted {}", source(), quote_text(name),
                                dims_text(view.dims.data(), static_cast<std::size_t>(view.rank)),
                                wanted));
  }
  if (dtypes.size() > 0 && std::find(dtypes.begin(), dtypes.end(), view.dtype) == dtypes.end()) {
    std::string allowed;
    for (const DType dtype : dtypes) {
      if (!allowed.empty()) allowed += ", ";
      allowed += heddle::name(dtype);
    }
    throw bad_input(fmt::format("{}: tensor {}: dtype is {}, allowed: {}", source(),
                                quote_text(name), heddle::name(view.dtype), allowed));
  }
  bound_[*at] = true;
  return view;
}

bool GgufWeights::has(std::string_view name) const {
  return index(name).has_value();
}

TensorView GgufWeights::find(std::string_view name) const {
  const std::optional<std::size_t> at = index(name);
  return at ? tensors_[*at].view : TensorView();
}

void GgufWeights::ignore(std::string_view name) {
  if (const std::optional<std::size_t> at = index(name)) bound_[*at] = true;
}

void GgufWeights::release(const TensorView& view, std::size_t begin, std::size_t end) {
  if (!file_ || begin >= end) return;
  const auto offset =
      static_cast<std::size_t>(static_cast<const std::byte*>(view.data) - file_->bytes().data());
  HEDDLE_CHECK(offset <= file_->bytes().size() && end <= file_->bytes().size() - offset);
  // Down to the page's start: a page that two calls share is complete only at the second one, and
  // whoever still needs its first part reads it again.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t from = (offset + begin) / page * page;
  file_->release(from, offset + end - from);
}

void GgufWeights::check_all_bound() const {
  constexpr std::size_t kNamed = 4;
  std::string names;
  std::size_t n = 0;
  for (std::size_t i = 0; i < bound_.size(); ++i) {
    if (bound_[i]) continue;
    if (n < kNamed) names += (n == 0 ? "" : ", ") + quote_text(tensors_[i].name);
    ++n;
  }
  if (n == 0) return;
  if (n > kNamed) names += fmt::format(" and {} more", n - kNamed);
  throw bad_input(fmt::format("{}: tensors that no part of the model uses: {}", source(), names));
}

}  // namespace heddle
