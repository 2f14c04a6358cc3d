#pragma once
#include <fmt/format.h>

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace heddle {

/// Throws kBadInput naming the field, its value and its range, ends included.
inline void require_between(std::string_view what,
                            std::int64_t value,
                            std::int64_t low,
                            std::int64_t high) {
  if (value < low || value > high) {
    throw bad_input(fmt::format("{} is {}, allowed: {} .. {}", what, value, low, high));
  }
}

}  // namespace heddle
