#include "tools/serve/api/grammar_store.h"

#include <utility>

#include "tools/serve/api/api_error.h"

namespace heddle::serve {

GrammarPtr GrammarStore::get(const std::string& key, const std::function<GrammarPtr()>& make) {
  {
    const std::scoped_lock lock(mutex_);
    if (const auto it = by_key_.find(key); it != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, it->second);
      return it->second->grammar;
    }
  }
  GrammarPtr grammar = make();
  const std::size_t bytes = grammar->memory_bytes() + 2 * key.size();
  const std::scoped_lock lock(mutex_);
  while (*in_use_ + bytes > most_in_use_ && !entries_.empty()) drop_oldest();
  if (*in_use_ + bytes > most_in_use_) {
    throw ApiError({.status = 429,
                    .code = "rate_limit_exceeded",
                    .message = "the schemas and grammars of waiting requests take all the memory "
                               "that they may; try again later",
                    .retry_after_s = 5});
  }
  grammar = counted(std::move(grammar), bytes);
  if (by_key_.contains(key) || bytes > most_bytes_) return grammar;
  entries_.push_front({key, grammar, bytes});
  by_key_[key] = entries_.begin();
  bytes_ += bytes;
  while (bytes_ > most_bytes_) drop_oldest();
  return grammar;
}

GrammarPtr GrammarStore::counted(GrammarPtr grammar, std::size_t bytes) {
  *in_use_ += bytes;
  const auto* raw = grammar.get();
  return GrammarPtr(raw,
                    [grammar = std::move(grammar), bytes, in_use = in_use_](const auto*) mutable {
                      grammar.reset();
                      *in_use -= bytes;
                    });
}

void GrammarStore::drop_oldest() {
  bytes_ -= entries_.back().bytes;
  by_key_.erase(entries_.back().key);
  entries_.pop_back();
}

std::size_t GrammarStore::bytes() const {
  const std::scoped_lock lock(mutex_);
  return bytes_;
}

}  // namespace heddle::serve
