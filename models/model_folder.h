#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/config_json.h"
#include "models/folder.h"
#include "models/weight_store.h"

namespace heddle {

/// A model folder in Hugging Face layout, opened: config.json read, weights mapped and their
/// headers validated, other files within reach. What a family makes a Checkpoint of.
class ModelFolder {
 public:
  /// Throws kBadInput.
  explicit ModelFolder(const std::string& path);

  const std::string& path() const { return folder_.path(); }
  const Folder& files() const { return folder_; }
  const ConfigJson& config() const { return config_; }  // area "config"
  const std::optional<ConfigJson>& generation() const {
    return generation_;
  }  // generation_config.json
  WeightStore& weights() const { return *weights_; }
  std::unique_ptr<WeightStore> take_weights() { return std::move(weights_); }
  const std::vector<std::string>& weight_files() const { return weight_files_; }
  std::uint64_t weight_file_bytes() const { return weight_file_bytes_; }

  /// tokenizer.json, tokenizer_config.json, tokenizer.model, special_tokens_map.json,
  /// added_tokens.json, chat_template.jinja, vocab.json, merges.txt: is it there?
  bool has(const std::string& name) const { return folder_.has(name); }
  std::string path_of(const std::string& name) const { return folder_.path_of(name); }
  /// The whole file, at most `limit` bytes; never from outside the folder. Throws kBadInput, also
  /// for a Git LFS pointer in the file's place.
  std::string read_text(const std::string& name, std::size_t limit) const;
  /// A file that holds one JSON object; see ConfigJson. Throws kBadInput.
  ConfigJson read_json(const std::string& name, std::size_t limit, std::string area) const;

 private:
  Folder folder_;
  ConfigJson config_;
  std::optional<ConfigJson> generation_;
  std::unique_ptr<WeightStore> weights_;
  std::vector<std::string> weight_files_;
  std::uint64_t weight_file_bytes_ = 0;
};

}  // namespace heddle
