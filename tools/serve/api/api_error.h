#pragma once
// What a request is refused with: OpenAI's error object. docs/api.md lists the codes.

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "tools/serve/http/head_check.h"
#include "tools/serve/http/message.h"

namespace heddle::serve {

struct ApiErrorSpec {
  int status = 400;
  std::string code;  // "invalid_value"
  std::string message;
  std::string param = {};    // the field, "" none: null in JSON
  int retry_after_s = 0;     // > 0: header Retry-After
  bool never_retry = false;  // the same request fails again: x-should-retry: false
};

/// Thrown by what reads a request, caught where its answer is decided.
class ApiError : public Error {
 public:
  explicit ApiError(ApiErrorSpec spec)
      : Error(ErrorKind::kBadInput, spec.message), spec_(std::move(spec)) {}
  const ApiErrorSpec& spec() const { return spec_; }

 private:
  ApiErrorSpec spec_;
};

ApiError invalid_value(std::string_view param, const std::string& message);
ApiError invalid_type(std::string_view param, const std::string& message);
ApiError unsupported(std::string_view param, const std::string& message);

/// "invalid_request_error", "authentication_error", ...: follows from the status.
std::string_view error_type(int status);
/// {"error": {message, type, param, code}}
std::string error_body(const ApiErrorSpec& spec);
HttpReply error_reply(const ApiErrorSpec& spec);
/// Of what never became a request.
HttpReply refusal_reply(const Refusal& refusal);

/// A JSON string literal, also safe where lines are split by Unicode's rules: U+0085, U+2028 and
/// U+2029 are escaped.
void append_quoted(std::string& out, std::string_view text);
std::string json_string(std::string_view text);
/// Compact, in the same sense.
std::string to_text(const Json& value);
HttpReply json_reply(const Json& value);

}  // namespace heddle::serve
