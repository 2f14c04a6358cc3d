#pragma once
// Generated tables behind unicode.h; private to unicode.cpp.

#include <cstdint>
#include <span>

namespace heddle::jinja {

struct CharRange {
  std::uint32_t first, last;
};
/// Code points first, first + stride, ... last map to themselves + delta.
struct CaseRange {
  std::uint32_t first, last, stride;
  std::int32_t delta;
};
/// A mapping to more than one code point; unused places are 0.
struct SpecialCase {
  std::uint32_t from, to[3];
};

struct UnicodeTables {
  std::span<const CharRange> alpha, digit, decimal, numeric, unprintable, cased, ignorable, upper,
      lower;
  std::span<const CaseRange> to_upper, to_lower, to_title;
  std::span<const SpecialCase> special_upper, special_lower, special_title;
};

extern const UnicodeTables kUnicode;

}  // namespace heddle::jinja
