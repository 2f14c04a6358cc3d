#pragma once
// Seeded random data for tests: the same numbers on every platform and standard library.

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace heddle::test {

/// SplitMix64 (Steele et al. 2014) with the draws that tests need.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  /// In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  float uniform(float low, float high) {
    return static_cast<float>(low + (static_cast<double>(high) - low) * uniform());
  }
  /// In [low, high], both included.
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  /// Bell-shaped, mean 0, variance 1, never beyond 6 (sum of twelve uniforms).
  float normal() {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return static_cast<float>(sum);
  }

  std::vector<float> normals(std::int64_t n, float scale = 1.0F) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (float& f : v) f = scale * normal();
    return v;
  }
  std::vector<float> uniforms(std::int64_t n, float low, float high) {
    std::vector<float> v(static_cast<std::size_t>(n));
    for (float& f : v) f = uniform(low, high);
    return v;
  }

 private:
  std::uint64_t state_;
};

}  // namespace heddle::test
