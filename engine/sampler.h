#pragma once
// Logits to tokens. Penalties and biases are the request's own, so they are applied here; the draw
// itself is the op `sample`.

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/grammar/token_mask.h"
#include "engine/request.h"
#include "kernels/backend.h"

namespace heddle {

/// How often a token occurs in what a request has so far.
struct TokenCount {
  std::int32_t in_prompt = 0;
  std::int32_t generated = 0;
};
using TokenCounts = std::unordered_map<std::int32_t, TokenCount>;

/// One row to be sampled.
struct SampleRow {
  std::int64_t logits_row = 0;  // ascending over the rows of a call
  const SamplingParams* params = nullptr;
  const TokenCounts* counts = nullptr;  // may be null without penalties
  std::uint32_t choice = 0;
  std::int64_t position = 0;                  // of the token to be drawn in its sequence
  const TokenMask* allowed = nullptr;         // no other tokens; null: all
  std::span<const std::int32_t> banned = {};  // not these
};

/// In place of a token: all that were allowed are -infinity.
inline constexpr std::int32_t kNoTokenAllowed = -2;

class Sampler {
 public:
  Sampler(Backend& backend, std::int64_t max_rows, std::int64_t vocab);
  /// Draws one token per row; -1 for a row without a usable distribution, kNoTokenAllowed where
  /// what is excluded leaves none. Changes `logits` (host memory [n, vocab]) where penalties,
  /// biases or exclusions ask for it.
  std::vector<std::int32_t> sample(const TensorView& logits, std::span<const SampleRow> rows);

 private:
  Backend& backend_;
  std::int64_t vocab_;
  Buffer tokens_, logprobs_;
};

/// True if the request's penalties look at token counts.
bool needs_counts(const SamplingParams& params);
/// repetition: l > 0 ? l / r : l * r for every token seen; then presence and frequency on generated
/// ones; then the bias.
void adjust_logits(std::span<float> logits,
                   const SamplingParams& params,
                   const TokenCounts* counts);
/// Tokens that are not allowed become -infinity, after biases, so that none lifts them; NaN and
/// infinity stay, for they are faults. False: the row has nothing else left.
bool exclude(std::span<float> logits,
             const TokenMask* allowed,
             std::span<const std::int32_t> banned);
/// log sum exp of a row in f64.
double log_sum_exp(std::span<const float> logits);
/// The n largest, descending, ties to the lower id.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, double lse, int n);
/// Throws kBadInput naming the field, its value and its range.
void validate(const SamplingParams& params, std::int64_t vocab);

}  // namespace heddle
