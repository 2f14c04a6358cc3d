#include "models/weight_binder.h"

#include "base/half.h"

namespace heddle {
namespace {

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

PackedMatrix WeightBinder::matrix(const TensorPart& part, std::int64_t cols) {
  TensorView view = store_.require(part.tensor, {part.of_rows, cols});
  HEDDLE_CHECK(part.first_row >= 0 && part.rows <= part.of_rows - part.first_row);
  view.data = view.as<std::byte>() + part.first_row * row_bytes(view.dtype, cols);
  view.dims[0] = part.rows;
  PackedMatrix packed =
      backend_.pack(view, part.row_order,
                    [&](std::size_t begin, std::size_t end) { store_.release(view, begin, end); });
  bytes_ += packed.data.bytes();
  return packed;
}

DeviceVector WeightBinder::vector(const TensorPart& part) {
  if (part.absent()) return {};
  const TensorView view =
      store_.require(part.tensor, {part.of_rows}, {DType::kF32, DType::kF16, DType::kBF16});
  HEDDLE_CHECK(part.first_row >= 0 && part.rows <= part.of_rows - part.first_row);
  std::vector<float> values(static_cast<std::size_t>(part.rows));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::int64_t at =
        part.row_order.empty() ? static_cast<std::int64_t>(i) : part.row_order[i];
    values[i] = to_f32(view, part.first_row + at) + part.add;
  }
  return constant(values);
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
