#pragma once
#include <cstdint>
#include <string>

#include "base/tensor_view.h"

namespace heddle {

/// Where a tensor holds what is no number. One infinity in a matrix makes every logit of every
/// token one, so it is looked for when the matrix is packed.
struct NonFinite {
  std::uint64_t count = 0;  // values of plain types, blocks of quantised ones
  std::int64_t row = 0;     // of the first,
  std::int64_t column = 0;  // of a block: its first
  bool blocks = false;
  /// "3 values that are not finite (the first at row 2, column 5)"
  std::string describe() const;
};

/// Adds what rows [begin, end) of `matrix` [n_rows, n_cols] hold: NaN and infinities of plain
/// types; blocks of quantised types with a scale or minimum that is one, or so large that values of
/// the block are beyond f32. Integer tests only: some GB/s on one core.
void find_nonfinite(const TensorView& matrix,
                    std::int64_t begin,
                    std::int64_t end,
                    NonFinite& found);

}  // namespace heddle
