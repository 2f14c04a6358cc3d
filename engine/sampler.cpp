#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/philox.h"

namespace heddle {
namespace {

void check_range(std::string_view field, double value, double low, double high, bool open = false) {
  const bool inside = open ? value > low && value <= high : value >= low && value <= high;
  if (!inside) {  // also NaN
    throw bad_input(
        fmt::format("{} is {}, allowed: {}{}, {}]", field, value, open ? '(' : '[', low, high));
  }
}

}  // namespace

void validate(const SamplingParams& p, std::int64_t vocab) {
  check_range("temperature", p.temperature, 0, 100);
  check_range("top_k", p.top_k, 0, 2147483647.0);
  check_range("top_p", p.top_p, 0, 1, true);
  check_range("min_p", p.min_p, 0, 1);
  check_range("repetition_penalty", p.repetition_penalty, 0, 100, true);
  check_range("presence_penalty", p.presence_penalty, -100, 100);
  check_range("frequency_penalty", p.frequency_penalty, -100, 100);
  for (const auto& [token, bias] : p.logit_bias) {
    check_range("logit_bias token", token, 0, static_cast<double>(vocab - 1));
    check_range("logit_bias", bias, -100, 100);
  }
}

bool needs_counts(const SamplingParams& p) {
  return p.repetition_penalty != 1.0F || p.presence_penalty != 0.0F || p.frequency_penalty != 0.0F;
}

void adjust_logits(std::span<float> logits, const SamplingParams& p, const TokenCounts* counts) {
  // A finite logit stays finite whatever the penalty.
  const auto clamped = [](float l) {
    constexpr float kMost = std::numeric_limits<float>::max();
    return std::isinf(l) ? std::copysign(kMost, l) : l;
  };
  if (counts != nullptr && needs_counts(p)) {
    for (const auto& [token, count] : *counts) {
      float& l = logits[static_cast<std::size_t>(token)];
      if (!std::isfinite(l)) continue;
      if (p.repetition_penalty != 1.0F) {
        l = clamped(l > 0.0F ? l / p.repetition_penalty : l * p.repetition_penalty);
      }
      if (count.generated > 0) {
        l -= p.presence_penalty;
        l = clamped(l - p.frequency_penalty * static_cast<float>(count.generated));
      }
    }
  }
  for (const auto& [token, bias] : p.logit_bias) logits[static_cast<std::size_t>(token)] += bias;
}

bool exclude(std::span<float> logits,
             const TokenMask* allowed,
             std::span<const std::int32_t> banned) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const auto forbid = [](float& l) {
    if (l < std::numeric_limits<float>::infinity()) l = kNever;
  };
  if (allowed != nullptr) {
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (!allowed->test(static_cast<std::int32_t>(i))) forbid(logits[i]);
    }
  }
  for (const std::int32_t id : banned) forbid(logits[static_cast<std::size_t>(id)]);
  return std::ranges::any_of(logits, [](float l) { return !(l == kNever); });
}

double log_sum_exp(std::span<const float> logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - max);
  return max + std::log(sum);
}

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, double lse, int n) {
  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto count = std::min<std::size_t>(static_cast<std::size_t>(n), ids.size());
  const auto larger = [&](std::int32_t a, std::int32_t b) {
    const float la = logits[static_cast<std::size_t>(a)];
    const float lb = logits[static_cast<std::size_t>(b)];
    return la != lb ? la > lb : a < b;
  };
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
                    larger);
  std::vector<TokenLogprob> top;
  for (std::size_t i = 0; i < count; ++i) {
    const double l = logits[static_cast<std::size_t>(ids[i])];
    top.push_back({ids[i], static_cast<float>(l - lse)});
  }
  return top;
}

Sampler::Sampler(Backend& backend, std::int64_t max_rows, std::int64_t vocab)
    : backend_(backend),
      vocab_(vocab),
      tokens_(backend.allocate(static_cast<std::size_t>(max_rows) * sizeof(std::int32_t))),
      logprobs_(backend.allocate(static_cast<std::size_t>(max_rows) * sizeof(float))) {}

std::vector<std::int32_t> Sampler::sample(const TensorView& logits,
                                          std::span<const SampleRow> rows) {
  HEDDLE_CHECK(logits.device == DeviceKind::kCpu);
  std::vector<SampleParams> params;
  std::vector<std::size_t> without;  // rows that have no token left
  for (const SampleRow& row : rows) {
    const SamplingParams& p = *row.params;
    const std::span<float> values(logits.as<float>() + row.logits_row * vocab_,
                                  static_cast<std::size_t>(vocab_));
    adjust_logits(values, p, row.counts);
    if ((row.allowed != nullptr || !row.banned.empty()) &&
        !exclude(values, row.allowed, row.banned)) {
      without.push_back(params.size());
    }
    params.push_back(
        {.temperature = p.temperature,
         .top_k = p.top_k,
         .top_p = p.top_p,
         .min_p = p.min_p,
         .uniform = philox_uniform(p.seed, row.choice, static_cast<std::uint64_t>(row.position))});
  }
  // The op takes adjacent rows: one call per run of them.
  for (std::size_t begin = 0; begin < rows.size();) {
    std::size_t end = begin + 1;
    while (end < rows.size() && rows[end].logits_row == rows[end - 1].logits_row + 1) ++end;
    const auto n = static_cast<std::int64_t>(end - begin);
    backend_.ops().sample(
        {.logits = {logits.as<float>() + rows[begin].logits_row * vocab_, DType::kF32, {n, vocab_}},
         .params = params.data() + begin,
         .tokens = {tokens_.as<std::int32_t>() + begin, DType::kI32, {n}},
         .logprobs = {logprobs_.as<float>() + begin, DType::kF32, {n}}});
    begin = end;
  }
  backend_.synchronize();
  const auto* drawn = tokens_.as<std::int32_t>();
  std::vector<std::int32_t> tokens(drawn, drawn + rows.size());
  for (const std::size_t row : without) tokens[row] = kNoTokenAllowed;
  return tokens;
}

}  // namespace heddle
