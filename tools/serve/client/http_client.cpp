#include "tools/serve/client/http_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/quote_text.h"
#include "tools/serve/client/response_reader.h"

namespace heddle::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

/// A connection, plain or under TLS.
struct Link {
  Link(asio::io_context& io, asio::ssl::context* tls) : socket(io) {
    if (tls != nullptr) secure.emplace(socket, *tls);
  }

  template <typename Handler>
  void read(Handler handler) {
    if (secure) {
      secure->async_read_some(asio::buffer(buffer), std::move(handler));
    } else {
      socket.async_read_some(asio::buffer(buffer), std::move(handler));
    }
  }
  template <typename Handler>
  void write(const std::string& bytes, Handler handler) {
    if (secure) {
      asio::async_write(*secure, asio::buffer(bytes), std::move(handler));
    } else {
      asio::async_write(socket, asio::buffer(bytes), std::move(handler));
    }
  }
  void close() {
    error_code ignored;
    socket.close(ignored);
  }

  tcp::socket socket;
  std::optional<asio::ssl::stream<tcp::socket&>> secure;
  std::array<char, 16384> buffer = {};
  bool used = false;  // a response has come on it
};

bool is_port(std::string_view text) {
  int port = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), port);
  return read.ec == std::errc() && read.ptr == text.data() + text.size() && port > 0 &&
         port < 65536;
}

std::string text_of(error_code error) {
  return error == asio::error::eof || error == asio::ssl::error::stream_truncated
             ? "the server closed the connection"
             : error.message();
}

}  // namespace

Url parse_url(std::string_view text, std::string_view name) {
  const auto bad = [&](std::string_view why) {
    return bad_input(fmt::format("{}: {} {}; allowed: http://HOST[:PORT][/PATH] or https://...",
                                 name, quote_text(text), why));
  };
  Url url;
  if (text.starts_with("https://")) {
    url.tls = true;
  } else if (!text.starts_with("http://")) {
    throw bad("is no URL of a server");
  }
  const bool clean = std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
  if (!clean || text.find_first_of("@?#") != std::string_view::npos) {
    throw bad("holds what an address may not have");
  }
  std::string_view rest = text.substr(url.tls ? 8 : 7);
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  url.path = rest.substr(slash);
  while (url.path.ends_with('/')) url.path.pop_back();
  rest = rest.substr(0, slash);
  const bool bracketed = rest.starts_with('[');
  const std::size_t close = bracketed ? rest.find(']') : 0;
  if (close == std::string_view::npos) throw bad("has a '[' without ']'");
  const std::size_t colon = rest.find(':', close);
  url.host = bracketed ? rest.substr(1, close - 1) : rest.substr(0, colon);
  if (url.host.empty()) throw bad("has no host");
  url.port = url.tls ? "443" : "80";
  if (colon != std::string_view::npos) {
    url.port = rest.substr(colon + 1);
    if (!is_port(url.port)) throw bad("has no port from 1 to 65535");
  }
  return url;
}

struct HttpClient::Impl : std::enable_shared_from_this<HttpClient::Impl> {
  Impl(asio::io_context& context, Url u) : io(context), url(std::move(u)) {}

  /// A request on its way.
  struct Call {
    Call(asio::io_context& io, ClientCallbacks c) : callbacks(std::move(c)), timer(io) {}
    std::string bytes;
    ClientCallbacks callbacks;
    ResponseReader reader;
    std::shared_ptr<Link> link;
    asio::steady_timer timer;
    bool written = false;
    bool timed_out = false;
    bool over = false;
  };
  using CallPtr = std::shared_ptr<Call>;

  void begin(const CallPtr& call, bool fresh);
  void connect(const CallPtr& call);
  void write(const CallPtr& call);
  void read(const CallPtr& call);
  void received(const CallPtr& call, error_code error, std::size_t n);
  void failed(const CallPtr& call, const std::string& what);
  void finish(const CallPtr& call, const std::string& error);
  std::string wire(const ClientRequest& request) const;

  asio::io_context& io;
  Url url;
  std::vector<tcp::endpoint> endpoints;
  std::optional<asio::ssl::context> tls;
  std::vector<std::shared_ptr<Link>> idle;
};

std::string HttpClient::Impl::wire(const ClientRequest& request) const {
  const bool v6 = url.host.find(':') != std::string::npos;
  std::string text = fmt::format("{} {} HTTP/1.1\r\nhost: {}:{}\r\n", request.method,
                                 request.target, v6 ? "[" + url.host + "]" : url.host, url.port);
  for (const auto& [name, value] : request.headers) text += name + ": " + value + "\r\n";
  if (request.method != "GET") text += fmt::format("content-length: {}\r\n", request.body.size());
  return text + "\r\n" + request.body;
}

void HttpClient::Impl::begin(const CallPtr& call, bool fresh) {
  call->reader.reset();
  if (!fresh && !idle.empty()) {
    call->link = std::move(idle.back());
    idle.pop_back();
    return write(call);
  }
  call->link = std::make_shared<Link>(io, tls ? &*tls : nullptr);
  connect(call);
}

void HttpClient::Impl::connect(const CallPtr& call) {
  asio::async_connect(
      call->link->socket, endpoints,
      [self = weak_from_this(), call, link = call->link](error_code error, const tcp::endpoint&) {
        const auto alive = self.lock();
        if (!alive || call->over) return;
        if (error) return alive->failed(call, "cannot connect: " + error.message());
        error_code ignored;
        link->socket.set_option(tcp::no_delay(true), ignored);
        if (!link->secure) return alive->write(call);
        SSL_set_tlsext_host_name(link->secure->native_handle(), alive->url.host.c_str());
        link->secure->set_verify_callback(asio::ssl::host_name_verification(alive->url.host));
        link->secure->async_handshake(
            asio::ssl::stream_base::client, [self, call, link](error_code handshake_error) {
              const auto still = self.lock();
              if (!still || call->over) return;
              if (handshake_error) return still->failed(call, "TLS: " + handshake_error.message());
              still->write(call);
            });
      });
}

/// What the server answers is read while the request is sent: it may refuse it early.
void HttpClient::Impl::write(const CallPtr& call) {
  call->link->write(call->bytes, [call, link = call->link](error_code error, std::size_t) {
    call->written = !error;
  });
  read(call);
}

void HttpClient::Impl::read(const CallPtr& call) {
  call->link->read(
      [self = weak_from_this(), call, link = call->link](error_code error, std::size_t n) {
        const auto alive = self.lock();
        if (alive && !call->over && call->link == link) alive->received(call, error, n);
      });
}

void HttpClient::Impl::received(const CallPtr& call, error_code error, std::size_t n) {
  ResponseReader& reader = call->reader;
  const std::string_view bytes(call->link->buffer.data(), n);
  const std::size_t used = reader.push(
      bytes, [&](std::string_view body) { call->callbacks.received(reader.status(), body); });
  if (error && reader.state() != ResponseReader::State::kComplete) reader.end();
  switch (reader.state()) {
    case ResponseReader::State::kComplete: {
      const bool keep = !error && used == n && reader.keeps_alive() && call->written;
      call->link->used = true;
      if (keep) idle.push_back(std::exchange(call->link, nullptr));
      return finish(call, "");
    }
    case ResponseReader::State::kBroken:
      if (!error) return finish(call, "the answer is not HTTP/1.1");
      return failed(call, text_of(error));
    default:
      return read(call);
  }
}

/// A connection that was idle may have been closed meanwhile: then another is tried.
void HttpClient::Impl::failed(const CallPtr& call, const std::string& what) {
  if (call->link->used && !call->reader.begun() && !call->timed_out) {
    call->link->close();
    return begin(call, true);
  }
  finish(call, what);
}

void HttpClient::Impl::finish(const CallPtr& call, const std::string& error) {
  if (std::exchange(call->over, true)) return;
  call->timer.cancel();
  if (call->link != nullptr) call->link->close();
  call->link = nullptr;
  const ClientCallbacks callbacks = std::move(call->callbacks);
  callbacks.done({.status = call->reader.status(), .error = error});
}

HttpClient::HttpClient(asio::io_context& io, Url url, std::string_view name)
    : impl_(std::make_shared<Impl>(io, std::move(url))) {
  Impl& client = *impl_;
  tcp::resolver resolver(io);
  error_code error;
  const auto found = resolver.resolve(client.url.host, client.url.port, error);
  if (error || found.empty()) {
    throw bad_input(fmt::format("{}: there is no host {}: {}", name, quote_text(client.url.host),
                                error.message()));
  }
  for (const auto& entry : found) client.endpoints.push_back(entry.endpoint());
  if (!client.url.tls) return;
  client.tls.emplace(asio::ssl::context::tls_client);
  client.tls->set_default_verify_paths(error);
  client.tls->set_verify_mode(asio::ssl::verify_peer);
}

HttpClient::~HttpClient() = default;

const Url& HttpClient::url() const {
  return impl_->url;
}

void HttpClient::send(ClientRequest request, ClientCallbacks callbacks) {
  const auto call = std::make_shared<Impl::Call>(impl_->io, std::move(callbacks));
  call->bytes = impl_->wire(request);
  if (request.timeout_seconds > 0.0) {
    call->timer.expires_after(
        std::chrono::milliseconds(static_cast<std::int64_t>(request.timeout_seconds * 1000.0)));
    call->timer.async_wait([self = std::weak_ptr(impl_), call](error_code error) {
      const auto alive = self.lock();
      if (error || !alive) return;
      call->timed_out = true;
      alive->finish(call, "the time is over");
    });
  }
  impl_->begin(call, false);
}

}  // namespace heddle::serve
