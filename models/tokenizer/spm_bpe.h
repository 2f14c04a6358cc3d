#pragma once
// SentencePiece's BPE: the adjacent pair whose joined text has the greatest score becomes one
// piece, the leftmost of equal ones, until no joined text is a piece. Source: Kudo and Richardson
// 2018.

#include <cstdint>
#include <string_view>
#include <vector>

#include "models/tokenizer/spm_pieces.h"
#include "models/tokenizer/token_table.h"

namespace heddle {

/// Immutable; borrows the pieces.
class SpmBpe {
 public:
  static constexpr std::size_t kMaxPiece = 1024;  // bytes; bounds the work per pair
  /// `scores` per id. Pieces of the kinds normal, user-defined and unused take part; an unused one
  /// is taken apart again in the end. Of equal texts the first counts.
  SpmBpe(const SpmPieces& pieces, std::vector<float> scores);

  /// Appends the tokens of a text (valid UTF-8, spaces as U+2581). Characters without a piece
  /// become bytes if all of their bytes have tokens, else the unknown token, one for a run of them;
  /// without an unknown token they are left out. O(n log n).
  void encode(std::string_view text, TokenId unknown, std::vector<TokenId>& out) const;

 private:
  struct Symbol {
    std::size_t begin = 0, size = 0;  // size 0: joined to its left neighbour
    std::int32_t previous = -1, next = -1;
  };
  struct Pair {
    float score = 0.0F;
    std::int32_t left = -1, right = -1;
    std::size_t size = 0;
    std::size_t half = 0;  // size of the left one
    bool operator<(const Pair& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };
  struct State;
  void consider(std::int32_t left, std::int32_t right, State& state) const;
  void merge(State& state) const;
  void put(std::string_view text, State& state, std::vector<TokenId>& out) const;

  const SpmPieces& pieces_;
  std::vector<float> scores_;
  TokenTable ids_;
};

}  // namespace heddle
