#include "tools/serve/api/api_error.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

namespace heddle::serve {
namespace {

/// UTF-8 of the line ends that JSON does not escape.
std::string_view unicode_line_end(std::string_view text, std::size_t at) {
  if (text.substr(at, 2) == "\xC2\x85") return "\\u0085";
  if (text.substr(at, 3) == "\xE2\x80\xA8") return "\\u2028";
  if (text.substr(at, 3) == "\xE2\x80\xA9") return "\\u2029";
  return {};
}

std::string without_line_ends(std::string text) {
  std::size_t at = text.find_first_of("\xC2\xE2");
  while (at != std::string::npos) {
    if (const std::string_view escape = unicode_line_end(text, at); !escape.empty()) {
      text.replace(at, text[at] == '\xC2' ? 2 : 3, escape);
    }
    at = text.find_first_of("\xC2\xE2", at + 1);
  }
  return text;
}

}  // namespace

void append_quoted(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += "\\u00";
      out += kHex[static_cast<unsigned char>(c) >> 4U];
      out += kHex[static_cast<unsigned char>(c) & 15U];
    } else if (c == '\xC2' || c == '\xE2') {
      const std::string_view escape = unicode_line_end(text, i);
      if (escape.empty()) {
        out += c;
      } else {
        out += escape;
        i += c == '\xC2' ? 1 : 2;
      }
    } else {
      out += c;
    }
  }
  out += '"';
}

std::string json_string(std::string_view text) {
  std::string out;
  append_quoted(out, text);
  return out;
}

std::string to_text(const Json& value) {
  return without_line_ends(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

HttpReply json_reply(const Json& value) {
  return {.headers = {{"content-type", "application/json"}}, .body = to_text(value)};
}

ApiError invalid_value(std::string_view param, const std::string& message) {
  return ApiError({.code = "invalid_value", .message = message, .param = std::string(param)});
}

ApiError invalid_type(std::string_view param, const std::string& message) {
  return ApiError({.code = "invalid_type", .message = message, .param = std::string(param)});
}

ApiError unsupported(std::string_view param, const std::string& message) {
  return ApiError(
      {.code = "unsupported_parameter", .message = message, .param = std::string(param)});
}

std::string_view error_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  if (status == 503) return "service_unavailable_error";
  return status >= 500 && status != 501 && status != 505 ? "server_error" : "invalid_request_error";
}

std::string error_body(const ApiErrorSpec& spec) {
  Json error{{"message", spec.message},
             {"type", error_type(spec.status)},
             {"param", spec.param.empty() ? Json(nullptr) : Json(spec.param)},
             {"code", spec.code}};
  return to_text({{"error", std::move(error)}});
}

HttpReply error_reply(const ApiErrorSpec& spec) {
  HttpReply reply{.status = spec.status,
                  .headers = {{"content-type", "application/json"}},
                  .body = error_body(spec)};
  if (spec.retry_after_s > 0) {
    reply.headers.emplace_back("retry-after", std::to_string(spec.retry_after_s));
  }
  if (spec.status == 401) reply.headers.emplace_back("www-authenticate", "Bearer");
  if (spec.never_retry) reply.headers.emplace_back("x-should-retry", "false");
  return reply;
}

HttpReply refusal_reply(const Refusal& refusal) {
  return error_reply({.status = refusal.status,
                      .code = refusal.code,
                      .message = refusal.message,
                      .retry_after_s = refusal.status == 503 ? 1 : 0});
}

}  // namespace heddle::serve
