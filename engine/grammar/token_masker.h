#pragma once
// Which tokens may come next in a text that a grammar bounds.

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar/grammar.h"
#include "engine/grammar/token_mask.h"
#include "engine/grammar/token_trie.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

class GrammarCache;

/// A vocabulary, prepared once for an engine, and what its grammars have learned of it: for each
/// grammar as long as it is alive one cache of at most cache_bytes, shared by all requests that use
/// it. Threads may share it.
class TokenMasker {
 public:
  static constexpr std::size_t kCacheBytes = 64U << 20U;

  /// `end_tokens` end a text; they are allowed where it is complete. Other control tokens, and
  /// tokens without text, never are.
  TokenMasker(const Tokenizer& tokenizer,
              std::span<const TokenId> end_tokens,
              std::size_t cache_bytes = kCacheBytes);
  /// Of the texts themselves (tests); "" for tokens without any.
  TokenMasker(const std::vector<std::string>& texts,
              std::span<const TokenId> end_tokens,
              std::size_t cache_bytes = kCacheBytes);
  ~TokenMasker();

  std::int64_t vocab() const { return trie_.n_tokens(); }
  const TokenTrie& trie() const { return trie_; }
  bool is_end(TokenId token) const;
  std::span<const TokenId> end_tokens() const { return end_tokens_; }

  /// The cache of a grammar.
  std::shared_ptr<GrammarCache> cache_of(const GrammarPtr& grammar) const;

 private:
  struct Known {
    std::weak_ptr<const Grammar> grammar;
    std::shared_ptr<GrammarCache> cache;
  };
  TokenTrie trie_;
  std::vector<TokenId> end_tokens_;
  std::size_t cache_bytes_;
  mutable std::mutex mutex_;
  mutable std::list<Known> known_;  // the last used first
};

/// Where one text stands in its grammar. A matcher is used by one thread at a time; matchers of one
/// grammar by several.
class GrammarMatcher {
 public:
  /// The masker must outlive it.
  GrammarMatcher(const TokenMasker& masker, GrammarPtr grammar);
  ~GrammarMatcher();
  GrammarMatcher(const GrammarMatcher&) = delete;
  GrammarMatcher& operator=(const GrammarMatcher&) = delete;

  /// Goes on by a token. False: it is not allowed, and nothing changes.
  bool accept(TokenId token);
  /// Goes on by a text, which tokens need not make. False: it cannot, and nothing changes.
  bool accept_text(std::string_view text);
  /// Sets `mask`, which has the vocabulary's size, to the tokens that accept() would take. Throws
  /// kRuntime where that takes too much: the grammar is too ambiguous or its text too deep.
  void fill(TokenMask& mask);
  /// The text may end here.
  bool complete() const { return complete_; }
  /// It must: nothing can follow, or an end token was accepted.
  bool finished() const { return ended_ || (complete_ && !open_); }

 private:
  void update();

  const TokenMasker* masker_;
  GrammarPtr grammar_;
  std::shared_ptr<GrammarCache> cache_;
  std::uint32_t slot_ = 0;  // of the cache
  bool complete_ = false;
  bool open_ = true;
  bool ended_ = false;
};

}  // namespace heddle
