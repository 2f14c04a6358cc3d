#include "models/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include "base/error.h"
#include "models/folder.h"
#include "models/folder_checkpoint.h"
#include "models/gguf_checkpoint.h"
#include "models/model_folder.h"
#include "models/quote_text.h"
#include "models/shard_index.h"

namespace heddle {
namespace {

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// The model that a `.gguf` file of a folder belongs to: the file itself, or for a part of one what
/// its parts have in common.
std::string gguf_model_of(const std::string& name) {
  const auto prefix = shard_prefix(name, ".gguf");
  if (!prefix) return name;
  return std::string(*prefix) + name.substr(name.rfind("-of-"));
}

/// The one GGUF model of a folder without config.json.
Checkpoint open_gguf_in(const std::string& path) {
  const Folder folder(path);
  std::map<std::string, std::string> found;  // models, each by one of its files
  for (const std::string& name : folder.names()) {
    if (ends_with(name, ".gguf")) found.emplace(gguf_model_of(name), name);
  }
  if (found.size() != 1) {
    const std::string got = found.empty() ? "no config.json and no .gguf file"
                                          : fmt::format("{} .gguf models", found.size());
    throw bad_input(
        fmt::format("{}: model folder, got {}, allowed config.json with model.safetensors (or its "
                    "shards), or one .gguf model",
                    folder.path(), got));
  }
  return checkpoint_from_gguf(GgufWeights::open(folder, found.begin()->second));
}

Checkpoint open_folder(const std::string& path) {
  if (!Folder(path).has("config.json")) return open_gguf_in(path);
  ModelFolder folder(path);
  return checkpoint_from_folder(folder);
}

/// One of PyTorch's files that belongs to a model folder.
bool is_bin_of_folder(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  const bool named = name == kBinNames.single() ||
                     shard_prefix(name, kBinNames.extension).value_or("") == kBinNames.stem;
  return named && std::filesystem::exists(path.parent_path() / "config.json");
}

/// `path` is a file of safetensors, or of PyTorch: its folder is the model, if it is read from this
/// very file.
Checkpoint open_folder_around(const std::string& path) {
  const std::filesystem::path file(path);
  const std::filesystem::path parent = file.parent_path();
  if (!std::filesystem::exists(file)) throw bad_input(fmt::format("{}: no such file", path));
  const Folder folder(parent.empty() ? "." : parent.string());
  if (!folder.has("config.json")) {
    throw bad_input(
        fmt::format("{}: model folder, got no config.json beside it, allowed a model folder in "
                    "Hugging Face layout",
                    path));
  }
  ModelFolder model(folder.path());
  const std::vector<std::string>& files = model.weight_files();
  if (std::find(files.begin(), files.end(), file.filename().string()) == files.end()) {
    throw bad_input(
        fmt::format("{}: model file, got one that the model in {} is not read from, allowed {}{}",
                    path, folder.path(), quote_text(files[0]),
                    files.size() > 1 ? fmt::format(" and {} more", files.size() - 1) : ""));
  }
  return checkpoint_from_folder(model);
}

}  // namespace

Checkpoint open_checkpoint(const std::string& path) {
  if (std::filesystem::is_directory(path)) return open_folder(path);
  if (ends_with(path, ".safetensors") || is_bin_of_folder(path)) return open_folder_around(path);
  return checkpoint_from_gguf(GgufWeights::open(path));
}

}  // namespace heddle
