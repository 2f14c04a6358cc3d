#include "models/file_guess.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace heddle {
namespace {

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> heads) {
  return std::any_of(heads.begin(), heads.end(),
                     [&](std::string_view head) { return text.substr(0, head.size()) == head; });
}

}  // namespace

std::string guess_file(std::span<const std::byte> file) {
  constexpr std::size_t kLookedAt = 512;
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              std::min(file.size(), kLookedAt));
  if (text.empty()) return "an empty file";
  if (starts_with_any(text, {"version https://git-lfs"})) {
    return "a Git LFS pointer (the model itself was not fetched: git lfs pull)";
  }
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const std::string_view body = first == std::string_view::npos ? "" : text.substr(first);
  if (starts_with_any(body, {"<!DOCTYPE", "<!doctype", "<html", "<HTML", "<?xml"})) {
    return "an HTML page (a download that went wrong)";
  }
  if (starts_with_any(text, {"PK\x03\x04"})) {
    return "a zip archive or PyTorch checkpoint (a Python pickle, never read: it can run code)";
  }
  if (starts_with_any(text, {"\x80\x02", "\x80\x03", "\x80\x04", "\x80\x05"})) {
    return "a Python pickle (never read: it can run code)";
  }
  if (starts_with_any(text, {"GGUF"})) return "a GGUF file";
  if (starts_with_any(text, {"FUGG"})) return "big-endian GGUF";
  if (starts_with_any(text, {"ggml", "ggjt", "lmgg", "tjgg"})) {
    return "a GGML file from before GGUF";
  }
  return "";
}

}  // namespace heddle
