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

/// (left, right) -> rank in one open addressing table, rank -> merged token in another.
class MergeTable {
 public:
  /// Validates the merges. Throws kBadInput. A merge that would make a control token is left out:
  /// no plain text may become one. Of equal merges the last one counts.
  MergeTable(const TokenizerSpec& spec, const TokenVocabulary& vocabulary);

  static constexpr std::uint32_t kNoMerge = 0xFFFFFFFFU;
  std::uint32_t rank(TokenId left, TokenId right) const;
  TokenId result(std::uint32_t rank) const { return results_[rank]; }

 private:
  struct Slot {
    TokenId left = -1;
    TokenId right = -1;
    std::uint32_t rank = kNoMerge;
  };
  void insert(TokenId left, TokenId right, std::uint32_t rank);
  std::size_t home(TokenId left, TokenId right) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::vector<TokenId> results_;
};

/// Immutable but for a memo; safe to share between threads.
class Bpe {
 public:
  /// Buffers of one caller, reused from word to word.
  struct Scratch {
    std::vector<TokenId> ids;
    std::vector<std::uint32_t> ranks;
    std::vector<std::uint32_t> previous;
    std::vector<std::uint32_t> next;
    std::vector<std::uint64_t> queue;
  };

  /// `whole_words`: a word that is in the vocabulary is that token, whatever the merges would give
  /// (the `ignore_merges` of Llama 3). Borrows the vocabulary. Throws kBadInput.
  Bpe(const TokenizerSpec& spec, const TokenVocabulary& vocabulary, bool whole_words);

  /// Appends the tokens of one word. A byte that is not in the vocabulary is left out, as the
  /// reference does for tokenizers without an unknown token. O(n log n).
  void encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const;

  const MergeTable& merges() const { return merges_; }

 private:
  enum class Memo : std::uint8_t { kUnknown, kYes, kNo };
  void merge(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const;
  void merge_short(Scratch& scratch, std::vector<TokenId>& out) const;
  void merge_long(Scratch& scratch, std::vector<TokenId>& out) const;
  bool is_own_result(TokenId id, std::string_view word, Scratch& scratch) const;

  const TokenVocabulary& vocabulary_;
  MergeTable merges_;
  bool whole_words_;
  /// Per token: do the merges turn its bytes into this one token? Found out when first asked; every
  /// thread finds the same, so relaxed atomics do.
  std::unique_ptr<std::atomic<Memo>[]> memo_;
};

}  // namespace heddle
