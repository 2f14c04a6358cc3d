#pragma once
// Which known name was meant by one with a slip of the finger.

#include <optional>
#include <span>
#include <string_view>

namespace heddle::cli {

/// The name that `typed` begins, or else the one fewest edits away (a letter more, less, other, or
/// two swapped): at most a third of its letters. The first of `names` where several are as near.
std::optional<std::string_view> similar_name(std::string_view typed,
                                             std::span<const std::string_view> names);

}  // namespace heddle::cli
