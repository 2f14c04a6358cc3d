#include "models/folder_tokenizer.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "models/file_guess.h"
#include "models/tokenizer/json_node.h"
#include "models/tokenizer/json_tokenizer.h"
#include "models/tokenizer/sentencepiece_tokenizer.h"
#include "models/tokenizer/tokenizer_config.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

// The greatest published tokenizer.json has 33 MB and 1.6 million values.
constexpr std::size_t kMaxTokenizerBytes = std::size_t{128} << 20U;
constexpr std::size_t kMaxModelBytes = std::size_t{32} << 20U;
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20U;
constexpr std::size_t kMaxTemplateBytes = std::size_t{1} << 20U;
constexpr JsonLimits kTokenizerLimits{.depth = 32, .nodes = 8'000'000};

/// A file of the folder, mapped; refused if it is too large or plainly something else.
class TextFile {
 public:
  TextFile(const Folder& folder,
           const std::string& name,
           std::size_t limit,
           const std::string& area = "tokenizer")
      : file_(folder.map(name, area)) {
    const std::string where = folder.path_of(name) + ": " + area + ": ";
    if (file_.bytes().size() > limit) {
      throw bad_input(where + "file size, got " + std::to_string(file_.bytes().size()) +
                      " bytes, allowed up to " + std::to_string(limit));
    }
    const std::string guess = guess_file(file_.bytes());
    if (guess.find("Git LFS") != std::string::npos) {
      throw bad_input(where + "got " + guess + ", allowed the file itself");
    }
  }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(file_.bytes().data()), file_.bytes().size()};
  }

 private:
  MappedFile file_;
};

Json read_json(const Folder& folder,
               const std::string& name,
               std::size_t limit = kMaxConfigBytes,
               JsonLimits limits = {}) {
  const TextFile file(folder, name, limit);
  return parse_json(file.text(), folder.path_of(name) + ": tokenizer", limits);
}

TokenizerConfig read_config(const Folder& folder) {
  TokenizerConfig config;
  const auto read = [&](const std::string& name,
                        void (*reader)(const JsonNode&, TokenizerConfig&)) {
    if (!folder.has(name)) return;
    const Json json = read_json(folder, name);
    reader(JsonNode(json, folder.path_of(name)), config);
  };
  read("tokenizer_config.json", read_tokenizer_config);
  config.chat_template_source = folder.path_of("tokenizer_config.json") + ": chat_template";
  read("special_tokens_map.json", read_special_tokens_map);
  read("added_tokens.json", read_added_tokens);
  const std::string name = "chat_template.jinja";
  if (folder.has(name)) {
    config.chat_template = TextFile(folder, name, kMaxTemplateBytes, "chat_template").text();
    config.chat_template_source = folder.path_of(name) + ": chat_template";
    if (!is_valid_utf8(config.chat_template)) {
      throw bad_input(config.chat_template_source +
                      ": text, got bytes that are not UTF-8, allowed UTF-8");
    }
  }
  return config;
}

}  // namespace

FolderTokenizer folder_tokenizer(const Folder& folder, int rows) {
  const TokenizerConfig config = read_config(folder);
  FolderTokenizer result;
  result.chat_template = config.chat_template;
  result.chat_template_source = config.chat_template_source;
  const std::string json_name = "tokenizer.json";
  if (folder.has(json_name)) {
    const Json json = read_json(folder, json_name, kMaxTokenizerBytes, kTokenizerLimits);
    result.tokenizer = make_json_tokenizer(JsonNode(json, folder.path_of(json_name)), config, rows);
    return result;
  }
  const std::string model_name = "tokenizer.model";
  if (folder.has(model_name)) {
    const TextFile file(folder, model_name, kMaxModelBytes);
    result.tokenizer =
        make_sentencepiece_tokenizer(file.text(), folder.path_of(model_name), config, rows);
    return result;
  }
  throw bad_input(folder.path() +
                  ": tokenizer: files, got none, allowed tokenizer.json or tokenizer.model");
}

}  // namespace heddle
