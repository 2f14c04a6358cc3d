#pragma once
// What a request's head must be before a lenient parser sees it: RFC 9112 without its tolerances,
// which are where two readers of one connection begin to disagree (request smuggling).

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "tools/serve/limits.h"

namespace heddle::serve {

/// Why a request is not read on: the connection closes after the answer.
struct Refusal {
  int status = 400;
  std::string code;     // of the error object
  std::string message;  // from a fixed catalogue: nothing of the request is quoted
};

/// A request target in two parts: of "http://host:80/a?b" the authority "host:80" and "/a?b" ("/"
/// where it has no path); of any other the authority is empty. Source: RFC 9112, section 3.2.2.
struct TargetParts {
  std::string_view authority = {};
  std::string_view rest;
};
TargetParts target_parts(std::string_view target);

/// A head that holds more than is checked here.
struct HeadFacts {
  std::size_t content_length = 0;
  bool chunked = false;
  bool expects_continue = false;
};

struct HeadCheck {
  std::optional<Refusal> refusal = {};
  HeadFacts facts = {};
};

/// Looks at the begin of a head that is not complete yet, of which the first n_checked bytes have
/// been looked at before: a refusal that more bytes cannot mend.
std::optional<Refusal> check_partial_head(std::string_view bytes,
                                          std::size_t n_checked,
                                          const ServerLimits& limits);

/// `head`: the request line, all header lines, and the empty line, each with its CRLF.
HeadCheck check_head(std::string_view head, const ServerLimits& limits);

}  // namespace heddle::serve
