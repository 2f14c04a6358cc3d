#pragma once
// Compiled grammars of earlier requests, by their source.

#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "engine/grammar/grammar.h"

namespace heddle::serve {

/// Bounded in bytes; the least recently used go. So is what is handed out and still in use, by
/// requests that wait or run. For any thread: two that want the same grammar at the same time may
/// both compile it.
class GrammarStore {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{256} << 20U;
  static constexpr std::size_t kMostBytesInUse = std::size_t{512} << 20U;
  explicit GrammarStore(std::size_t most_bytes = kMostBytes,
                        std::size_t most_bytes_in_use = kMostBytesInUse)
      : most_bytes_(most_bytes), most_in_use_(most_bytes_in_use) {}
  /// What `make` made for this key before, or makes now; what it throws is not kept. Throws
  /// ApiError 429 where those in use leave no room.
  GrammarPtr get(const std::string& key, const std::function<GrammarPtr()>& make);
  std::size_t bytes() const;
  std::size_t bytes_in_use() const { return *in_use_; }

 private:
  GrammarPtr counted(GrammarPtr grammar, std::size_t bytes);
  void drop_oldest();  // under the mutex

  struct Entry {
    std::string key;
    GrammarPtr grammar;
    std::size_t bytes = 0;
  };
  mutable std::mutex mutex_;
  std::size_t most_bytes_;
  std::size_t most_in_use_;
  std::size_t bytes_ = 0;
  /// Of all grammars that anybody holds, this store too.
  std::shared_ptr<std::atomic<std::size_t>> in_use_ = std::make_shared<std::atomic<std::size_t>>(0);
  std::list<Entry> entries_;  // the last used first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

}  // namespace heddle::serve
