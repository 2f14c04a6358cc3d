#pragma once
// Lengths and depths, as flags say them.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::needle {

inline constexpr std::int64_t kShortestLength = 64;
inline constexpr std::int64_t kLongestLength = std::int64_t{1} << 30;
inline constexpr std::size_t kMostLengths = 1000;
inline constexpr std::size_t kMostDepths = 1000;

/// "1k,2k,3000" or "1000..16000:35", so many lengths in even steps from the first to the last,
/// rounded. k is 1024, m 1024 * 1024. In rising order, each once. Throws kBadInput.
std::vector<std::int64_t> read_lengths(const std::string& text);
/// 1k, 2k, 4k, ... as far as the context goes; the context itself where it is below 1k.
std::vector<std::int64_t> default_lengths(std::int64_t context);

/// "11": so many from 0 to 100, in even steps or, by `sigmoid`, along 100 / (1 + e^(-0.1 (x - 50)))
/// at even x, with three decimals (Kamradt's two spacings); one is 50. "0,50,100" (or "25,"):
/// those, in percent. In rising order, each once. Throws kBadInput.
std::vector<double> read_depths(const std::string& text, bool sigmoid);

/// "4k" for multiples of 1024, else the digits.
std::string length_text(std::int64_t length);

}  // namespace heddle::needle
