#pragma once
// A typed window into memory that somebody else owns.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/dtype.h"
#include "base/error.h"

namespace heddle {

enum class DeviceKind : std::uint8_t { kCpu, kCuda };

/// Pointer, shape, dtype, device; rows are dense (row-major, no gaps). Copyable, never owns, never
/// allocates. A default view is "absent" (optional arguments of ops).
struct TensorView {
  static constexpr int kMaxRank = 4;

  void* data = nullptr;
  std::array<std::int64_t, kMaxRank> dims = {0, 0, 0, 0};
  int rank = 0;
  DType dtype = DType::kF32;
  DeviceKind device = DeviceKind::kCpu;

  TensorView() = default;
  TensorView(const void* pointer,
             DType type,
             std::initializer_list<std::int64_t> shape,
             DeviceKind where = DeviceKind::kCpu)
      : data(const_cast<void*>(pointer)), dtype(type), device(where) {
    HEDDLE_CHECK(shape.size() <= kMaxRank);
    for (const std::int64_t d : shape) dims[static_cast<std::size_t>(rank++)] = d;
  }

  bool absent() const { return data == nullptr; }
  std::int64_t dim(int i) const { return dims[static_cast<std::size_t>(i)]; }
  std::int64_t elements() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[static_cast<std::size_t>(i)];
    return n;
  }
  std::int64_t bytes() const { return row_bytes(dtype, elements()); }
  /// The first `n` rows of the outermost dimension.
  TensorView first(std::int64_t n) const {
    TensorView v = *this;
    HEDDLE_CHECK(rank > 0 && n >= 0 && n <= dims[0]);
    v.dims[0] = n;
    return v;
  }

  /// The same memory as [dim 0, all the rest].
  TensorView matrix() const {
    TensorView v = *this;
    HEDDLE_CHECK(rank > 0);
    v.dims = {dims[0], dims[0] == 0 ? 0 : elements() / dims[0], 0, 0};
    v.rank = 2;
    return v;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

std::string shape_text(const TensorView& view);  // "[576, 1536] F32"

}  // namespace heddle
