#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace heddle::serve {

/// Reads one of a few literal texts, a byte at a time. All begin with the same byte, which is
/// nowhere else in them, and none begins another: where a byte does not fit, a new text can only
/// begin with that byte itself. Empty ones are left out. The texts must outlive it. A value.
class MarkerMatcher {
 public:
  static constexpr std::size_t kMost = 4;
  enum class Step { kMore, kMatch, kNone };

  MarkerMatcher() = default;
  explicit MarkerMatcher(std::array<std::string_view, kMost> markers) : markers_(markers) {}

  bool begins_with(char c) const {
    for (const std::string_view marker : markers_) {
      if (!marker.empty() && marker.front() == c) return true;
    }
    return false;
  }

  Step step(char c) {
    Step result = Step::kNone;
    for (std::string_view& marker : markers_) {
      if (marker.empty()) continue;
      if (marker[n_read_] != c) {
        marker = {};
        continue;
      }
      last_ = marker;
      result = marker.size() == n_read_ + 1 ? Step::kMatch : Step::kMore;
    }
    if (result != Step::kNone) ++n_read_;
    return result;
  }

  /// What has been read.
  std::string_view read() const { return last_.substr(0, n_read_); }

 private:
  std::array<std::string_view, kMost> markers_ = {};
  std::string_view last_ = {};
  std::size_t n_read_ = 0;
};

}  // namespace heddle::serve
