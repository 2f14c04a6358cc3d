#include "models/weight_binder.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/half.h"
#include "models/quote_text.h"
#include "models/tensor_error.h"

namespace heddle {
namespace {

constexpr std::string_view kFinite = "finite ones";

float to_f32(const TensorView& v, std::int64_t i) {
  switch (v.dtype) {
    case DType::kF16:
      return f16_to_f32(v.as<std::uint16_t>()[i]);
    case DType::kBF16:
      return bf16_to_f32(v.as<std::uint16_t>()[i]);
    default:
      return v.as<float>()[i];
  }
}

}  // namespace

/// What is found is an error or, if the user says so, a warning.
void WeightBinder::judge(const TensorPart& part, const std::string& got, std::string_view allowed) {
  if (!allow_nonfinite_) {
    throw tensor_error(store_.source(), part.tensor, "weights", got,
                       fmt::format("{}; --allow-nonfinite loads it all the same", allowed));
  }
  warnings_.push_back(
      fmt::format("{}: tensor {}: weights, got {}", store_.source(), quote_text(part.tensor), got));
}

TensorView WeightBinder::require(const TensorPart& part,
                                 std::initializer_list<std::int64_t> usual,
                                 std::initializer_list<DType> dtypes) {
  const std::vector<std::int64_t>& own = part.shape;
  if (own.empty()) return store_.require(part.tensor, usual, dtypes);
  HEDDLE_CHECK(own.size() <= 3);
  if (own.size() == 1) return store_.require(part.tensor, {own[0]}, dtypes);
  if (own.size() == 2) return store_.require(part.tensor, {own[0], own[1]}, dtypes);
  return store_.require(part.tensor, {own[0], own[1], own[2]}, dtypes);
}

PackedMatrix WeightBinder::matrix(const TensorPart& part, std::int64_t cols) {
  TensorView view = require(part, {part.of_rows, cols}, {});
  const std::int64_t rows = part.picked_from == 0 ? part.rows : part.picked_from;
  HEDDLE_CHECK(part.first_row >= 0 && rows <= part.of_rows - part.first_row);
  const auto stride = static_cast<std::size_t>(row_bytes(view.dtype, cols));
  view.data = view.as<std::byte>() + static_cast<std::size_t>(part.first_row) * stride;
  view.rank = 2;
  view.dims = {rows, cols, 0, 0};
  NonFinite found;
  PackedMatrix packed =
      backend_.pack(view, part.row_order, [&](std::size_t begin, std::size_t end) {
        // Rows that were just read are in the cache.
        find_nonfinite(view, static_cast<std::int64_t>(begin / stride),
                       static_cast<std::int64_t>(end / stride), found);
        store_.release(view, begin, end);
      });
  if (found.count > 0) {
    found.row += part.first_row;
    judge(part, found.describe(), kFinite);
  }
  bytes_ += packed.data.bytes();
  return packed;
}

std::vector<float> WeightBinder::values(const TensorPart& part) {
  const TensorView view = require(part, {part.of_rows}, {DType::kF32, DType::kF16, DType::kBF16});
  HEDDLE_CHECK(part.first_row >= 0 && part.rows <= part.of_rows - part.first_row);
  std::vector<float> values(static_cast<std::size_t>(part.rows));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::int64_t at =
        part.row_order.empty() ? static_cast<std::int64_t>(i) : part.row_order[i];
    values[i] = to_f32(view, part.first_row + at) + part.add;
  }
  NonFinite found;
  find_nonfinite(TensorView(values.data(), DType::kF32, {1, part.rows}), 0, 1, found);
  if (found.count > 0) judge(part, found.describe(), kFinite);
  return values;
}

DeviceVector WeightBinder::vector(const TensorPart& part) {
  if (part.absent()) return {};
  return constant(values(part));
}

DeviceVector WeightBinder::vectors(const std::vector<TensorPart>& parts) {
  if (parts.empty()) return {};
  std::vector<float> all;
  for (const TensorPart& part : parts) {
    const std::vector<float> own = values(part);
    all.insert(all.end(), own.begin(), own.end());
  }
  return constant(all);
}

DeviceVector WeightBinder::norm(const TensorPart& part) {
  if (part.absent()) return {};
  const std::vector<float> weights = values(part);
  if (std::all_of(weights.begin(), weights.end(), [](float w) { return w == 0.0F; })) {
    judge(part, "a norm of zeros only", "norms that have others");
  }
  return constant(weights);
}

DeviceVector WeightBinder::constant(const std::vector<float>& values) {
  const std::size_t n_bytes = values.size() * sizeof(float);
  DeviceVector vector;
  vector.data = backend_.allocate(n_bytes);
  vector.view = {
      vector.data.data(), DType::kF32, {static_cast<std::int64_t>(values.size())}, backend_.kind()};
  backend_.copy_to_device(vector.data.data(), values.data(), n_bytes);
  backend_.synchronize();
  bytes_ += n_bytes;
  return vector;
}

}  // namespace heddle
