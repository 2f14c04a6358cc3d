#include "models/model_folder.h"

#include <fmt/format.h>

#include <span>
#include <utility>

#include "base/error.h"
#include "models/bin_weights.h"
#include "models/families/families.h"
#include "models/file_guess.h"
#include "models/folder_weights.h"

namespace heddle {
namespace {

constexpr std::size_t kConfigBytes = 16U << 20U;

bool reads_bin(const ConfigJson& config) {
  const std::optional<std::string> type = config.text("model_type");
  const Family* const family = type ? find_family(*type) : nullptr;
  return family != nullptr && family->reads_bin;
}

}  // namespace

ModelFolder::ModelFolder(const std::string& path)
    : folder_(path), config_(read_json("config.json", kConfigBytes, "config")) {
  if (has("generation_config.json")) {
    generation_ = read_json("generation_config.json", kConfigBytes, "config");
  }
  const auto take = [this](auto weights) {
    weight_files_ = weights->files();
    weight_file_bytes_ = weights->file_bytes();
    weights_ = std::move(weights);
  };
  const bool bin_allowed = reads_bin(config_);
  if (bin_allowed && BinWeights::chosen(folder_)) {
    take(BinWeights::open(folder_));
  } else {
    take(FolderWeights::open(folder_, bin_allowed));
  }
}

std::string ModelFolder::read_text(const std::string& name, std::size_t limit) const {
  std::string text = folder_.read(name, limit, "file_path");
  // Text files are of many kinds; only what is none of them for certain is refused here.
  const std::string guess = guess_file(std::as_bytes(std::span(text)));
  if (guess.find("Git LFS") != std::string::npos) {
    throw bad_input(
        fmt::format("{}: content, got {}, allowed the file itself", path_of(name), guess));
  }
  return text;
}

ConfigJson ModelFolder::read_json(const std::string& name,
                                  std::size_t limit,
                                  std::string area) const {
  const std::string text = read_text(name, limit);
  const std::string guess = guess_file(std::as_bytes(std::span(text)));
  if (!guess.empty()) {
    throw bad_input(
        fmt::format("{}: {}: got {}, allowed a JSON object", path_of(name), area, guess));
  }
  return ConfigJson::parse(text, path_of(name), std::move(area));
}

}  // namespace heddle
