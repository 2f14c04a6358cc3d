#pragma once
// Takes tensors out of a WeightStore into the backend's memory: matrices packed, vectors as f32.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "models/checkpoint.h"
#include "models/finite_check.h"
#include "models/weight_store.h"

namespace heddle {

/// [n] f32 on the device, or nothing: then `view` is absent.
struct DeviceVector {
  Buffer data;
  TensorView view;
};

/// Refuses tensors that hold NaN, infinities or, where a norm's weights are all zero, no signal at
/// all (kBadInput, with the tensor's name and the count); with `allow_nonfinite` warnings() tells
/// instead.
class WeightBinder {
 public:
  WeightBinder(WeightStore& store, Backend& backend, bool allow_nonfinite = false)
      : store_(store), backend_(backend), allow_nonfinite_(allow_nonfinite) {}

  /// [part.rows, cols], any dtype the backend packs. Values are looked at as they are packed.
  PackedMatrix matrix(const TensorPart& part, std::int64_t cols);
  /// [part.rows] of F32, F16 or BF16, as f32 on the device. An absent part gives nothing.
  DeviceVector vector(const TensorPart& part);
  /// Several vectors of one length, one after the other. No parts give nothing.
  DeviceVector vectors(const std::vector<TensorPart>& parts);
  /// The same for the weights of a norm.
  DeviceVector norm(const TensorPart& part);
  /// f32 values of our own (rotary frequencies).
  DeviceVector constant(const std::vector<float>& values);

  std::uint64_t bytes() const { return bytes_; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  Backend& backend() const { return backend_; }

 private:
  TensorView require(const TensorPart& part,
                     std::initializer_list<std::int64_t> usual,
                     std::initializer_list<DType> dtypes);
  std::vector<float> values(const TensorPart& part);
  void judge(const TensorPart& part, const std::string& got, std::string_view allowed);

  WeightStore& store_;
  Backend& backend_;
  bool allow_nonfinite_ = false;
  std::vector<std::string> warnings_;
  std::uint64_t bytes_ = 0;
};

}  // namespace heddle
