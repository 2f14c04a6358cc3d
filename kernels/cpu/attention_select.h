// The loops of select_blocks over a vector type V (simd16.h): scores of compressed keys and the
// weights of their windows. Included through attention_impl.h only.

#pragma once
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/simd16_math.h"

namespace heddle::cpu {
namespace {

template <typename V>
void score_entries(const EntryScores& s) {
  for (std::int64_t j = 0; j < s.n_entries; ++j) {
    const float* const entry = s.entries[j];
    for (std::int64_t r = 0; r < s.n_rows; ++r) {
      const float* const q = s.q + r * s.head_dim;
      auto sum = V::zero();
      for (std::int64_t d = 0; d < s.head_dim; d += 16) {
        sum = V::fma(V::load(q + d), V::load(entry + d), sum);
      }
      s.y[r * s.stride + j] = s.scale * V::reduce_add(sum);
    }
  }
}

template <typename V>
void add_weights(const WindowWeights& s) {
  const auto lowest = V::set1(-__builtin_inff());
  const auto norm_at = [&](std::int64_t i) {
    const std::int64_t left = s.n_norm - i;
    return V::first_n(V::load(s.norm + i), left < 16 ? static_cast<int>(left) : 16, lowest);
  };
  auto max = lowest;
  for (std::int64_t i = 0; i < s.n_norm; i += 16) max = V::max(norm_at(i), max);
  const auto m = V::set1(V::reduce_max(max));
  auto sum = V::zero();
  for (std::int64_t i = 0; i < s.n_norm; i += 16) {
    sum = V::add(sum, exp_nonpositive<V>(V::sub(norm_at(i), m)));
  }
  const auto l = V::set1(V::reduce_add(sum));
  for (std::int64_t i = 0; i < s.n; i += 16) {
    const auto p = V::div(exp_any<V>(V::sub(V::load(s.y + i), m)), l);
    const auto number = V::select_lt(V::set1(-1.0F), p, p, V::zero());  // a NaN counts 0
    V::store(s.w + i, V::add(V::load(s.w + i), number));
  }
}

}  // namespace
}  // namespace heddle::cpu
