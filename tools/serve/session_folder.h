#pragma once
// --session-dir: conversations on disk, by the session_id of their requests. A client
// (Request::client) has its own; its files are ID.session without a name, else ID@CLIENT.session.

#include <compare>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/json.h"
#include "tools/serve/engine_host.h"

namespace heddle::serve {

/// For any thread.
class SessionFolder {
 public:
  /// Throws kBadInput for a folder that is none, or takes no files.
  explicit SessionFolder(std::string path);
  static constexpr std::size_t kMostSessions = 1024;  // remembered
  static constexpr std::size_t kMostTokens = std::size_t{16} << 20U;
  bool on() const { return !path_.empty(); }

  /// A client and one of its ids.
  struct Key {
    std::string client;
    std::string id;
    auto operator<=>(const Key&) const = default;
  };
  /// The tokens of the session's last answer; the sessions used least recently are forgotten.
  void remember(const Key& key, std::vector<std::int32_t> tokens);
  /// A client's sessions: [{id, saved, bytes, tokens}]
  Json list(const std::string& client) const;
  /// Calls `done` on the engine thread with the report, or with an error text.
  using Done = std::function<void(const SessionReport*, const std::string& error, bool missing)>;
  bool save(EngineHost& host, const Key& key, Done done) const;
  bool restore(EngineHost& host, const Key& key, Done done) const;
  /// False: there is no such session.
  bool remove(const Key& key);

 private:
  std::string file_of(const Key& key) const;

  std::string path_;
  mutable std::mutex mutex_;
  std::size_t n_tokens_ = 0;
  std::list<Key> order_;  // the last used first
  std::map<Key, std::vector<std::int32_t>> tokens_;
};

}  // namespace heddle::serve
