#include "models/gguf_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/families/families.h"
#include "models/gguf_keys.h"
#include "models/gguf_tokenizer.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

const Family& find_family(const GgufDirectory& file) {
  const GgufKeys keys(file, "config");
  const std::string_view key = "general.architecture";
  const std::optional<std::string_view> wanted = keys.text(key);
  if (!wanted) throw keys.missing(key);
  for (const Family& family : families()) {
    if (family.read_gguf != nullptr && family.gguf == *wanted) return family;
  }
  const std::string prefix = std::string(*wanted) + ".";
  std::string lacking;
  for (const GgufEntry& entry : file.entries()) {
    if (entry.key.starts_with(prefix)) add_unmet_need(entry.key.substr(prefix.size()), lacking);
  }
  throw keys.error(key, quote_text(*wanted), gguf_architectures() + lacking);
}

/// general.sampling.*; a value outside its range would fail every request later.
GenerationDefaults read_generation(const GgufDirectory& file) {
  const GgufKeys keys(file, "config");
  const auto real = [&](std::string_view field, double least, double most) {
    const std::string key = fmt::format("general.sampling.{}", field);
    const std::optional<double> value = keys.real(key);
    if (!value) return std::optional<float>();
    if (!(*value >= least && *value <= most)) {
      throw keys.error(key, fmt::format("{}", *value), fmt::format("{} to {}", least, most));
    }
    return std::optional<float>(static_cast<float>(*value));
  };
  GenerationDefaults defaults;
  defaults.temperature = real("temp", 0.0, 100.0);
  defaults.top_p = real("top_p", 0.0, 1.0);
  defaults.min_p = real("min_p", 0.0, 1.0);
  defaults.repetition_penalty = real("penalty_repeat", 0.01, 100.0);
  if (const auto top_k = keys.integer("general.sampling.top_k", {-1, (1LL << 31) - 1})) {
    defaults.top_k = static_cast<int>(std::max<std::int64_t>(*top_k, 0));  // -1 means all, as 0
  }
  return defaults;
}

}  // namespace

Checkpoint checkpoint_from_gguf(std::unique_ptr<GgufWeights> weights) {
  const GgufDirectory& file = weights->directory();  // stays where it is: the store owns it
  Checkpoint checkpoint;
  checkpoint.file_bytes = weights->file_bytes();
  checkpoint.weights = std::move(weights);
  const Family& family = find_family(file);
  const GgufKeys keys(file, "config");
  checkpoint.config.family = family.name;
  checkpoint.config.name = std::string(keys.text("general.name").value_or(""));
  checkpoint.config.generation = read_generation(file);
  family.read_gguf(file, checkpoint);
  checkpoint.tokenizer = make_tokenizer(read_gguf_tokenizer(file, checkpoint.config.vocab));
  checkpoint.stop_ids = read_gguf_stop_ids(file);
  checkpoint.chat_template = std::string(keys.text("tokenizer.chat_template").value_or(""));
  checkpoint.chat_template_source = file.source() + ": tokenizer.chat_template";
  return checkpoint;
}

}  // namespace heddle
