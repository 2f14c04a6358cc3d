#pragma once
// Byte-pair encoding of one word: the adjacent pair with the lowest merge rank, the leftmost of
// equal ones, becomes one token until no pair has a rank. Source: Sennrich et al. 2016, alg. 1,
// over bytes (Radford et al. 2019).

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "models/tokenizer/vocabulary.h"

namespace heddle {

/// A pair that becomes one token; its index in a list is its rank.
struct Merge {
  TokenId left = -1;
  TokenId right = -1;
  TokenId result = -1;
  bool usable = true;  // false: keeps its rank, is never applied
};

/// (left, right) -> rank in one open addressing table, rank -> merged token in another.
class MergeTable {
 public:
  /// Of equal pairs the last one counts. At most 2^24 merges.
  explicit MergeTable(const std::vector<Merge>& merges);

  static constexpr std::uint32_t kNoMerge = 0xFFFFFFFFU;
  static constexpr std::size_t kMaxMerges = std::size_t{1} << 24U;
  std::uint32_t rank(TokenId left, TokenId right) const;
  TokenId result(std::uint32_t rank) const { return results_[rank]; }

 private:
  struct Slot {
    TokenId left = -1;
    TokenId right = -1;
    std::uint32_t rank = kNoMerge;
  };
  void insert(const Merge& merge, std::uint32_t rank);
  std::size_t home(TokenId left, TokenId right) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::vector<TokenId> results_;
};

/// Immutable but for a memo; safe to share between threads.
class Bpe {
 public:
  /// Buffers of one caller, reused from word to word.
  struct Scratch {
    std::vector<TokenId> ids;  // what the word begins as: one token per byte or character
    std::vector<std::uint32_t> ranks;
    std::vector<std::uint32_t> previous;
    std::vector<std::uint32_t> next;
    std::vector<std::uint64_t> queue;
  };

  /// `whole_words`: a word that is in the vocabulary is that token, whatever the merges would give
  /// (the `ignore_merges` of Llama 3).
  Bpe(MergeTable merges, std::int32_t vocab, bool whole_words);

  /// Appends `whole`, the token that is spelled like the word (-1: none), if it is known to be what
  /// the word becomes. False: scratch.ids must be filled and merge() called.
  bool take_whole(TokenId whole, std::vector<TokenId>& out) const;

  /// Appends what scratch.ids become. O(n log n).
  void merge(TokenId whole, Scratch& scratch, std::vector<TokenId>& out) const;

  const MergeTable& merges() const { return merges_; }

 private:
  enum class Memo : std::uint8_t { kUnknown, kYes, kNo };
  void merge_short(Scratch& scratch, std::vector<TokenId>& out) const;
  void merge_long(Scratch& scratch, std::vector<TokenId>& out) const;

  MergeTable merges_;
  bool whole_words_;
  /// Per token: do the merges turn its spelling into this one token? Found out when first asked;
  /// every thread finds the same, so relaxed atomics do.
  std::unique_ptr<std::atomic<Memo>[]> memo_;
};

/// The merges of a GGUF file, validated. A merge that would make a control token is not usable: no
/// plain text may become one. Throws kBadInput.
std::vector<Merge> read_merges(const TokenizerSpec& spec, const TokenVocabulary& vocabulary);

}  // namespace heddle
