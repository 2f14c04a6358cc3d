#include "tools/serve/http/request_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

namespace heddle::serve {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Parser = http::request_parser<http::string_body>;

constexpr std::size_t kChunkHeadBytes = 256;  // of one chunk: its size and extensions

/// What the parser leaves of chunked bytes is the begin of a chunk's head, behind the line end of
/// the chunk before. A whole line is left of the last chunk only, whose trailers follow: of another
/// it is one that no further bytes mend (a quoted string that goes on).
bool is_bad_chunk_head(std::string_view pending) {
  if (pending.size() > 2 * kChunkHeadBytes) return true;
  if (pending.starts_with("\r\n")) pending.remove_prefix(2);
  const std::size_t line_end = pending.find('\n');
  if (line_end == std::string_view::npos) return false;
  if (line_end == 0 || pending[line_end - 1] != '\r') return true;
  const std::size_t digit = pending.find_first_not_of('0');
  const auto is_hex = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
  };
  return digit == 0 || is_hex(pending[digit]);
}

}  // namespace

struct RequestReader::Impl {
  Impl(const ServerLimits& l, std::shared_ptr<ByteBudget> b) : limits(l), bodies(std::move(b)) {}

  std::size_t push_head(std::string_view bytes);
  std::size_t push_body(std::string_view bytes);
  std::size_t parse(std::string_view bytes);
  void begin_body();
  void refuse(Refusal why) {
    refused = std::move(why);
    state = State::kRefused;
  }
  void check_done();

  const ServerLimits& limits;
  const std::shared_ptr<ByteBudget> bodies;
  std::shared_ptr<ByteLease> lease;
  State state = State::kIdle;
  std::string head;
  std::string pending;  // of the body: the begin of what the parser needs in one piece
  std::function<void(std::uint64_t, boost::beast::string_view, boost::system::error_code&)>
      on_chunk;  // the parser keeps a reference
  std::optional<Parser> parser;
  HeadFacts facts;
  bool continue_due = false;
  std::size_t n_fields = 0;  // of the head: more later are trailers
  Refusal refused;
};

std::size_t RequestReader::Impl::push_head(std::string_view bytes) {
  std::size_t known = head.size();
  head.append(bytes);
  // An empty line or two before a request are old clients' (RFC 9112 2.2).
  std::size_t blank = 0;
  while (head.compare(blank, 2, "\r\n") == 0) blank += 2;
  if (blank > 0) {
    head.erase(0, blank);
    known = 0;
  }
  if (head.empty() || head == "\r") {
    state = State::kIdle;
    return bytes.size();
  }
  state = State::kHead;
  const std::size_t end = head.find("\r\n\r\n", known < 3 ? 0 : known - 3);
  if (end == std::string::npos) {
    if (auto refusal = check_partial_head(head, known, limits)) refuse(std::move(*refusal));
    return bytes.size();
  }
  const std::size_t excess = head.size() - (end + 4);
  head.resize(end + 4);
  begin_body();
  return bytes.size() - excess;
}

void RequestReader::Impl::begin_body() {
  HeadCheck check = check_head(head, limits);
  if (check.refusal) return refuse(std::move(*check.refusal));
  facts = check.facts;
  if (bodies) lease = std::make_shared<ByteLease>(bodies);
  parser.emplace();
  parser->body_limit(limits.body_bytes);
  parser->header_limit(static_cast<std::uint32_t>(limits.header_bytes + 1));
  parser->eager(true);
  on_chunk = [](std::uint64_t, boost::beast::string_view extensions,
                boost::system::error_code& error) {
    // A quoted string may hold none (RFC 9110, 5.6.4), though the parser takes them.
    const bool control = std::ranges::any_of(extensions, [](char c) {
      return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
    });
    if (extensions.size() > kChunkHeadBytes || control) error = http::error::bad_chunk_extension;
  };
  parser->on_chunk_header(on_chunk);
  boost::system::error_code error;
  const std::size_t used = parser->put(asio::buffer(head), error);
  const bool more = error == http::error::need_more;
  if ((error && !more) || used != head.size() || !parser->is_header_done()) {
    return refuse({400, "bad_request", "the header is not one of HTTP/1.1"});
  }
  n_fields = static_cast<std::size_t>(std::distance(parser->get().begin(), parser->get().end()));
  state = State::kBody;
  continue_due = facts.expects_continue && (facts.chunked || facts.content_length > 0);
  check_done();
}

/// Gives the parser what it can use; returns how much that was.
std::size_t RequestReader::Impl::parse(std::string_view bytes) {
  std::size_t used = 0;
  while (used < bytes.size() && state == State::kBody) {
    boost::system::error_code error;
    const std::size_t n =
        parser->put(asio::buffer(bytes.data() + used, bytes.size() - used), error);
    used += n;
    if (error == http::error::need_more) break;
    if (error == http::error::body_limit) {
      refuse({413, "body_too_large",
              fmt::format("the body is larger than {} bytes", limits.body_bytes)});
      break;
    }
    if (error) {
      refuse({400, "bad_request", "the body's chunks are not those of HTTP/1.1"});
      break;
    }
    if (lease && !lease->grow_to(parser->get().body().size())) {
      parser->get().body() = {};
      lease.reset();
      refuse({503, "server_is_overloaded", "too many large bodies are under way; try again later"});
      break;
    }
    check_done();
    if (n == 0) break;
  }
  return used;
}

std::size_t RequestReader::Impl::push_body(std::string_view bytes) {
  if (!facts.chunked) return parse(bytes);
  const std::size_t before = pending.size();
  pending.append(bytes);
  // The parser asserts that a last chunk whose line it has seen comes again in five bytes at least,
  // the fewest that can end it: "0", CRLF, CRLF.
  const bool too_early = pending.size() == 4 && pending.starts_with("0\r\n");
  const std::size_t used = too_early ? 0 : parse(pending);
  if (state == State::kComplete) return used - before;
  pending.erase(0, used);
  if (state != State::kBody) return bytes.size();
  if (is_bad_chunk_head(pending)) {
    refuse({400, "bad_request", "the body's chunks are not those of HTTP/1.1"});
  }
  return bytes.size();
}

void RequestReader::Impl::check_done() {
  if (!parser->is_done()) return;
  const auto& fields = parser->get();
  if (static_cast<std::size_t>(std::distance(fields.begin(), fields.end())) != n_fields) {
    return refuse({400, "bad_request", "trailers are not taken"});
  }
  state = State::kComplete;
}

RequestReader::RequestReader(const ServerLimits& limits, std::shared_ptr<ByteBudget> bodies)
    : impl_(std::make_unique<Impl>(limits, std::move(bodies))) {}
RequestReader::~RequestReader() = default;

std::size_t RequestReader::push(std::string_view bytes) {
  std::size_t used = 0;
  while (used < bytes.size()) {
    const std::string_view rest = bytes.substr(used);
    if (impl_->state == State::kIdle || impl_->state == State::kHead) {
      const std::size_t n = impl_->push_head(rest);
      used += n;
      if (n == 0) break;
    } else if (impl_->state == State::kBody) {
      const std::size_t n = impl_->push_body(rest);
      used += n;
      if (n == 0) break;
    } else {
      break;
    }
  }
  return used;
}

RequestReader::State RequestReader::state() const {
  return impl_->state;
}

bool RequestReader::take_continue() {
  return impl_->state == State::kBody && std::exchange(impl_->continue_due, false);
}

HttpRequest RequestReader::head() const {
  const auto& message = std::as_const(*impl_->parser).get();
  const std::string target(message.target());
  const TargetParts parts = target_parts(target);
  HttpRequest request{.method = std::string(message.method_string()),
                      .path = std::string(parts.rest),
                      .minor_version = static_cast<int>(message.version() % 10),
                      .keep_alive = message.keep_alive()};
  if (const std::size_t mark = request.path.find('?'); mark != std::string::npos) {
    request.query = request.path.substr(mark + 1);
    request.path.resize(mark);
  }
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::ranges::transform(name, name.begin(), [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    });
    // The target's host counts, where it has one (RFC 9112, 3.2.2).
    const bool replaced = name == "host" && !parts.authority.empty();
    request.headers.emplace_back(
        std::move(name), replaced ? std::string(parts.authority) : std::string(field.value()));
  }
  return request;
}

HttpRequest RequestReader::take() {
  HttpRequest request = head();
  request.body = std::move(impl_->parser->get().body());
  request.body_room = std::move(impl_->lease);
  impl_ = std::make_unique<Impl>(impl_->limits, impl_->bodies);
  return request;
}

const Refusal& RequestReader::refusal() const {
  return impl_->refused;
}

std::optional<std::string_view> HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return std::nullopt;
}

std::string_view reason_phrase(int status) {
  const auto known = http::int_to_status(static_cast<unsigned>(status));
  const auto text = http::obsolete_reason(known);
  return {text.data(), text.size()};
}

}  // namespace heddle::serve
