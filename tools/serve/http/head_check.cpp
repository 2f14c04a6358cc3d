#include "tools/serve/http/head_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace heddle::serve {
namespace {

bool is_token_char(char c) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         kOthers.find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, is_token_char);
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

Refusal bad(std::string message) {
  return {400, "bad_request", std::move(message)};
}

bool is_host(std::string_view text) {
  return std::ranges::none_of(text, [](char c) {
    return c <= 0x20 || c >= 0x7f || c == '/' || c == '?' || c == '#' || c == '@' || c == '\\';
  });
}

std::optional<Refusal> check_target(std::string_view method,
                                    std::string_view target,
                                    const ServerLimits& limits) {
  if (target.size() > limits.target_bytes) {
    return Refusal{414, "uri_too_long",
                   fmt::format("the request target has {} bytes, allowed {}", target.size(),
                               limits.target_bytes)};
  }
  if (target == "*" && method == "OPTIONS") return std::nullopt;
  const TargetParts parts = target_parts(target);
  if (!parts.rest.starts_with('/') || !is_host(parts.authority)) {
    return bad("the request target must be a path that begins with '/', or http://HOST and a path");
  }
  const bool visible = std::ranges::all_of(target, [](char c) { return c > 0x20 && c < 0x7f; });
  if (!visible) return bad("the request target holds a character that a URL may not have");
  return std::nullopt;
}

std::optional<Refusal> check_request_line(std::string_view line, const ServerLimits& limits) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return bad("the request line is not METHOD TARGET HTTP/1.1");
  }
  const std::string_view method = line.substr(0, first);
  if (method.size() > 32 || !is_token(method)) return bad("the method is not a token");
  const std::string_view version = line.substr(last + 1);
  if (!version.starts_with("HTTP/") || version.size() != 8) {
    return bad("the request line is not METHOD TARGET HTTP/1.1");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return Refusal{505, "http_version", "this server speaks HTTP/1.1 and HTTP/1.0"};
  }
  return check_target(method, line.substr(first + 1, last - first - 1), limits);
}

/// Collects what may be there once only.
class HeaderLines {
 public:
  explicit HeaderLines(const ServerLimits& limits, bool http_1_0)
      : limits_(limits), http_1_0_(http_1_0) {}

  std::optional<Refusal> add(std::string_view line) {
    if (++n_ > limits_.header_lines) {
      return Refusal{431, "header_too_large",
                     fmt::format("more than {} header lines", limits_.header_lines)};
    }
    if (line.front() == ' ' || line.front() == '\t') return bad("a folded header line");
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
      return bad("a header line that is not NAME: VALUE");
    }
    const std::string_view value = trimmed(line.substr(colon + 1));
    const bool clean = std::ranges::none_of(
        value, [](char c) { return (c >= 0 && c < 0x20 && c != '\t') || c == 0x7f; });
    if (!clean) return bad("a header value with a control character");
    return add(line.substr(0, colon), value);
  }

  std::optional<Refusal> check_all() const {
    if (n_hosts_ == 0 && !http_1_0_) return bad("the Host header is missing");
    if (n_lengths_ > 0 && facts.chunked) {
      return bad("both Content-Length and Transfer-Encoding");
    }
    return std::nullopt;
  }

  HeadFacts facts = {};

 private:
  std::optional<Refusal> add(std::string_view name, std::string_view value) {
    if (equals_ignoring_case(name, "host")) return add_host(value);
    if (equals_ignoring_case(name, "content-length")) return add_length(value);
    if (equals_ignoring_case(name, "transfer-encoding")) return add_coding(value);
    if (equals_ignoring_case(name, "authorization") && ++n_authorizations_ > 1) {
      return bad("more than one Authorization header");
    }
    if (equals_ignoring_case(name, "content-type") && ++n_types_ > 1) {
      return bad("more than one Content-Type");
    }
    if (equals_ignoring_case(name, "expect")) {
      if (!equals_ignoring_case(value, "100-continue")) {
        return Refusal{417, "expectation_failed", "Expect may be 100-continue only"};
      }
      facts.expects_continue = !http_1_0_;
    }
    if (equals_ignoring_case(name, "content-encoding") &&
        !equals_ignoring_case(value, "identity")) {
      return Refusal{415, "unsupported_encoding", "a body with a content encoding is not read"};
    }
    if (equals_ignoring_case(name, "upgrade") && equals_ignoring_case(value, "websocket")) {
      return bad("there are no WebSockets here");
    }
    return std::nullopt;
  }

  std::optional<Refusal> add_host(std::string_view value) {
    if (++n_hosts_ > 1) return bad("more than one Host header");
    if (!is_host(value)) return bad("the Host header is not a host");
    return std::nullopt;
  }

  std::optional<Refusal> add_length(std::string_view value) {
    if (++n_lengths_ > 1) return bad("more than one Content-Length");
    const bool digits =
        !value.empty() && std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) return bad("Content-Length is not a number");
    const auto read =
        std::from_chars(value.data(), value.data() + value.size(), facts.content_length);
    if (read.ec != std::errc() || facts.content_length > limits_.body_bytes) {
      return Refusal{413, "body_too_large",
                     fmt::format("the body is larger than {} bytes", limits_.body_bytes)};
    }
    return std::nullopt;
  }

  std::optional<Refusal> add_coding(std::string_view value) {
    if (facts.chunked) return bad("more than one Transfer-Encoding");
    if (http_1_0_) return bad("Transfer-Encoding in HTTP/1.0");
    if (!equals_ignoring_case(value, "chunked")) {
      return Refusal{501, "unsupported_encoding", "Transfer-Encoding may be chunked only"};
    }
    facts.chunked = true;
    return std::nullopt;
  }

  const ServerLimits& limits_;
  bool http_1_0_;
  int n_ = 0;
  int n_hosts_ = 0;
  int n_authorizations_ = 0;
  int n_types_ = 0;
  int n_lengths_ = 0;
};

Refusal too_large(const ServerLimits& limits) {
  return {431, "header_too_large",
          fmt::format("the header is larger than {} bytes", limits.header_bytes)};
}

}  // namespace

std::optional<Refusal> check_partial_head(std::string_view bytes,
                                          std::size_t n_checked,
                                          const ServerLimits& limits) {
  for (std::size_t i = n_checked == 0 ? 0 : n_checked - 1; i < bytes.size(); ++i) {
    if (bytes[i] == '\0') return bad("a NUL byte in the header");
    if (bytes[i] == '\n' && (i == 0 || bytes[i - 1] != '\r')) {
      return bad("a line of the header that does not end with CR LF");
    }
    if (bytes[i] == '\r' && i + 1 < bytes.size() && bytes[i + 1] != '\n') {
      return bad("a CR in the header that no LF follows");
    }
  }
  // What no line of HTTP begins with: a TLS hello, or the preface of HTTP/2.
  if (!bytes.empty() && bytes[0] == 0x16) return bad("this port does not speak TLS");
  const std::size_t line = std::min(bytes.find('\r'), bytes.size());
  if (line > limits.target_bytes + 64) {
    return Refusal{414, "uri_too_long", "the request line is too long"};
  }
  if (bytes.size() > limits.header_bytes) return too_large(limits);
  return std::nullopt;
}

TargetParts target_parts(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!equals_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
    const std::string_view behind = target.substr(scheme.size());
    const std::size_t end = std::min(behind.find_first_of("/?"), behind.size());
    if (end == 0) break;  // there is no host
    const std::string_view rest = behind.substr(end);
    return {.authority = behind.substr(0, end), .rest = rest.empty() ? "/" : rest};
  }
  return {.rest = target};
}

HeadCheck check_head(std::string_view head, const ServerLimits& limits) {
  if (auto refusal = check_partial_head(head, 0, limits)) return {.refusal = std::move(refusal)};
  const std::size_t end = head.find("\r\n");
  const std::string_view request_line = head.substr(0, end);
  if (auto refusal = check_request_line(request_line, limits)) {
    return {.refusal = std::move(refusal)};
  }
  HeaderLines lines(limits, request_line.ends_with("1.0"));
  for (std::size_t begin = end + 2; begin + 2 < head.size();) {
    const std::size_t stop = head.find("\r\n", begin);
    if (auto refusal = lines.add(head.substr(begin, stop - begin))) {
      return {.refusal = std::move(refusal)};
    }
    begin = stop + 2;
  }
  return {.refusal = lines.check_all(), .facts = lines.facts};
}

}  // namespace heddle::serve
