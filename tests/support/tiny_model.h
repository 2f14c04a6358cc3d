#pragma once
// Checkpoints of tools/make_tiny_model.py. Needs the definitions HEDDLE_PYTHON and
// HEDDLE_SOURCE_DIR.

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/temp_folder.h"

namespace heddle::test {

/// A tiny checkpoint in a folder of its own.
class TinyModel {
 public:
  TinyModel(const std::vector<std::string>& arguments, const std::string& format) {
    std::string command =
        std::string(HEDDLE_PYTHON) + " -B '" +
        (std::filesystem::path(HEDDLE_SOURCE_DIR) / "tools/make_tiny_model.py").string() +
        "' --format " + format + " --out '" + folder_.path() + "'";
    for (const std::string& argument : arguments) command += " " + argument;
    if (std::system((command + " > /dev/null").c_str()) != 0) {
      throw std::runtime_error("failed: " + command);
    }
  }

  std::string path() const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path())) {
      if (entry.path().extension() == ".gguf") return entry.path().string();
    }
    return folder_.path();
  }

 private:
  TempFolder folder_;
};

}  // namespace heddle::test
