#pragma once
// What the server answers: routes, keys, and the way from a request's body to its answer.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/serve/engine_host.h"
#include "tools/serve/http/message.h"
#include "tools/serve/http/server.h"
#include "tools/serve/limits.h"
#include "tools/serve/metrics.h"
#include "tools/serve/reply/reply_style.h"

namespace heddle::serve {

struct ServiceOptions {
  std::vector<std::string> api_keys = {};  // none: everybody may ask
  bool strict_fields = false;              // unknown fields are errors
  std::string cors_origin = {};            // "": none
  std::string session_folder = {};         // "": sessions are not saved
  ReplyStyle style = {};
  std::string version = {};
  int worker_threads = 2;
  ServerLimits limits = {};
};

/// handle() may be called from any I/O thread. Its workers use the host, and what the HTTP server
/// handed out: the order of the end is HttpServer::stop(), stop(), then the destructors of the host
/// and of the server.
class Service {
 public:
  Service(EngineHost& host, ServiceOptions options);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  void handle(std::shared_ptr<Exchange> exchange);
  /// Of a request whose body has not come: an answer if it is refused without.
  std::optional<HttpReply> check_head(const HttpRequest& request);
  /// To what never became a request.
  HttpReply refuse(const Refusal& refusal);
  /// Where /metrics finds the connections.
  void watch(const HttpServer* server);
  ServerMetrics& metrics();
  /// Requests that are being read, or wait to be: they are not the host's yet.
  std::size_t n_reading() const;
  /// Ends the workers; what waits for them is dropped.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace heddle::serve
