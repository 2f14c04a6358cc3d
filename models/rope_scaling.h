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

/// "linear" scaling: f / factor. Source: Chen et al. 2023, eq. 4.
std::vector<float> scale_linear(std::vector<float> inv_freq, double factor);

/// Parameters of YaRN.
struct YarnRopeScaling {
  double factor = 1.0;      // >= 1
  double beta_fast = 32.0;  // rotations over the original context above which f stays
  double beta_slow = 1.0;   // and below which it becomes f / factor; > 0, < beta_fast
  bool truncate = true;     // the two borders are rounded to whole pairs, outwards
  std::int64_t original_context = 0;
};

/// f for pairs that turn more than beta_fast times in the original context, f / factor for those
/// below beta_slow, a linear ramp over the pair's index between. Source: Peng et al. 2023,
/// sec. 3.2; transformers, modeling_rope_utils.
std::vector<float> scale_yarn(double theta, int rotary_dim, const YarnRopeScaling& scaling);
/// What YaRN multiplies cos and sin by: 0.1 mscale ln(factor) + 1, 1 for factors up to 1.
double yarn_attention_factor(double factor, double mscale = 1.0);

/// longrope: every frequency divided by its own factor. Source: Ding et al. 2024, sec. 3.
std::vector<float> scale_per_pair(double theta, int rotary_dim, const std::vector<float>& factors);
/// What longrope multiplies cos and sin by: sqrt(1 + ln(factor) / ln(original_context)), 1 for
/// factors up to 1.
double longrope_attention_factor(double factor, std::int64_t original_context);

}  // namespace heddle
