#pragma once
// --session-dir: conversations on disk, by the session_id of their requests.

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
  /// Throws kBadInput for a folder that is none.
  explicit SessionFolder(std::string path);
  bool on() const { return !path_.empty(); }

  /// The tokens of the session's last answer; the sessions used least recently are forgotten.
  void remember(const std::string& id, std::vector<std::int32_t> tokens);
  /// [{id, saved, bytes, tokens}]
  Json list() const;
  /// Calls `done` on the engine thread with the report, or with an error text.
  using Done = std::function<void(const SessionReport*, const std::string& error, bool missing)>;
  bool save(EngineHost& host, const std::string& id, Done done) const;
  bool restore(EngineHost& host, const std::string& id, Done done) const;
  /// False: there is no such session.
  bool remove(const std::string& id);

 private:
  std::string file_of(const std::string& id) const;
  static constexpr std::size_t kMostTokens = std::size_t{16} << 20U;

  std::string path_;
  mutable std::mutex mutex_;
  std::size_t n_tokens_ = 0;
  std::list<std::string> order_;  // the last used first
  std::map<std::string, std::vector<std::int32_t>> tokens_;
};

}  // namespace heddle::serve
