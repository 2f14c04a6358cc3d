#pragma once
// Unigram language model: of all ways to cut a word into pieces the one with the greatest sum of
// scores (Viterbi). Source: Kudo 2018, sec. 3.2. Ties, unknown characters and the order of the
// sums are those of the `tokenizers` package.

#include <cstdint>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace heddle {

struct UnigramPiece {
  std::string_view text;  // valid UTF-8, at most Unigram::kMaxPiece bytes
  TokenId id = -1;
  double score = 0.0;
  bool usable = true;  // false: counts for the score of unknown characters only
};

/// Immutable; safe to share between threads.
class Unigram {
 public:
  static constexpr std::size_t kMaxPiece = 512;  // bounds the work per position
  struct Options {
    TokenId unknown = -1;              // -1: none; a text that needs it is refused
    std::vector<TokenId> byte_tokens;  // 256, or empty: no byte fallback
  };
  struct Scratch {
    struct Node {
      TokenId id = -1;
      double score = 0.0;
      std::size_t begin = kNowhere;
    };
    static constexpr std::size_t kNowhere = static_cast<std::size_t>(-1);
    std::vector<Node> nodes;
    std::vector<TokenId> reversed;
  };

  Unigram(const std::vector<UnigramPiece>& pieces, Options options);

  /// Appends the tokens of a word (valid UTF-8). Throws kBadInput where an unknown token is needed
  /// and there is none.
  void encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const;

 private:
  struct Slot {  // an edge of the trie
    std::uint64_t key = kFree;
    std::uint32_t child = 0;
  };
  struct Leaf {
    TokenId id = -1;
    double score = 0.0;
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  std::uint32_t child(std::uint32_t node, unsigned char byte) const;  // 0: none
  void insert(const UnigramPiece& piece);
  void find_best(std::string_view word, Scratch& scratch) const;
  void append_unknown(std::string_view run, std::vector<TokenId>& reversed) const;

  Options options_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  std::vector<Leaf> leaves_;
  double unknown_score_ = 0.0;
};

}  // namespace heddle
