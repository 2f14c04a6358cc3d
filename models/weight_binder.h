#pragma once
// Takes tensors out of a WeightStore into the backend's memory: matrices packed, vectors as f32.

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "models/weight_store.h"

namespace heddle {

class WeightBinder {
 public:
  WeightBinder(WeightStore& store, Backend& backend) : store_(store), backend_(backend) {}

  /// [rows, cols], any dtype the backend packs; see Backend::pack for row_order.
  PackedMatrix matrix(std::string_view name,
                      std::int64_t rows,
                      std::int64_t cols,
                      const std::vector<std::int32_t>& row_order = {});
  /// [n] of F32, F16 or BF16, as f32 on the device.
  Buffer vector(std::string_view name, std::int64_t n);
  /// f32 values of our own (rotary frequencies).
  Buffer constant(const std::vector<float>& values);

  std::uint64_t bytes() const { return bytes_; }
  Backend& backend() const { return backend_; }

 private:
  WeightStore& store_;
  Backend& backend_;
  std::uint64_t bytes_ = 0;
};

}  // namespace heddle
