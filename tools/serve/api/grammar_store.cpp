#include "tools/serve/api/grammar_store.h"

#include <utility>

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
  if (by_key_.contains(key) || bytes > most_bytes_) return grammar;
  entries_.push_front({key, grammar, bytes});
  by_key_[key] = entries_.begin();
  bytes_ += bytes;
  while (bytes_ > most_bytes_) {
    bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  return grammar;
}

std::size_t GrammarStore::bytes() const {
  const std::scoped_lock lock(mutex_);
  return bytes_;
}

}  // namespace heddle::serve
