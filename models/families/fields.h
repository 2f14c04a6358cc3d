#pragma once
// Checks that both formats' configs share, over GgufKeys or ConfigJson: each gives has, integer,
// real, text, error and missing. Every error is kBadInput and names the key.

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "models/families/dense.h"
#include "models/families/limits.h"
#include "models/gguf_keys.h"

namespace heddle {

/// The key as errors name it.
template <typename Keys>
std::string shown(const Keys& keys, std::string_view key) {
  if constexpr (requires { keys.full(key); }) {
    return keys.full(key);
  } else {
    return std::string(key);
  }
}

/// 1 .. most; the key must be there.
template <typename Keys>
int require_count(const Keys& keys, std::string_view key, std::int64_t most) {
  const auto value = keys.integer(key, {1, most});
  if (!value) throw keys.missing(key, fmt::format("1 to {}", most));
  return static_cast<int>(*value);
}

template <typename Keys>
int count_or(const Keys& keys, std::string_view key, std::int64_t most, std::int64_t otherwise) {
  return static_cast<int>(keys.integer(key, {1, most}).value_or(otherwise));
}

/// A number in [least, most]; `otherwise` where the key is absent.
template <typename Keys>
double real_or(
    const Keys& keys, std::string_view key, double least, double most, double otherwise) {
  const double value = keys.real(key).value_or(otherwise);
  if (!(value >= least && value <= most)) {
    throw keys.error(key, fmt::format("{}", value), fmt::format("{:g} to {:g}", least, most));
  }
  return value;
}

/// The epsilon of a norm: above 0, up to 1.
template <typename Keys>
float norm_eps(const Keys& keys, std::string_view key, double value) {
  if (!(value > 0.0 && value <= 1.0)) {
    throw keys.error(key, fmt::format("{}", value), "numbers above 0, up to 1");
  }
  return static_cast<float>(value);
}

/// A key that would change the results may only say what the family does anyway (or 0).
template <typename Keys>
void require_neutral(const Keys& keys, std::string_view key, double neutral) {
  const auto value = keys.real(key);
  if (value && *value != neutral && *value != 0.0) {
    throw keys.error(key, fmt::format("{}", *value), fmt::format("{}", neutral));
  }
}

/// The keys that state a model's heads.
struct HeadKeys {
  std::string heads, kv_heads, head_dim, hidden;
};

/// What absent keys stand for.
struct HeadDefaults {
  int heads = 0;     // 0: the key is required
  int kv_heads = 0;  // 0: as many as heads
  int head_dim = 0;  // 0: hidden / heads
};

/// q_heads, kv_heads and head_dim of `model`, whose hidden is known.
template <typename Keys>
void read_heads(const Keys& keys,
                const HeadKeys& names,
                const HeadDefaults& defaults,
                DenseModel& model) {
  model.q_heads = defaults.heads == 0
                      ? require_count(keys, names.heads, ModelLimits::kHeads)
                      : count_or(keys, names.heads, ModelLimits::kHeads, defaults.heads);
  model.kv_heads = count_or(keys, names.kv_heads, ModelLimits::kHeads,
                            defaults.kv_heads == 0 ? model.q_heads : defaults.kv_heads);
  if (model.q_heads % model.kv_heads != 0) {
    throw keys.error(names.kv_heads, std::to_string(model.kv_heads),
                     fmt::format("divisors of {} = {}", shown(keys, names.heads), model.q_heads));
  }
  int head_dim_or = defaults.head_dim;
  if (!keys.has(names.head_dim) && head_dim_or == 0) {
    if (model.hidden % model.q_heads != 0) {
      throw keys.error(
          names.hidden, std::to_string(model.hidden),
          fmt::format("multiples of {} = {}", shown(keys, names.heads), model.q_heads));
    }
    head_dim_or = model.hidden / model.q_heads;
  }
  model.head_dim = count_or(keys, names.head_dim, ModelLimits::kHeadDim, head_dim_or);
  if (model.head_dim < 2 || model.head_dim > ModelLimits::kHeadDim || model.head_dim % 2 != 0) {
    throw keys.error(names.head_dim, std::to_string(model.head_dim),
                     fmt::format("even numbers from 2 to {}", ModelLimits::kHeadDim));
  }
  model.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(model.head_dim)));
}

}  // namespace heddle
