#pragma once
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace heddle {

/// A set of tokens of a vocabulary: a bit each. A value.
class TokenMask {
 public:
  explicit TokenMask(std::int64_t vocab = 0)
      : vocab_(vocab), words_(static_cast<std::size_t>((vocab + 63) / 64), 0) {}

  std::int64_t vocab() const { return vocab_; }
  bool test(std::int32_t token) const {
    return (words_[word(token)] >> (static_cast<std::uint32_t>(token) % 64U) & 1U) != 0;
  }
  void set(std::int32_t token) { words_[word(token)] |= bit(token); }
  void reset(std::int32_t token) { words_[word(token)] &= ~bit(token); }
  std::size_t count() const {
    std::size_t n = 0;
    for (const std::uint64_t w : words_) n += static_cast<std::size_t>(std::popcount(w));
    return n;
  }
  bool none() const {
    return std::all_of(words_.begin(), words_.end(), [](std::uint64_t w) { return w == 0; });
  }
  std::size_t memory_bytes() const { return words_.size() * sizeof(std::uint64_t); }
  bool operator==(const TokenMask&) const = default;

 private:
  static std::size_t word(std::int32_t token) { return static_cast<std::size_t>(token) / 64; }
  static std::uint64_t bit(std::int32_t token) {
    return std::uint64_t{1} << (static_cast<std::uint32_t>(token) % 64U);
  }

  std::int64_t vocab_;
  std::vector<std::uint64_t> words_;
};

}  // namespace heddle
