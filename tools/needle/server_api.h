#pragma once
// A server with OpenAI's API, asked one thing at a time or many.

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/json.h"
#include "tools/serve/client/http_client.h"
#include "tools/serve/client/streamed_answer.h"

namespace heddle::needle {

struct ServerOptions {
  serve::Url url = {};
  std::string model = {};        // "": what /v1/models lists first
  std::string api_key = {};      // "": none
  double timeout_seconds = 0.0;  // of one answer; 0: none
  std::string flag = "--url";    // for errors
  std::string model_flag = "--model";
};

/// Used on one thread.
class ServerApi {
 public:
  /// Looks the host up, and the model if none is named. Throws kBadInput (host), kRuntime (no
  /// answer, no model).
  explicit ServerApi(ServerOptions options);

  const std::string& model() const { return options_.model; }
  /// Tokens of the longest sequence, if /v1/models or /tokenize tells (max_model_len, or
  /// llama-server's n_ctx).
  std::optional<std::int64_t> context();

  struct Response {
    int status = 0;
    std::string error = {};  // "": status 200 and a JSON value
    Json body = {};
  };
  /// Waits for the answer; what else is under way goes on meanwhile. `path` from the server's root
  /// ("/tokenize") or, if it begins with /v1, of the API.
  Response call(const std::string& path, const Json& body);
  Response get(const std::string& path);

  /// A streamed completion. `begun` at its first text, `done` once, last; both from run_some().
  void stream(bool chat,
              const Json& body,
              std::function<void()> begun,
              std::function<void(serve::StreamedAnswer&, const serve::ClientResult&)> done);
  /// Lets things happen for up to a tenth of a second.
  void run_some();

  boost::asio::io_context& io() { return io_; }

 private:
  Response send(serve::ClientRequest request);
  std::string path_of(const std::string& path) const;
  void find_model();

  ServerOptions options_;
  boost::asio::io_context io_;
  serve::HttpClient client_;
};

}  // namespace heddle::needle
