#pragma once
// Takes tensors out of a WeightStore into the backend's memory: matrices packed, vectors as f32.

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "models/checkpoint.h"
#include "models/weight_store.h"

namespace heddle {

/// [n] f32 on the device, or nothing: then `view` is absent.
struct DeviceVector {
  Buffer data;
  TensorView view;
};

class WeightBinder {
 public:
  WeightBinder(WeightStore& store, Backend& backend) : store_(store), backend_(backend) {}

  /// [part.rows, cols], any dtype the backend packs.
  PackedMatrix matrix(const TensorPart& part, std::int64_t cols);
  /// [part.rows] of F32, F16 or BF16, as f32 on the device. An absent part gives nothing.
  DeviceVector vector(const TensorPart& part);
  /// f32 values of our own (rotary frequencies).
  DeviceVector constant(const std::vector<float>& values);

  std::uint64_t bytes() const { return bytes_; }
  Backend& backend() const { return backend_; }

 private:
  WeightStore& store_;
  Backend& backend_;
  std::uint64_t bytes_ = 0;
};

}  // namespace heddle
