#include "models/rope_scaling.h"

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

}  // namespace heddle
