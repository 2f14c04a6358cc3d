#pragma once
// What the fuzz targets of files share.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string_view>

#include "base/error.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace heddle::fuzz {

inline void require(bool condition) {
  if (!condition) std::abort();
}

/// Whether the call returned; else it threw an Error of one line about the source "x".
template <typename Call>
bool only_our_errors(const Call& call) {
  try {
    call();
    return true;
  } catch (const Error& error) {
    const std::string_view text = error.what();
    require(text.substr(0, 3) == "x: " && text.find('\n') == std::string_view::npos);
    return false;
  }
}

using Rng = std::mt19937;

inline std::size_t pick(Rng& rng, std::size_t n) {
  return rng() % n;
}

/// What a mutator returns: `file` in the place of the input, or where it has no room, bytes
/// changed.
inline std::size_t replace_input(std::uint8_t* data,
                                 std::size_t size,
                                 std::size_t max_size,
                                 std::string_view file) {
  if (file.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, file.data(), file.size());
  return file.size();
}

}  // namespace heddle::fuzz
