#include "models/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace heddle {

std::vector<float> rope_inv_freq(double theta, int rotary_dim) {
  HEDDLE_CHECK(theta > 0.0 && rotary_dim >= 0 && rotary_dim % 2 == 0);
  const auto base = static_cast<double>(static_cast<float>(theta));
  std::vector<float> inv_freq(static_cast<std::size_t>(rotary_dim / 2));
  for (int i = 0; i < rotary_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
    const auto power = static_cast<float>(std::pow(base, static_cast<double>(exponent)));
    inv_freq[static_cast<std::size_t>(i)] = 1.0F / power;
  }
  return inv_freq;
}

std::vector<float> scale_llama3(std::vector<float> inv_freq, const Llama3RopeScaling& scaling) {
  HEDDLE_CHECK(scaling.factor >= 1.0 && scaling.low_freq_factor > 0.0 &&
               scaling.high_freq_factor > scaling.low_freq_factor && scaling.original_context > 0);
  const auto context = static_cast<float>(scaling.original_context);
  const auto factor = static_cast<float>(scaling.factor);
  const auto low = static_cast<float>(scaling.low_freq_factor);
  const auto span = static_cast<float>(scaling.high_freq_factor - scaling.low_freq_factor);
  const auto low_wavelength =
      static_cast<float>(static_cast<double>(scaling.original_context) / scaling.low_freq_factor);
  const auto high_wavelength =
      static_cast<float>(static_cast<double>(scaling.original_context) / scaling.high_freq_factor);
  for (float& f : inv_freq) {
    // The reference divides a number by a tensor as reciprocal times number.
    const float wavelength = (1.0F / f) * static_cast<float>(2.0 * std::numbers::pi);
    if (wavelength > low_wavelength) {
      f = f / factor;
    } else if (wavelength >= high_wavelength) {
      const float smooth = ((1.0F / wavelength) * context - low) / span;
      f = (1.0F - smooth) * f / factor + smooth * f;
    }
  }
  return inv_freq;
}

std::vector<float> scale_linear(std::vector<float> inv_freq, double factor) {
  HEDDLE_CHECK(factor > 0.0);
  for (float& f : inv_freq) f /= static_cast<float>(factor);
  return inv_freq;
}

std::vector<float> scale_yarn(double theta, int rotary_dim, const YarnRopeScaling& scaling) {
  HEDDLE_CHECK(scaling.factor >= 1.0 && scaling.original_context > 0);
  HEDDLE_CHECK(scaling.beta_slow > 0.0 && scaling.beta_fast > scaling.beta_slow);
  // The (fractional) pair that turns `rotations` times in the original context.
  const auto border = [&](double rotations) {
    const auto context = static_cast<double>(scaling.original_context);
    return rotary_dim * std::log(context / (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(theta));
  };
  double low = border(scaling.beta_fast);
  double high = border(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rotary_dim - 1));
  if (low == high) high += 0.001;
  const auto factor = static_cast<float>(scaling.factor);
  std::vector<float> inv_freq = rope_inv_freq(theta, rotary_dim);
  for (std::size_t i = 0; i < inv_freq.size(); ++i) {
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0F,
        1.0F);
    const float keep = 1.0F - ramp;
    inv_freq[i] = inv_freq[i] / factor * (1.0F - keep) + inv_freq[i] * keep;
  }
  return inv_freq;
}

double yarn_attention_factor(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

std::vector<float> scale_per_pair(double theta, int rotary_dim, const std::vector<float>& factors) {
  std::vector<float> inv_freq = rope_inv_freq(theta, rotary_dim);
  HEDDLE_CHECK(factors.size() == inv_freq.size());
  for (std::size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] /= factors[i];
  return inv_freq;
}

double longrope_attention_factor(double factor, std::int64_t original_context) {
  if (factor <= 1.0) return 1.0;
  return std::sqrt(1.0 + std::log(factor) / std::log(static_cast<double>(original_context)));
}

}  // namespace heddle
