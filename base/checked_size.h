#pragma once
// Arithmetic on sizes that come from files and requests: every step can fail, none can wrap.

#include <cstdint>
#include <optional>

namespace heddle {

using CheckedSize = std::optional<std::uint64_t>;

inline CheckedSize checked_add(CheckedSize a, CheckedSize b) {
  std::uint64_t r = 0;
  if (!a || !b || __builtin_add_overflow(*a, *b, &r)) return std::nullopt;
  return r;
}

inline CheckedSize checked_mul(CheckedSize a, CheckedSize b) {
  std::uint64_t r = 0;
  if (!a || !b || __builtin_mul_overflow(*a, *b, &r)) return std::nullopt;
  return r;
}

/// Next multiple of `alignment` (a power of two, else nullopt).
inline CheckedSize checked_align_up(CheckedSize a, std::uint64_t alignment) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) return std::nullopt;
  const CheckedSize r = checked_add(a, alignment - 1);
  if (!r) return std::nullopt;
  return *r & ~(alignment - 1);
}

}  // namespace heddle
