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

PackedMatrix WeightBinder::matrix(std::string_view name,
                                  std::int64_t rows,
                                  std::int64_t cols,
                                  const std::vector<std::int32_t>& row_order) {
  const TensorView view = store_.require(name, {rows, cols});
  PackedMatrix packed = backend_.pack(view, row_order, [&](std::size_t begin, std::size_t end) {
    store_.release(view, begin, end);
  });
  bytes_ += packed.data.bytes();
  return packed;
}

Buffer WeightBinder::vector(std::string_view name, std::int64_t n) {
  const TensorView view = store_.require(name, {n}, {DType::kF32, DType::kF16, DType::kBF16});
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = to_f32(view, i);
  return constant(values);
}

Buffer WeightBinder::constant(const std::vector<float>& values) {
  const std::size_t n_bytes = values.size() * sizeof(float);
  Buffer buffer = backend_.allocate(n_bytes);
  backend_.copy_to_device(buffer.data(), values.data(), n_bytes);
  backend_.synchronize();
  bytes_ += n_bytes;
  return buffer;
}

}  // namespace heddle
