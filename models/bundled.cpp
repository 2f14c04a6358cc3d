#include "models/bundled.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "base/error.h"
#include "models/registry_data.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;

/// What `folder` lacks of `files`, "" if nothing.
std::string lack_of(const fs::path& folder, const std::vector<std::string>& files) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return "no such folder";
  std::string lack;
  for (const std::string& file : files) {
    if (fs::is_regular_file(folder / file, ignored)) continue;
    lack += (lack.empty() ? "without " : ", ") + file;
  }
  return lack;
}

}  // namespace

std::vector<std::string> bundled_places(const std::string& data, const std::string& executable) {
  if (!data.empty()) return {(fs::path(data) / "models").string()};
  if (executable.empty()) return {};
  const fs::path bin = fs::path(executable).parent_path();
  const auto models_in = [&](std::string_view place) {
    return (bin / place / "models").lexically_normal().string();
  };
  // The tree's own first: a prefix may happen to lie around a build tree.
  return {models_in("share/heddle"), models_in(data_from_bin())};
}

std::vector<std::string> bundled_places() {
  const char* data = std::getenv("HEDDLE_DATA");
  std::error_code ignored;
  const fs::path executable = fs::read_symlink("/proc/self/exe", ignored);
  return bundled_places(data != nullptr ? data : "", executable.string());
}

std::string find_bundled(const RegistryEntry& entry, const std::vector<std::string>& places) {
  std::string looked_in;
  for (const std::string& place : places) {
    const fs::path folder = fs::path(place) / entry.folder;
    const std::string lack = lack_of(folder, entry.files);
    if (lack.empty()) {
      std::error_code error;
      const fs::path real = fs::canonical(folder, error);
      return (error ? folder : real).string();
    }
    looked_in += fmt::format("{}{} ({})", looked_in.empty() ? "" : ", ", folder.string(), lack);
  }
  if (places.empty()) looked_in = "no place (the program's own path is unknown)";
  throw bad_input(
      fmt::format("{} comes with Heddle, got no complete folder of it in {}, allowed one with {}; "
                  "HEDDLE_DATA may name the folder of models/{}",
                  entry.name, looked_in, fmt::join(entry.files, ", "), entry.folder));
}

}  // namespace heddle
