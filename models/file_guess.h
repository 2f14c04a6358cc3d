#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace heddle {

/// What a file that is not what it was taken for most likely is ("a Git LFS pointer (...)", "a
/// Python pickle (...)"), told by its first bytes; "" if nothing is known.
std::string guess_file(std::span<const std::byte> file);
/// The same for what should be binary: text counts as known then ("a JSON text", "a text").
std::string guess_binary_file(std::span<const std::byte> file);

}  // namespace heddle
