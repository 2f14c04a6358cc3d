#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace heddle {

std::uint64_t hash_bytes(std::string_view bytes);

/// Texts -> token ids, in one arena and one open addressing table.
class TokenTable {
 public:
  /// Room for `count` texts; more must not be inserted.
  explicit TokenTable(std::size_t count);
  /// The id that the text already has, else -1 and it is inserted. The empty text is never found.
  TokenId insert(std::string_view text, TokenId id);
  TokenId find(std::string_view text) const;  // -1: absent

 private:
  struct Slot {
    std::uint64_t begin = 0;
    std::uint32_t size = 0;
    std::uint32_t tag = 0;
    TokenId id = -1;
  };
  std::size_t slot_of(std::string_view text, std::uint64_t hash) const;

  std::string arena_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  std::size_t longest_ = 0;
};

}  // namespace heddle
