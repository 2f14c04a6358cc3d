#pragma once
// Blocks of quantised rows, taken apart into plain numbers and put together again.

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/quant_formats.h"

namespace heddle::cpu {

/// The numbers of one block of one row; QuantFormat says which are used and what they mean.
struct QuantBlock {
  std::uint16_t d = 0;  // bits of f16
  std::uint16_t m = 0;  // likewise: m or dmin
  std::array<std::uint8_t, 16> scales = {};
  std::array<std::uint8_t, 16> mins = {};
  alignas(8) std::array<std::uint8_t, 256> quants = {};
};

/// From a checkpoint's block.
void read_checkpoint_block(DType dtype, const std::byte* from, QuantBlock& block);

/// Lane `lane` of a kRows16 block.
void read_lane(const QuantFormat& format, const std::byte* from, std::int64_t lane, QuantBlock& to);
void write_lane(const QuantFormat& format,
                const QuantBlock& block,
                std::byte* to,
                std::int64_t lane);

/// The weights. Exact in double; in float one rounding where there is a minimum, none elsewhere.
template <typename T>
void dequantise_block(const QuantFormat& format, const QuantBlock& block, T* out);

}  // namespace heddle::cpu
