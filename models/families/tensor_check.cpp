#include "models/families/tensor_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/tensor_error.h"

namespace heddle {

namespace {

/// What a tensor without a place may be.
std::string_view hint(std::string_view name) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (has("_exps") || has("ffn_gate_inp") || has(".experts.") || has("block_sparse_moe")) {
    return "this family, or its config, has no experts";
  }
  if (has("lora_")) return "adapters are not read";
  if (name.ends_with("bias")) return "this family has no such bias";
  return "";
}

}  // namespace

TensorView TensorCheck::expect(const std::string& name, std::initializer_list<std::int64_t> shape) {
  const std::string wanted = fmt::format("[{}]", fmt::join(shape, ", "));
  const TensorView view = store_.expect(name, shape);
  if (view.absent()) throw tensor_missing(store_.source(), name, wanted);
  const auto* dims = view.dims.data();
  if (!std::equal(shape.begin(), shape.end(), dims, dims + view.rank)) {
    throw tensor_error(store_.source(), name, "shape",
                       fmt::format("[{}]", fmt::join(dims, dims + view.rank, ", ")), wanted);
  }
  known_.insert(name);
  return view;
}

TensorPart TensorCheck::matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
  return this->rows(name, rows, cols, 0, rows);
}

TensorPart TensorCheck::rows(const std::string& name,
                             std::int64_t of_rows,
                             std::int64_t cols,
                             std::int64_t first,
                             std::int64_t rows) {
  expect(name, {of_rows, cols});
  TensorPart part;
  part.tensor = name;
  part.rows = rows;
  part.first_row = first;
  part.of_rows = of_rows;
  return part;
}

std::vector<TensorPart> TensorCheck::stacked(const std::string& name,
                                             std::int64_t n,
                                             std::int64_t rows,
                                             std::int64_t cols) {
  expect(name, {n, rows, cols});
  std::vector<TensorPart> parts;
  for (std::int64_t i = 0; i < n; ++i) {
    TensorPart part;
    part.tensor = name;
    part.shape = {n, rows, cols};
    part.rows = rows;
    part.first_row = i * rows;
    part.of_rows = n * rows;
    parts.push_back(std::move(part));
  }
  return parts;
}

TensorPart TensorCheck::flat(const std::string& name, std::initializer_list<std::int64_t> shape) {
  const TensorView view = expect(name, shape);
  require_plain(name, view);
  TensorPart part;
  part.tensor = name;
  part.shape = shape;
  part.rows = part.of_rows = view.elements();
  return part;
}

TensorPart TensorCheck::row(const std::string& name, std::int64_t cols) {
  expect(name, {cols});
  TensorPart part;
  part.tensor = name;
  part.shape = {cols};
  part.rows = part.of_rows = 1;
  return part;
}

TensorPart TensorCheck::picked(const std::string& name,
                               std::int64_t of_rows,
                               std::int64_t cols,
                               std::vector<std::int32_t> row_order) {
  expect(name, {of_rows, cols});
  TensorPart part;
  part.tensor = name;
  part.rows = static_cast<std::int64_t>(row_order.size());
  part.of_rows = part.picked_from = of_rows;
  part.row_order = std::move(row_order);
  return part;
}

/// A vector's numbers are read one by one.
void TensorCheck::require_plain(const std::string& name, const TensorView& view) const {
  if (!info(view.dtype).quantised()) return;
  throw tensor_error(store_.source(), name, "dtype", heddle::name(view.dtype), "F32, F16, BF16");
}

TensorPart TensorCheck::vector(const std::string& name, std::int64_t n, float add) {
  require_plain(name, expect(name, {n}));
  TensorPart part;
  part.tensor = name;
  part.rows = n;
  part.of_rows = n;
  part.add = add;
  return part;
}

void TensorCheck::harmless(const std::string& name) {
  if (!store_.has(name)) return;
  store_.ignore(name);
  known_.insert(name);
}

void TensorCheck::finish(std::string_view family) const {
  std::size_t unknown = 0;
  std::string first;
  for (const StoredTensor& tensor : store_.tensors()) {
    if (known_.count(tensor.name) > 0) continue;
    if (unknown++ == 0) first = tensor.name;
  }
  if (unknown == 0) return;
  const std::string more = unknown > 1 ? fmt::format(" (and {} more like it)", unknown - 1) : "";
  const std::string why(hint(first));
  throw tensor_error(
      store_.source(), first, "place",
      fmt::format("one that has no place in family {} with this config{}", family, more),
      "tensors that the family reads" + (why.empty() ? "" : ": " + why));
}

}  // namespace heddle
