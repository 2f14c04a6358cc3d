#include "models/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "models/families/families.h"
#include "models/folder.h"
#include "models/folder_checkpoint.h"
#include "models/gguf_checkpoint.h"
#include "models/gguf_keys.h"
#include "models/gguf_tokenizer.h"
#include "models/model_folder.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

const Family& find_family(const GgufDirectory& file) {
  const GgufKeys keys(file, "config");
  const std::string_view key = "general.architecture";
  const std::optional<std::string_view> wanted = keys.text(key);
  if (!wanted) throw keys.missing(key);
  std::string known;
  for (const Family& family : families()) {
    if (family.read_gguf == nullptr) continue;
    if (family.name == *wanted) return family;
    if (!known.empty()) known += ", ";
    known += family.name;
  }
  throw keys.error(key, quote_text(*wanted), known);
}

/// The family that config.json's model_type names.
const Family& find_family(const ConfigJson& config) {
  const std::string_view key = "model_type";
  const std::optional<std::string> wanted = config.text(key);
  if (!wanted) throw config.missing(key);
  std::string known;
  for (const Family& family : families()) {
    if (family.read_folder == nullptr) continue;
    if (family.model_type == *wanted) return family;
    if (!known.empty()) known += ", ";
    known += family.model_type;
  }
  const auto architectures = config.texts("architectures").value_or(std::vector<std::string>());
  std::string got = quote_text(*wanted);
  if (!architectures.empty())
    got += fmt::format(" (architectures: {})", quote_text(architectures[0]));
  throw config.error(key, got, known.empty() ? "none yet" : known);
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// The one GGUF model of a folder without config.json.
Checkpoint open_gguf_in(const std::string& path) {
  const Folder folder(path);
  std::vector<std::string> found;
  for (std::string& name : folder.names()) {
    if (ends_with(name, ".gguf")) found.push_back(std::move(name));
  }
  if (found.size() != 1) {
    const std::string got = found.empty() ? "neither" : fmt::format("{} .gguf files", found.size());
    throw bad_input(
        fmt::format("{}: model folder, got {}, allowed config.json with model.safetensors (or its "
                    "shards), or one .gguf file",
                    folder.path(), got));
  }
  return checkpoint_from_gguf(GgufWeights::open(folder, found[0]));
}

Checkpoint open_folder(const std::string& path) {
  if (!Folder(path).has("config.json")) return open_gguf_in(path);
  ModelFolder folder(path);
  return checkpoint_from_folder(folder);
}

/// `path` is a file of safetensors: its folder is the model, if it is read from this very file.
Checkpoint open_folder_around(const std::string& path) {
  const std::filesystem::path file(path);
  const std::filesystem::path parent = file.parent_path();
  if (!std::filesystem::exists(file)) throw bad_input(fmt::format("{}: no such file", path));
  const Folder folder(parent.empty() ? "." : parent.string());
  if (!folder.has("config.json")) {
    throw bad_input(
        fmt::format("{}: got no config.json beside it, allowed a model folder in "
                    "Hugging Face layout",
                    path));
  }
  ModelFolder model(folder.path());
  const std::vector<std::string>& files = model.weight_files();
  if (std::find(files.begin(), files.end(), file.filename().string()) == files.end()) {
    throw bad_input(
        fmt::format("{}: not a file that the model in {} is read from; that is {}{}", path,
                    folder.path(), quote_text(files[0]),
                    files.size() > 1 ? fmt::format(" and {} more", files.size() - 1) : ""));
  }
  return checkpoint_from_folder(model);
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
  checkpoint.file_bytes = file.bytes().size();
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
  return checkpoint;
}

Checkpoint checkpoint_from_folder(ModelFolder& folder) {
  const Family& family = find_family(folder.config());
  Checkpoint checkpoint;
  checkpoint.file_bytes = folder.weight_file_bytes();
  checkpoint.weights = folder.take_weights();
  checkpoint.config.family = family.name;
  family.read_folder(folder, checkpoint);
  return checkpoint;
}

Checkpoint open_checkpoint(const std::string& path) {
  if (std::filesystem::is_directory(path)) return open_folder(path);
  if (ends_with(path, ".safetensors")) return open_folder_around(path);
  return checkpoint_from_gguf(GgufWeights::open(path));
}

}  // namespace heddle
