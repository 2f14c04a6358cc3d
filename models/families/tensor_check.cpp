#include "models/families/tensor_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "models/quote_text.h"

namespace heddle {

TensorView TensorCheck::expect(const std::string& name, std::initializer_list<std::int64_t> shape) {
  const std::string wanted = fmt::format("[{}]", fmt::join(shape, ", "));
  const TensorView view = store_.find(name);
  if (view.absent()) {
    throw bad_input(fmt::format("{}: tensor {} is missing, wanted shape {}", store_.source(),
                                quote_text(name), wanted));
  }
  const auto* dims = view.dims.data();
  if (!std::equal(shape.begin(), shape.end(), dims, dims + view.rank)) {
    throw bad_input(fmt::format("{}: tensor {}: shape is [{}], wanted {}", store_.source(),
                                quote_text(name), fmt::join(dims, dims + view.rank, ", "), wanted));
  }
  known_.insert(name);
  return view;
}

std::string TensorCheck::matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  expect(name, {rows, cols});
  return name;
}

std::string TensorCheck::vector(const std::string& name, std::int64_t n) {
  const TensorView view = expect(name, {n});
  if (info(view.dtype).quantised()) {
    throw bad_input(fmt::format("{}: tensor {}: dtype is {}, allowed: F32, F16", store_.source(),
                                quote_text(name), heddle::name(view.dtype)));
  }
  return name;
}

void TensorCheck::harmless(const std::string& name) {
  if (!store_.has(name)) return;
  store_.ignore(name);
  known_.insert(name);
}

void TensorCheck::finish(std::string_view family,
                         const std::function<std::string(std::string_view name)>& hint) const {
  std::size_t unknown = 0;
  std::string first;
  for (const StoredTensor& tensor : store_.tensors()) {
    if (known_.count(tensor.name) > 0) continue;
    if (unknown++ == 0) first = tensor.name;
  }
  if (unknown == 0) return;
  const std::string more = unknown > 1 ? fmt::format(" (and {} more)", unknown - 1) : "";
  const std::string why = hint(first);
  throw bad_input(fmt::format("{}: tensor {}{} has no place in family {} with this config{}",
                              store_.source(), quote_text(first), more, family,
                              why.empty() ? "" : ": " + why));
}

}  // namespace heddle
