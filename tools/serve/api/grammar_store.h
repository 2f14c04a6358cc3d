#pragma once
// Compiled grammars of earlier requests, by their source.

#include <cstddef>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <unordered_map>

#include "engine/grammar/grammar.h"

namespace heddle::serve {

/// Bounded in bytes; the least recently used go. For any thread: two that want the same grammar at
/// the same time may both compile it.
class GrammarStore {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{256} << 20U;
  explicit GrammarStore(std::size_t most_bytes = kMostBytes) : most_bytes_(most_bytes) {}
  /// What `make` made for this key before, or makes now; what it throws is not kept.
  GrammarPtr get(const std::string& key, const std::function<GrammarPtr()>& make);
  std::size_t bytes() const;

 private:
  struct Entry {
    std::string key;
    GrammarPtr grammar;
    std::size_t bytes = 0;
  };
  mutable std::mutex mutex_;
  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  std::list<Entry> entries_;  // the last used first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

}  // namespace heddle::serve
