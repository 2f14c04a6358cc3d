#pragma once
// Typed reading of GGUF metadata: a value is given out only if its kind, range and length are what
// the caller asked for.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "models/gguf.h"

namespace heddle {

/// Inclusive bounds of a number.
struct IntegerRange {
  std::int64_t least = 0;
  std::int64_t most = 0;
};

/// Views a directory (which must outlive it). Every error is kBadInput and reads
/// "FILE: AREA: KEY, got X, allowed Y".
class GgufKeys {
 public:
  GgufKeys(const GgufDirectory& directory, std::string area)
      : directory_(directory), area_(std::move(area)) {}

  bool has(std::string_view key) const { return directory_.find(key) != nullptr; }
  std::optional<std::int64_t> integer(std::string_view key, IntegerRange range) const;
  std::int64_t require_integer(std::string_view key, IntegerRange range) const;
  /// An integer, or an array of equal ones (some writers state per layer what is the same in all).
  std::optional<std::int64_t> uniform_integer(std::string_view key, IntegerRange range) const;
  std::optional<double> real(std::string_view key) const;  // f32 or f64; finite
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> text(std::string_view key) const;
  std::optional<std::vector<std::string>> texts(std::string_view key) const;
  /// An array of integers that fit 32 bits.
  std::optional<std::vector<std::int32_t>> integers(std::string_view key) const;
  std::optional<std::vector<float>> reals(std::string_view key) const;  // an array of f32
  /// Number of elements, if `key` is an array of `element`.
  std::optional<std::uint64_t> array_length(std::string_view key, GgufKind element) const;

  Error error(std::string_view key, std::string_view got, std::string_view allowed) const;
  /// `allowed`: what it may be, "" where the key's name says it.
  Error missing(std::string_view key, std::string_view allowed = "") const;

 private:
  const GgufEntry* expect_array(std::string_view key, std::string_view allowed) const;

  const GgufDirectory& directory_;
  std::string area_;
};

}  // namespace heddle
