#include "tools/serve/api_keys.h"

#include <algorithm>
#include <cstddef>

#include "base/sha256.h"
#include "tools/serve/api/api_error.h"

namespace heddle::serve {
namespace {

constexpr std::size_t kNameDigits = 16;  // of the key's hash

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0U : 1U;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char other = b.empty() ? '\0' : b[i % b.size()];
    difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i] ^ other));
  }
  return difference == 0;
}

/// "" of another scheme than Bearer.
std::string_view bearer_key(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  const bool bearer = header.size() > kScheme.size() &&
                      std::ranges::equal(header.substr(0, kScheme.size()), kScheme, {}, [](char c) {
                        return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
                      });
  return bearer ? header.substr(kScheme.size()) : std::string_view();
}

}  // namespace

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    clients_.emplace_back(key, "key-" + sha256_hex(key).substr(0, kNameDigits));
  }
}

std::string ApiKeys::client_of(const HttpRequest& request) const {
  if (clients_.empty()) return "";
  const std::string_view header = request.header("authorization").value_or("");
  const std::string_view key = bearer_key(header);
  const std::string* found = nullptr;
  for (const auto& [known, client] : clients_) {
    if (equal_in_constant_time(known, key)) found = &client;
  }
  if (found == nullptr) {
    throw ApiError({.status = 401,
                    .code = "invalid_api_key",
                    .message = header.empty() ? "an API key is needed: Authorization: Bearer KEY"
                                              : "the API key is not one of this server's"});
  }
  return clients_.size() > 1 ? *found : "";
}

}  // namespace heddle::serve
