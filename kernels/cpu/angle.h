#pragma once
#include <cmath>

namespace heddle::cpu {

struct CosSin {
  float cos = 0.0F;
  float sin = 0.0F;
};

/// Of position * frequency, both times scale. The f32 product is part of the ops that rotate; cos
/// and sin in f64 make every processor agree to the bit, except where a libm's f64 error straddles
/// an f32 rounding boundary (about one in 10^8).
inline CosSin cos_sin(float position, float frequency, double scale) {
  const float angle = position * frequency;
  const double wide = angle;
  return {static_cast<float>(scale * std::cos(wide)), static_cast<float>(scale * std::sin(wide))};
}

}  // namespace heddle::cpu
