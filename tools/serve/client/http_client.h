#pragma once
// A client for HTTP/1.1 servers: many requests at a time on one thread, connections used again.

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tools/serve/http/message.h"

namespace heddle::serve {

struct Url {
  bool tls = false;
  std::string host;
  std::string port;
  std::string path;  // "" or "/v1": without a slash at its end
};
/// "http://HOST[:PORT][/PATH]", https as well. Throws kBadInput that begins with `name`.
Url parse_url(std::string_view text, std::string_view name);

struct ClientRequest {
  std::string method = "POST";
  std::string target = "/";
  HeaderList headers = {};  // besides host, content-length and connection
  std::string body = {};
  double timeout_seconds = 0.0;  // 0: none
};

/// How a request ended.
struct ClientResult {
  int status = 0;          // 0: no head came
  std::string error = {};  // "": the response is complete
};

struct ClientCallbacks {
  /// Bytes of the body as they come; the status is known by then.
  std::function<void(int status, std::string_view bytes)> received;
  std::function<void(const ClientResult&)> done;  // once, last
};

/// Used, and its callbacks called, on the thread that runs `io`. What runs when it is destroyed
/// ends without a callback.
class HttpClient {
 public:
  /// Looks the host up. Throws kBadInput that begins with `name` for one that there is not.
  HttpClient(boost::asio::io_context& io, Url url, std::string_view name);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void send(ClientRequest request, ClientCallbacks callbacks);
  const Url& url() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace heddle::serve
