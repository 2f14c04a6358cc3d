#pragma once
#include <cstdlib>
#include <filesystem>
#include <string>

namespace heddle::test {

/// The default model's file, or "" where it is absent (tests that need it skip visibly).
inline std::string default_model() {
  const auto from = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  std::string path = from("HEDDLE_TEST_MODEL");
  if (path.empty()) {
    const std::string home = from("HEDDLE_HOME");
    path = (home.empty() ? from("HOME") + "/.cache/heddle" : home) +
           "/SmolLM2-135M-Instruct.Q4_1.gguf";
  }
  return std::filesystem::exists(path) ? path : "";
}

}  // namespace heddle::test
