#include "models/tokenizer/gguf_spec.h"

namespace heddle {
namespace {

constexpr std::size_t kMaxTokens = std::size_t{1} << 24U;

}  // namespace

Error spec_error(const std::string& source,
                 const std::string& key,
                 const std::string& got,
                 const std::string& allowed) {
  return bad_input(source + ": tokenizer: tokenizer.ggml." + key + ", got " + got + ", allowed " +
                   allowed);
}

void check_token_types(const TokenizerSpec& spec) {
  const std::size_t count = spec.tokens.size();
  if (count == 0 || count > kMaxTokens) {
    throw spec_error(spec.source, "tokens", std::to_string(count) + " entries",
                     "1 to " + std::to_string(kMaxTokens));
  }
  if (spec.types.size() != count) {
    throw spec_error(spec.source, "token_type", std::to_string(spec.types.size()) + " entries",
                     std::to_string(count) + ", one per token");
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t type = spec.types[i];
    if (type < 1 || type > 6) {
      throw spec_error(spec.source, "token_type[" + std::to_string(i) + "]", std::to_string(type),
                       "1 to 6");
    }
  }
}

void check_special_ids(const TokenizerSpec& spec) {
  const auto count = static_cast<std::int64_t>(spec.tokens.size());
  const auto check = [&](const char* key, const std::optional<TokenId>& id) {
    if (!id || (*id >= 0 && *id < count)) return;
    throw spec_error(spec.source, key, std::to_string(*id), "0 to " + std::to_string(count - 1));
  };
  check("bos_token_id", spec.bos);
  check("eos_token_id", spec.eos);
  check("eot_token_id", spec.eot);
  check("unknown_token_id", spec.unk);
  check("padding_token_id", spec.pad);
  const auto need = [&](const char* flag, bool on, const char* key, bool present) {
    if (!on || present) return;
    throw spec_error(spec.source, flag, "true",
                     std::string("false, as there is no tokenizer.ggml.") + key);
  };
  need("add_bos_token", spec.add_bos, "bos_token_id", spec.bos.has_value());
  need("add_eos_token", spec.add_eos, "eos_token_id", spec.eos.has_value());
}

TokenizerFacts facts_of(const TokenizerSpec& spec) {
  TokenizerFacts facts = {.model = spec.model,
                          .pre = spec.pre,
                          .bos = spec.bos,
                          .eos = spec.eos,
                          .eot = spec.eot,
                          .unk = spec.unk,
                          .pad = spec.pad,
                          .prefix = {},
                          .suffix = {}};
  if (spec.add_bos) facts.prefix.push_back(*spec.bos);
  if (spec.add_eos) facts.suffix.push_back(*spec.eos);
  return facts;
}

}  // namespace heddle
