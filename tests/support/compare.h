#pragma once
// Comparisons of float arrays whose message names the worst element. In this order: sizes, the
// pattern of NaN and infinities, then the values.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <sstream>

namespace heddle::test {

inline constexpr double kEpsF32 = 0x1p-23;
inline constexpr double kEpsF16 = 0x1p-10;
inline constexpr double kEpsBF16 = 0x1p-7;

/// Every element has the same 32 bits (so -0 differs from 0, and NaNs compare by payload).
inline testing::AssertionResult same_bits(std::span<const float> actual,
                                          std::span<const float> expected) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure()
           << actual.size() << " elements, expected " << expected.size();
  }
  std::size_t n_different = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(actual[i]) == std::bit_cast<std::uint32_t>(expected[i])) {
      continue;
    }
    if (n_different++ == 0) first = i;
  }
  if (n_different == 0) return testing::AssertionSuccess();
  std::ostringstream text;
  text << n_different << " of " << actual.size() << " elements differ, the first at [" << first
       << "]: " << std::hexfloat << actual[first] << ", expected " << expected[first];
  return testing::AssertionFailure() << text.str();
}

/// |actual[i] - expected[i]| <= bound(i) for all i; NaN matches NaN and infinities match by sign.
template <typename Bound>
testing::AssertionResult within_bound(std::span<const float> actual,
                                      std::span<const float> expected,
                                      const Bound& bound) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure()
           << actual.size() << " elements, expected " << expected.size();
  }
  double worst = 0;  // error as a multiple of the bound
  std::size_t at = 0;
  std::size_t n_beyond = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const float a = actual[i];
    const float e = expected[i];
    if (!std::isfinite(a) || !std::isfinite(e)) {
      const bool same = std::isnan(a) ? std::isnan(e) : a == e;
      if (same) continue;
      return testing::AssertionFailure() << "[" << i << "] is " << a << ", expected " << e;
    }
    const double error = std::abs(static_cast<double>(a) - e);
    const double allowed = bound(i);
    if (!(error <= allowed)) ++n_beyond;
    const double ratio =
        error == 0 ? 0 : (allowed > 0 ? error / allowed : std::numeric_limits<double>::infinity());
    if (ratio > worst) {
      worst = ratio;
      at = i;
    }
  }
  if (n_beyond == 0) return testing::AssertionSuccess();
  std::ostringstream text;
  text.precision(9);
  text << n_beyond << " of " << actual.size() << " elements are beyond their bound, the worst at ["
       << at << "]: " << actual[at] << ", expected " << expected[at] << ", bound " << bound(at)
       << ", error/bound " << worst;
  return testing::AssertionFailure() << text.str();
}

/// The same with one bound for all elements, or with one per element.
inline testing::AssertionResult within(std::span<const float> actual,
                                       std::span<const float> expected,
                                       double bound) {
  return within_bound(actual, expected, [bound](std::size_t) { return bound; });
}
inline testing::AssertionResult within(std::span<const float> actual,
                                       std::span<const float> expected,
                                       std::span<const double> bounds) {
  if (bounds.size() != actual.size()) {
    return testing::AssertionFailure()
           << bounds.size() << " bounds for " << actual.size() << " elements";
  }
  return within_bound(actual, expected, [bounds](std::size_t i) { return bounds[i]; });
}

}  // namespace heddle::test
