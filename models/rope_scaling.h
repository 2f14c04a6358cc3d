#pragma once
// Per-pair frequencies of rotary embeddings and their published rescalings. Results are the f32
// values that the reference implementation (transformers, f32 tensors on the CPU) computes.

#include <cstdint>
#include <vector>

namespace heddle {

/// inv_freq[i] = 1 / theta^(2i / rotary_dim), i < rotary_dim / 2: the power rounded to f32, then
/// its reciprocal. Within 1 unit in the last place of the exact value's rounding.
/// Source: Su et al. 2021, sec. 3.2.2.
std::vector<float> rope_inv_freq(double theta, int rotary_dim);

/// Parameters of Llama 3.1's "llama3" scaling.
struct Llama3RopeScaling {
  double factor = 1.0;            // >= 1
  double low_freq_factor = 1.0;   // > 0
  double high_freq_factor = 4.0;  // > low_freq_factor
  std::int64_t original_context = 8192;
};

/// With wavelength w = 2 pi / f and context c: f if w < c / high, f / factor if w > c / low, else
/// (1 - s) f / factor + s f with s = (c / w - low) / (high - low). All in f32.
/// Source: Llama 3.1 reference code; transformers, modeling_rope_utils.
std::vector<float> scale_llama3(std::vector<float> inv_freq, const Llama3RopeScaling& scaling);

}  // namespace heddle
