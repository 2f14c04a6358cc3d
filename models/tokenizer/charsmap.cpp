#include "models/tokenizer/charsmap.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

/// Layout of a unit: bits 0-7 label, 8 has a leaf, 9 wide offset, 10-30 offset; of a leaf: value.
std::size_t trie_offset(std::uint32_t unit) {
  return std::size_t{unit >> 10U} << ((unit & (1U << 9U)) >> 6U);
}

}  // namespace

Charsmap::Charsmap(std::string_view blob) {
  const auto fail = [size = blob.size()](std::string_view what) {
    throw bad_input(fmt::format("a character map of {} bytes whose {}", size, what));
  };
  std::uint32_t trie_bytes = 0;
  if (blob.size() < sizeof(trie_bytes)) fail("size is missing");
  std::memcpy(&trie_bytes, blob.data(), sizeof(trie_bytes));
  blob.remove_prefix(sizeof(trie_bytes));
  if (trie_bytes % 4 != 0 || trie_bytes > blob.size()) {
    fail(fmt::format("trie has {} bytes", trie_bytes));
  }
  units_.resize(trie_bytes / 4);
  if (trie_bytes > 0) std::memcpy(units_.data(), blob.data(), trie_bytes);
  replacements_ = blob.substr(trie_bytes);
  if (!is_valid_utf8(replacements_)) fail("replacements are not UTF-8");
  replacements_.push_back('\0');
}

void Charsmap::check_for_library() const {
  // A trie comes in blocks of 256 units; from a unit, any byte leads into the block that its offset
  // names, and the byte 0 to its leaf.
  const auto fail = [](std::string_view what) {
    throw bad_input(fmt::format("a trie that {}", what));
  };
  if (units_.empty() || units_.size() % 256 != 0) {
    fail(fmt::format("has {} units", units_.size()));
  }
  // The last NUL is ours.
  if (replacements_.size() < 2 || replacements_[replacements_.size() - 2] != '\0') {
    fail("has replacements without an end");
  }
  for (std::size_t i = 0; i < units_.size(); ++i) {
    const std::uint32_t unit = units_[i];
    // The value of a leaf; but the first unit is followed before any byte is compared.
    if ((unit >> 31U) != 0 && i != 0) continue;
    const std::size_t to = i ^ trie_offset(unit);
    if ((to | 0xFFU) >= units_.size()) fail(fmt::format("leads outside at unit {}", i));
    if ((unit & (1U << 8U)) == 0) continue;
    const std::size_t value = units_[to] & 0x7FFFFFFFU;
    if (value + 1 >= replacements_.size() ||
        !is_valid_utf8(std::string_view(replacements_.c_str() + value))) {
      fail(fmt::format("has the value {} at unit {}", value, to));
    }
  }
}

bool Charsmap::begins_key(std::string_view text) const {
  std::size_t node = units_.empty() ? 0 : trie_offset(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    node ^= byte;
    if (node >= units_.size() || (units_[node] & ((1U << 31U) | 0xFFU)) != byte) return false;
    node ^= trie_offset(units_[node]);
  }
  return !units_.empty();
}

std::optional<std::string_view> Charsmap::replacement(std::string_view text) const {
  if (units_.empty()) return std::nullopt;
  std::size_t node = trie_offset(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) break;
    node ^= byte;
    if (node >= units_.size()) return std::nullopt;
    const std::uint32_t unit = units_[node];
    if ((unit & ((1U << 31U) | 0xFFU)) != byte) return std::nullopt;
    node ^= trie_offset(unit);
    if ((unit & (1U << 8U)) == 0) continue;
    if (node >= units_.size()) return std::nullopt;
    const std::size_t value = units_[node] & 0x7FFFFFFFU;
    if (value >= replacements_.size()) return std::nullopt;
    const std::string_view found = replacements_.c_str() + value;
    if (!is_valid_utf8(found)) return std::nullopt;  // a value that points into a character
    return found;
  }
  return std::nullopt;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && !text.empty() && text.back() == '=') {
    text.remove_suffix(1);
    ++padding;
  }
  std::string out;
  out.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    std::uint32_t value = 0;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<std::uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<std::uint32_t>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      value = static_cast<std::uint32_t>(c - '0' + 52);
    } else if (c == '+' || c == '/') {
      value = c == '+' ? 62 : 63;
    } else {
      return std::nullopt;
    }
    bits = (bits << 6U) | value;
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    out.push_back(static_cast<char>((bits >> static_cast<unsigned>(n_bits)) & 0xFFU));
  }
  return out;
}

}  // namespace heddle
