#include "models/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "models/folder.h"
#include "models/folder_checkpoint.h"
#include "models/gguf_checkpoint.h"
#include "models/model_folder.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

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

}  // namespace

Checkpoint open_checkpoint(const std::string& path) {
  if (std::filesystem::is_directory(path)) return open_folder(path);
  if (ends_with(path, ".safetensors")) return open_folder_around(path);
  return checkpoint_from_gguf(GgufWeights::open(path));
}

}  // namespace heddle
