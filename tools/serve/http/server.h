#pragma once
// Listens, accepts, and spreads connections over I/O threads.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tools/serve/http/head_check.h"
#include "tools/serve/http/message.h"
#include "tools/serve/limits.h"

namespace heddle::serve {

struct HttpServerOptions {
  std::string host = "127.0.0.1";    // an address, or a name of one
  std::uint16_t port = 8080;         // 0: any that is free
  std::string tls_certificate = {};  // files; "": plain
  std::string tls_key = {};
  int threads = 1;
  ServerLimits limits = {};
};

struct HttpServerStats {
  std::int64_t connections = 0;  // open now
  std::int64_t accepted = 0;
  std::int64_t turned_away = 0;  // over a limit
};

class HttpServer {
 public:
  /// Takes the port, where nobody listens yet. Throws kBadInput naming the flag: a host that is
  /// none, a port that is taken, certificates.
  /// `check_head`: http/connection.h.
  HttpServer(HttpServerOptions options,
             ExchangeHandler handler,
             std::function<HttpReply(const Refusal&)> refuse,
             std::function<std::optional<HttpReply>(const HttpRequest&)> check_head = {});
  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Listens and answers, on threads of its own. Throws kBadInput where another program has been
  /// faster, kMemory where there are no more threads.
  void start();
  /// Closes what is idle; each other connection closes after its answer. New ones are still taken,
  /// for what must be told while the rest ends.
  void drain();
  /// Closes everything and ends the threads.
  void stop();

  std::uint16_t port() const;
  bool is_loopback() const;
  const ServerLimits& limits() const;
  HttpServerStats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace heddle::serve
