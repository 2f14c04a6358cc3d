#include "models/file_guess.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> heads) {
  return std::any_of(heads.begin(), heads.end(),
                     [&](std::string_view head) { return text.substr(0, head.size()) == head; });
}

constexpr std::size_t kLookedAt = 512;

std::string_view without_space(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? "" : text.substr(first);
}

/// UTF-8 without control characters; the last character may be cut.
bool is_text(std::string_view bytes) {
  std::size_t pos = 0;
  while (pos < bytes.size()) {
    const Utf8Step step = utf8_step(bytes, pos);
    if (!step.valid) return step.truncated;
    const char32_t c = step.code_point;
    if (c == 0x7f || (c < 0x20 && (c < '\t' || c > '\r'))) return false;
    pos += step.length;
  }
  return true;
}

}  // namespace

std::string guess_file(std::span<const std::byte> file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              std::min(file.size(), kLookedAt));
  if (text.empty()) return "an empty file";
  if (starts_with_any(text, {"version https://git-lfs"})) {
    return "a Git LFS pointer (the model itself was not fetched: git lfs pull)";
  }
  if (starts_with_any(without_space(text), {"<!DOCTYPE", "<!doctype", "<html", "<HTML", "<?xml"})) {
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

std::string guess_binary_file(std::span<const std::byte> file) {
  std::string guess = guess_file(file);
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              std::min(file.size(), kLookedAt));
  constexpr std::size_t kFew = 16;  // fewer bytes may look like text by chance
  if (guess.empty() && text.size() >= kFew && is_text(text)) {
    guess = starts_with_any(without_space(text), {"{", "["}) ? "a JSON text" : "a text";
  }
  return guess;
}

}  // namespace heddle
