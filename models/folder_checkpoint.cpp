#include "models/folder_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/families/families.h"
#include "models/folder_tokenizer.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

const Family& require_family(const ConfigJson& config) {
  const std::string_view key = "model_type";
  const std::optional<std::string> wanted = config.text(key);
  if (!wanted) throw config.missing(key);
  if (const Family* const family = find_family(*wanted)) return *family;
  std::string got = quote_text(*wanted);
  const auto architectures = config.texts("architectures").value_or(std::vector<std::string>());
  if (!architectures.empty()) {
    got += fmt::format(" (architectures: {})", quote_text(architectures[0]));
  }
  std::string lacking;
  for (const std::string& name : config.keys()) {
    if (config.asked(name)) add_unmet_need(name, lacking);
  }
  throw config.error(key, got, family_names() + lacking);
}

/// generation_config.json. Without "do_sample" the reference is greedy whatever else it says.
GenerationDefaults read_generation(const ConfigJson& config) {
  const auto real = [&](std::string_view key, double least, double most) {
    const std::optional<double> value = config.real(key);
    if (!value) return std::optional<float>();
    if (!(*value >= least && *value <= most)) {
      throw config.error(key, fmt::format("{}", *value), fmt::format("{:g} to {:g}", least, most));
    }
    return std::optional<float>(static_cast<float>(*value));
  };
  GenerationDefaults defaults;
  defaults.repetition_penalty = real("repetition_penalty", 0.01, 100.0);
  const std::optional<float> temperature = real("temperature", 0.0, 100.0);
  const std::optional<float> top_p = real("top_p", 0.0, 1.0);
  const std::optional<float> min_p = real("min_p", 0.0, 1.0);
  const auto top_k = config.integer("top_k", {-1, (1LL << 31) - 1});
  if (!config.boolean("do_sample").value_or(false)) return defaults;
  defaults.temperature = temperature.value_or(1.0F);
  defaults.top_p = top_p;
  defaults.min_p = min_p;
  if (top_k) defaults.top_k = static_cast<int>(std::max<std::int64_t>(*top_k, 0));  // -1: all
  return defaults;
}

/// "eos_token_id", one or several; generation_config.json goes before config.json.
std::vector<TokenId> read_stop_ids(const ModelFolder& folder, int vocab) {
  constexpr std::size_t kMost = 1000;
  const std::string_view key = "eos_token_id";
  std::vector<TokenId> ids;
  const bool own = folder.generation() && folder.generation()->has(key);
  const ConfigJson& source = own ? *folder.generation() : folder.config();
  const auto stated = source.one_or_more_integers(key, {0, vocab - 1});
  if (!stated) return ids;
  if (stated->size() > kMost) {
    throw source.error(key, fmt::format("{} ids", stated->size()), fmt::format("up to {}", kMost));
  }
  for (const std::int64_t id : *stated) ids.push_back(static_cast<TokenId>(id));
  return ids;
}

}  // namespace

Checkpoint checkpoint_from_folder(ModelFolder& folder) {
  const Family& family = require_family(folder.config());
  Checkpoint checkpoint;
  checkpoint.file_bytes = folder.weight_file_bytes();
  checkpoint.weights = folder.take_weights();
  checkpoint.config.family = family.name;
  checkpoint.config.name = folder.config().text("_name_or_path").value_or("");
  family.read_folder(folder.config(), checkpoint);
  FolderTokenizer text = folder_tokenizer(folder.files(), checkpoint.config.vocab);
  checkpoint.tokenizer = std::move(text.tokenizer);
  checkpoint.chat_template = std::move(text.chat_template);
  checkpoint.chat_template_source = std::move(text.chat_template_source);
  if (folder.generation()) checkpoint.config.generation = read_generation(*folder.generation());
  checkpoint.stop_ids = read_stop_ids(folder, checkpoint.config.vocab);
  const std::optional<TokenId> eos = checkpoint.tokenizer->facts().eos;
  if (checkpoint.stop_ids.empty() && eos) checkpoint.stop_ids.push_back(*eos);
  std::sort(checkpoint.stop_ids.begin(), checkpoint.stop_ids.end());
  checkpoint.stop_ids.erase(std::unique(checkpoint.stop_ids.begin(), checkpoint.stop_ids.end()),
                            checkpoint.stop_ids.end());
  return checkpoint;
}

}  // namespace heddle
