#pragma once
// Who asks: the keys of --api-key, and the names of their clients.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tools/serve/http/message.h"

namespace heddle::serve {

/// For any thread.
class ApiKeys {
 public:
  /// None: everybody may ask.
  explicit ApiKeys(const std::vector<std::string>& keys);
  /// The name that a key's requests have in queues, caches and session files: of the key alone, in
  /// whatever order keys are given. "" where all are one client's: without keys, and with one.
  /// Throws ApiError 401 without a key of this server. Takes as long for every wrong key.
  std::string client_of(const HttpRequest& request) const;

 private:
  std::vector<std::pair<std::string, std::string>> clients_;  // key, name
};

}  // namespace heddle::serve
