#pragma once
// Counts of values, as /metrics writes them.

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace heddle::serve {

/// Counts of values by upper bounds; for any thread, without a lock.
class Histogram {
 public:
  static constexpr std::size_t kMostBounds = 24;
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds) {}
  void observe(double value);
  void write(std::string& out, std::string_view name, std::string_view labels) const;

 private:
  std::span<const double> bounds_;  // static
  std::array<std::atomic<std::uint64_t>, kMostBounds + 1> counts_ = {};
  std::atomic<std::uint64_t> sum_micro_{0};  // of the values, in millionths
};

}  // namespace heddle::serve
