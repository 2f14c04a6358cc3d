#include "engine/grammar/token_masker.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "engine/grammar/grammar_cache.h"

namespace heddle {
namespace {

std::vector<std::string> texts_of(const Tokenizer& tokenizer, std::span<const TokenId> ends) {
  std::vector<std::string> texts(static_cast<std::size_t>(tokenizer.vocab_size()));
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool end = std::ranges::find(ends, id) != ends.end();
    if (!end && !tokenizer.is_control(id)) {
      texts[static_cast<std::size_t>(id)] = tokenizer.token_bytes(id);
    }
  }
  return texts;
}

}  // namespace

TokenMasker::TokenMasker(const std::vector<std::string>& texts,
                         std::span<const TokenId> end_tokens,
                         std::size_t cache_bytes)
    : trie_(texts), end_tokens_(end_tokens.begin(), end_tokens.end()), cache_bytes_(cache_bytes) {}

TokenMasker::TokenMasker(const Tokenizer& tokenizer,
                         std::span<const TokenId> end_tokens,
                         std::size_t cache_bytes)
    : TokenMasker(texts_of(tokenizer, end_tokens), end_tokens, cache_bytes) {}

TokenMasker::~TokenMasker() = default;

bool TokenMasker::is_end(TokenId token) const {
  return std::ranges::find(end_tokens_, token) != end_tokens_.end();
}

std::shared_ptr<GrammarCache> TokenMasker::cache_of(const GrammarPtr& grammar) const {
  // Grammars that only their owner keeps for later: so many caches stay.
  constexpr std::size_t kMostIdle = 8;
  const std::lock_guard lock(mutex_);
  known_.remove_if([](const Known& known) { return known.grammar.expired(); });
  auto it = std::ranges::find_if(
      known_, [&](const Known& known) { return known.grammar.lock() == grammar; });
  if (it == known_.end()) {
    it = known_.insert(known_.begin(), {grammar, std::make_shared<GrammarCache>(
                                                     grammar->program(), trie_, cache_bytes_)});
  }
  known_.splice(known_.begin(), known_, it);
  std::shared_ptr<GrammarCache> cache = it->cache;
  std::size_t n_idle = 0;
  known_.remove_if(
      [&](const Known& known) { return known.cache.use_count() == 1 && ++n_idle > kMostIdle; });
  return cache;
}

GrammarMatcher::GrammarMatcher(const TokenMasker& masker, GrammarPtr grammar)
    : masker_(&masker),
      grammar_(std::move(grammar)),
      cache_(masker.cache_of(grammar_)),
      slot_(cache_->enter()) {
  update();
}

GrammarMatcher::~GrammarMatcher() {
  cache_->leave(slot_);
}

void GrammarMatcher::update() {
  const GrammarCache::Place place = cache_->place(slot_);
  complete_ = place.complete;
  open_ = place.open;
}

bool GrammarMatcher::accept(TokenId token) {
  HEDDLE_CHECK(token >= 0 && token < masker_->vocab());
  if (ended_) return false;
  if (masker_->is_end(token)) {
    ended_ = complete_;
    return ended_;
  }
  const std::string_view text = masker_->trie().text(token);
  return !text.empty() && accept_text(text);
}

bool GrammarMatcher::accept_text(std::string_view text) {
  if (ended_ || !cache_->advance(slot_, text)) return false;
  update();
  return true;
}

void GrammarMatcher::fill(TokenMask& mask) {
  if (ended_) {
    mask = TokenMask(masker_->vocab());
    return;
  }
  cache_->fill(slot_, mask);
  if (!complete_) return;
  for (const TokenId end : masker_->end_tokens()) mask.set(end);
}

}  // namespace heddle
