#pragma once
#include <cstdint>
#include <string_view>

#include "base/buffer.h"
#include "base/dtype.h"

namespace heddle {

/// How the bytes of a PackedMatrix are laid out; each kernel variant wants exactly one.
enum class WeightLayout : std::uint8_t {
  /// The checkpoint's rows as they are, row after row. Read by `ref`.
  kRows,
  /// CPU: groups of 16 rows interleaved, one 32-bit lane per row; kernels/cpu/pack.h has the map.
  kRows16,
};

/// A weight matrix [n_rows, n_cols] (out features x in features) in the layout that one kernel
/// variant wants. Made once by Backend::pack at load; immutable.
struct PackedMatrix {
  Buffer data;
  std::int64_t n_rows = 0;
  std::int64_t n_cols = 0;
  DType dtype = DType::kF32;  // element type of the checkpoint
  WeightLayout layout = WeightLayout::kRows;
};

}  // namespace heddle
