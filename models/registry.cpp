#include "models/registry.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "base/error.h"
#include "base/json.h"
#include "models/bundled.h"
#include "models/quote_text.h"
#include "models/registry_data.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;

/// Letters, digits and `others`, and no option for a program to mistake it for.
bool plain(const std::string& text, std::string_view others) {
  return !text.empty() && text[0] != '-' && text.find("..") == std::string::npos &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                  others.find(c) != std::string_view::npos;
         });
}

class EntryReader {
 public:
  EntryReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) throw bad_input(where_ + ", got no object, allowed an object");
    const std::span<const std::string_view> fields =
        is_bundled() ? std::span(kBundledFields) : std::span<const std::string_view>(kFields);
    for (const auto& [key, value] : json.items()) {
      if (std::find(fields.begin(), fields.end(), key) == fields.end()) {
        throw bad_input(fmt::format("{}: field, got {}, allowed {}", where_, quote_text(key),
                                    fmt::join(fields, ", ")));
      }
    }
  }

  bool is_bundled() const { return json_.contains("bundled"); }
  std::string text(const char* field) const {
    const auto it = json_.find(field);
    if (it == json_.end() || !it->is_string()) throw error(field, "no string", "a string");
    return it->get<std::string>();
  }
  std::string plain_text(const char* field, std::string_view others) const {
    const std::string value = text(field);
    if (!plain(value, others)) {
      throw error(field, quote_text(value), fmt::format("letters, digits and {}", others));
    }
    return value;
  }
  std::uint64_t bytes(const char* field) const {
    const auto it = json_.find(field);
    if (it == json_.end() || !it->is_number_unsigned() || it->get<std::uint64_t>() == 0) {
      throw error(field, it == json_.end() ? "nothing" : it->dump(), "a number of bytes from 1");
    }
    return it->get<std::uint64_t>();
  }
  std::vector<std::string> file_names(const char* field) const {
    const Json list = json_.value(field, Json());
    std::vector<std::string> names;
    for (const Json& item : list) {
      if (item.is_string()) names.push_back(item.get<std::string>());
    }
    const bool good = std::all_of(names.begin(), names.end(),
                                  [](const std::string& name) { return plain(name, "-._"); });
    if (!list.is_array() || list.empty() || names.size() != list.size() || !good) {
      throw error(field, list.dump(), "a list of file names");
    }
    return names;
  }
  Error error(const char* field, const std::string& got, const std::string& allowed) const {
    return bad_input(fmt::format("{}: {}, got {}, allowed {}", where_, field, got, allowed));
  }

 private:
  static constexpr std::array<std::string_view, 7> kFields = {
      "name", "description", "package", "version", "member", "bytes", "sha256"};
  static constexpr std::array<std::string_view, 4> kBundledFields = {"name", "description",
                                                                     "bundled", "files"};
  const Json& json_;
  std::string where_;
};

RegistryEntry read_entry(const Json& json, const std::string& where) {
  const EntryReader reader(json, where);
  RegistryEntry entry;
  entry.name = reader.plain_text("name", "-._");
  entry.description = reader.text("description");
  if (reader.is_bundled()) {
    entry.folder = reader.plain_text("bundled", "-._");
    if (entry.folder == ".") throw reader.error("bundled", "'.'", "the name of a folder");
    entry.files = reader.file_names("files");
    return entry;
  }
  entry.package = reader.plain_text("package", "-._");
  entry.version = reader.plain_text("version", ".+!");
  entry.member = reader.plain_text("member", "-._/");
  entry.bytes = reader.bytes("bytes");
  entry.sha256 = reader.text("sha256");
  const bool hex = entry.sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (!hex || entry.sha256.size() != 64) {
    throw reader.error("sha256", quote_text(entry.sha256), "64 lower-case hexadecimal digits");
  }
  if (entry.file_name().empty()) {
    throw reader.error("member", quote_text(entry.member), "the path of a file");
  }
  return entry;
}

std::string known_names(const std::vector<RegistryEntry>& registry) {
  std::string names;
  for (const RegistryEntry& entry : registry) names += (names.empty() ? "" : ", ") + entry.name;
  return names;
}

const RegistryEntry* find_entry(const std::string& name,
                                const std::vector<RegistryEntry>& registry) {
  const auto it = std::find_if(registry.begin(), registry.end(),
                               [&](const RegistryEntry& entry) { return entry.name == name; });
  return it == registry.end() ? nullptr : &*it;
}

}  // namespace

std::string RegistryEntry::file_name() const {
  return member.substr(member.rfind('/') + 1);
}

std::vector<RegistryEntry> parse_registry(std::string_view json, std::string_view source) {
  const Json document = parse_json(json, source);
  if (!document.is_object() || document.size() != 1 || !document.contains("models") ||
      !document["models"].is_array()) {
    throw bad_input(fmt::format("{}: got another form, allowed {{\"models\": [...]}}", source));
  }
  std::vector<RegistryEntry> entries;
  for (const Json& item : document["models"]) {
    const std::string where = fmt::format("{}: /models/{}", source, entries.size());
    RegistryEntry entry = read_entry(item, where);
    if (find_entry(entry.name, entries) != nullptr) {
      throw bad_input(
          fmt::format("{}: name, got {} twice, allowed once", where, quote_text(entry.name)));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::vector<RegistryEntry> builtin_registry() {
  return parse_registry(registry_json(), "configs/models/registry.json");
}

RegistryEntry find_registry_entry(const std::string& name,
                                  const std::vector<RegistryEntry>& registry) {
  const RegistryEntry* entry = find_entry(name, registry);
  if (entry == nullptr) {
    throw bad_input(
        fmt::format("model name, got {}, allowed {}", quote_text(name), known_names(registry)));
  }
  return *entry;
}

std::string default_models_home() {
  // The environment is read before any thread that could change it is started.
  if (const char* home = std::getenv("HEDDLE_HOME"); home != nullptr && *home != '\0') return home;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return (fs::path(home) / ".cache" / "heddle").string();
  }
  const passwd* user = ::getpwuid(::getuid());
  if (user == nullptr || user->pw_dir == nullptr) {
    throw bad_input("HEDDLE_HOME, got nothing (and no HOME), allowed the directory of the models");
  }
  return (fs::path(user->pw_dir) / ".cache" / "heddle").string();
}

ModelFile resolve_model(const std::string& model,
                        const std::string& home,
                        const std::vector<RegistryEntry>& registry,
                        const std::vector<std::string>& places) {
  if (model.find('\0') != std::string::npos) throw bad_input("a file name contains a NUL byte");
  std::error_code ignored;
  const fs::file_status status = fs::status(model, ignored);
  if (fs::exists(status) && !fs::is_directory(status)) {
    const fs::path path(model);
    return {model, path.extension() == ".gguf" ? path.stem().string() : path.filename().string()};
  }
  if (const RegistryEntry* entry = find_entry(model, registry)) {
    if (entry->is_bundled()) return {find_bundled(*entry, places), entry->name};
    const fs::path path = fs::path(home) / entry->file_name();
    if (fs::is_regular_file(path, ignored)) return {path.string(), entry->name};
    throw bad_input(fmt::format("{} is not there yet ({}); fetch it with: heddle pull {}", model,
                                path.string(), model));
  }
  if (fs::is_directory(status)) {
    const fs::path path = fs::path(model).lexically_normal();
    const fs::path last = path.has_filename() ? path.filename() : path.parent_path().filename();
    return {model, last.string()};
  }
  throw bad_input(
      fmt::format("{}: no such file; allowed a .gguf file, a model folder or one of: {}",
                  model.empty() ? "''" : model, known_names(registry)));
}

ModelFile resolve_model(const std::string& model) {
  const std::vector<RegistryEntry> registry = builtin_registry();
  const RegistryEntry* entry = find_entry(model, registry);
  // Only what is pulled needs a home: the rest is found without HOME and a user's name too.
  const bool needs_home = entry != nullptr && !entry->is_bundled();
  return resolve_model(model, needs_home ? default_models_home() : "", registry, bundled_places());
}

}  // namespace heddle
