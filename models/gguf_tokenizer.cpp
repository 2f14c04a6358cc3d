#include "models/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "models/gguf_keys.h"

namespace heddle {
namespace {

constexpr std::int64_t kMaxId = (1LL << 31) - 1;

std::optional<TokenId> token_id(const GgufKeys& keys, std::string_view field) {
  const auto value = keys.integer(fmt::format("tokenizer.ggml.{}_token_id", field), {0, kMaxId});
  if (!value) return std::nullopt;
  return static_cast<TokenId>(*value);
}

std::string text_or(const GgufKeys& keys, std::string_view key, std::string_view otherwise) {
  return std::string(keys.text(key).value_or(otherwise));
}

void check_length(const GgufKeys& keys,
                  std::string_view key,
                  std::optional<std::uint64_t> length,
                  std::uint64_t wanted,
                  std::string_view of) {
  if (length && *length != wanted) {
    throw keys.error(key, fmt::format("{} entries", *length),
                     fmt::format("{}, one per {}", wanted, of));
  }
}

/// A file without `key` would load and encode text wrongly.
void require(const GgufDirectory& file, std::string_view key, std::string_view needed) {
  if (file.find(key) != nullptr) return;
  throw bad_input(
      fmt::format("{}: tokenizer: {} is missing, needed: {}", file.source(), key, needed));
}

/// Files of these kinds that do not say so add a BOS (the format's convention).
bool adds_bos_by_default(std::string_view model, std::string_view pre) {
  return model == "llama" || pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3" ||
         pre == "tekken";
}

void read_bpe_keys(const GgufDirectory& file, const GgufKeys& keys, TokenizerSpec& spec) {
  const std::string_view merges = "tokenizer.ggml.merges";
  const std::string_view needed = "the pairs that the kind gpt2 joins, in order";
  require(file, merges, needed);
  spec.merges = *keys.texts(merges);
  if (spec.merges.empty()) throw keys.error(merges, "0 entries", needed);
}

void read_spm_keys(const GgufDirectory& file, const GgufKeys& keys, TokenizerSpec& spec) {
  spec.pre.clear();
  const std::string_view charsmap = "tokenizer.ggml.precompiled_charsmap";
  if (keys.has(charsmap)) throw keys.error(charsmap, "one", "none for the kind llama");
  const std::string_view scores = "tokenizer.ggml.scores";
  require(file, scores, "one score per token, by which the kind llama joins");
  spec.scores = *keys.reals(scores);
  spec.add_space_prefix = keys.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  spec.remove_extra_whitespaces =
      keys.boolean("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
}

}  // namespace

TokenizerSpec read_gguf_tokenizer(const GgufDirectory& file, int vocab) {
  const GgufKeys keys(file, "tokenizer");
  TokenizerSpec spec;
  spec.source = file.source();
  spec.model = text_or(keys, "tokenizer.ggml.model", "");
  if (spec.model.empty()) throw keys.missing("tokenizer.ggml.model");
  spec.pre = text_or(keys, "tokenizer.ggml.pre", "");

  const std::string_view tokens = "tokenizer.ggml.tokens";
  const std::string_view types = "tokenizer.ggml.token_type";
  const std::string_view scores = "tokenizer.ggml.scores";
  const auto rows = static_cast<std::uint64_t>(vocab);
  const std::optional<std::uint64_t> n_tokens = keys.array_length(tokens, GgufKind::kString);
  if (!n_tokens) throw keys.missing(tokens);
  check_length(keys, tokens, n_tokens, rows, "row of token_embd.weight");
  check_length(keys, types, keys.array_length(types, GgufKind::kI32), rows, "token");
  check_length(keys, scores, keys.array_length(scores, GgufKind::kF32), rows, "token");
  spec.tokens = *keys.texts(tokens);
  require(file, types, "the kind of each token (normal, control, byte, ...)");
  spec.types = *keys.integers(types);
  if (spec.model == "gpt2") read_bpe_keys(file, keys, spec);
  if (spec.model == "llama") read_spm_keys(file, keys, spec);

  spec.bos = token_id(keys, "bos");
  spec.eos = token_id(keys, "eos");
  spec.eot = token_id(keys, "eot");
  spec.unk = token_id(keys, "unknown");
  spec.pad = token_id(keys, "padding");
  spec.add_bos = keys.boolean("tokenizer.ggml.add_bos_token")
                     .value_or(spec.bos.has_value() && adds_bos_by_default(spec.model, spec.pre));
  spec.add_eos = keys.boolean("tokenizer.ggml.add_eos_token").value_or(false);
  return spec;
}

std::vector<TokenId> read_gguf_stop_ids(const GgufDirectory& file) {
  const GgufKeys keys(file, "tokenizer");
  std::vector<TokenId> ids;
  for (const std::string_view field : {"eos", "eot", "eom"}) {
    if (const auto id = token_id(keys, field)) ids.push_back(*id);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace heddle
