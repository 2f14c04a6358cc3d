#include "models/tensor_table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tensor_error.h"

namespace heddle {
namespace {

std::string dims_text(const std::int64_t* dims, std::size_t rank) {
  return fmt::format("[{}]", fmt::join(dims, dims + rank, ", "));
}

}  // namespace

StoredTensor stored_tensor(std::string name,
                           std::string_view dtype_name,
                           std::optional<DType> dtype,
                           std::span<const std::int64_t> dims,
                           std::span<const std::byte> bytes) {
  constexpr std::size_t kMost = TensorView::kMaxRank;
  StoredTensor out;
  out.name = std::move(name);
  const bool foreign = !dtype || dims.size() > kMost;
  out.view = TensorView(bytes.data(), dtype.value_or(DType::kU8), {});
  if (foreign) {
    out.foreign =
        dtype ? fmt::format("{} of rank {}", dtype_name, dims.size()) : std::string(dtype_name);
    out.view = TensorView(bytes.data(), DType::kU8, {static_cast<std::int64_t>(bytes.size())});
    if (dtype_name != "U8" || dims.empty() || dims.size() > kMost) return out;
  }
  out.view.rank = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), out.view.dims.begin());
  return out;
}

std::span<const std::byte> TensorTable::keep(MappedFile file) {
  files_.push_back(std::move(file));
  return files_.back().bytes();
}

void TensorTable::add(StoredTensor tensor) {
  const bool is_new = by_name_.emplace(tensor.name, tensors_.size()).second;
  HEDDLE_CHECK(is_new);
  tensors_.push_back(std::move(tensor));
  bound_.push_back(false);
}

std::optional<std::size_t> TensorTable::index(std::string_view name) const {
  const auto at = by_name_.find(std::string(name));
  if (at == by_name_.end()) return std::nullopt;
  return at->second;
}

const StoredTensor& TensorTable::readable(std::size_t at) const {
  const StoredTensor& tensor = tensors_[at];
  if (!tensor.foreign.empty()) {
    throw tensor_error(source_, tensor.name, "dtype", tensor.foreign, "F32, F16, BF16");
  }
  return tensor;
}

TensorView TensorTable::require(std::string_view name,
                                std::initializer_list<std::int64_t> shape,
                                std::initializer_list<DType> dtypes) {
  const std::string wanted = dims_text(shape.begin(), shape.size());
  const std::optional<std::size_t> at = index(name);
  if (!at) throw tensor_missing(source_, name, wanted);
  const TensorView& view = readable(*at).view;
  if (!std::equal(shape.begin(), shape.end(), view.dims.begin(), view.dims.begin() + view.rank)) {
    throw tensor_error(source_, name, "shape",
                       dims_text(view.dims.data(), static_cast<std::size_t>(view.rank)), wanted);
  }
  if (dtypes.size() > 0 && std::find(dtypes.begin(), dtypes.end(), view.dtype) == dtypes.end()) {
    std::string allowed;
    for (const DType dtype : dtypes) {
      if (!allowed.empty()) allowed += ", ";
      allowed += heddle::name(dtype);
    }
    throw tensor_error(source_, name, "dtype", heddle::name(view.dtype), allowed);
  }
  bound_[*at] = true;
  return aligned(view);
}

/// Safetensors does not promise that numbers lie at multiples of their size, and kernels need it.
TensorView TensorTable::aligned(const TensorView& view) {
  if (info(view.dtype).quantised()) return view;
  const auto size = static_cast<std::uintptr_t>(info(view.dtype).block_bytes);
  if (reinterpret_cast<std::uintptr_t>(view.data) % size == 0) return view;
  const auto* const bytes = view.as<std::byte>();
  TensorView copy = view;
  copies_.emplace_back(bytes, bytes + view.bytes());
  copy.data = copies_.back().data();
  return copy;
}

TensorView TensorTable::find(std::string_view name) const {
  const std::optional<std::size_t> at = index(name);
  return at ? readable(*at).view : TensorView();
}

void TensorTable::ignore(std::string_view name) {
  if (const std::optional<std::size_t> at = index(name)) bound_[*at] = true;
}

void TensorTable::release(const TensorView& view, std::size_t begin, std::size_t end) {
  if (begin >= end) return;
  const auto data = reinterpret_cast<std::uintptr_t>(view.data);
  for (const MappedFile& file : files_) {
    const auto first = reinterpret_cast<std::uintptr_t>(file.bytes().data());
    if (data < first || data - first >= file.bytes().size()) continue;
    const std::size_t offset = data - first;
    HEDDLE_CHECK(end <= file.bytes().size() - offset);
    // Down to the page's start: a page that two calls share is complete only at the second one, and
    // whoever still needs its first part reads it again.
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t from = (offset + begin) / page * page;
    file.release(from, offset + end - from);
    return;
  }
}

void TensorTable::check_all_bound() const {
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
  throw bad_input(fmt::format("{}: tensors that no part of the model uses: {}", source_, names));
}

}  // namespace heddle
