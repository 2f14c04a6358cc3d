#include "models/tokenizer/token_table.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace heddle {
namespace {

std::uint64_t mix(std::uint64_t value) {
  value *= 0x9E3779B97F4A7C15U;
  return value ^ (value >> 32U);
}

}  // namespace

std::uint64_t hash_bytes(std::string_view bytes) {
  std::uint64_t hash = mix(bytes.size() + 1);
  std::size_t pos = 0;
  for (; pos + sizeof(std::uint64_t) <= bytes.size(); pos += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + pos, sizeof(word));
    hash = mix(hash ^ word);
  }
  std::uint64_t tail = 0;
  for (; pos < bytes.size(); ++pos) tail = (tail << 8U) | static_cast<unsigned char>(bytes[pos]);
  return mix(hash ^ tail);
}

TokenTable::TokenTable(std::size_t count)
    : slots_(std::bit_ceil(std::max<std::size_t>(count * 2, 2))) {}

std::size_t TokenTable::slot_of(std::string_view text, std::uint64_t hash) const {
  const auto tag = static_cast<std::uint32_t>(hash >> 32U);
  std::size_t i = hash & (slots_.size() - 1);
  for (; slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.tag == tag && std::string_view(arena_).substr(slot.begin, slot.size) == text) break;
  }
  return i;
}

TokenId TokenTable::insert(std::string_view text, TokenId id) {
  if (text.empty()) return -1;
  const std::uint64_t hash = hash_bytes(text);
  Slot& slot = slots_[slot_of(text, hash)];
  if (slot.id >= 0) return slot.id;
  slot = {arena_.size(), static_cast<std::uint32_t>(text.size()),
          static_cast<std::uint32_t>(hash >> 32U), id};
  arena_ += text;
  longest_ = std::max(longest_, text.size());
  return -1;
}

TokenId TokenTable::find(std::string_view text) const {
  if (text.empty() || text.size() > longest_) return -1;
  return slots_[slot_of(text, hash_bytes(text))].id;
}

}  // namespace heddle
