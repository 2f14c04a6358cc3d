#pragma once
// An HTTP/1.1 request and its answer, without the wire.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace heddle::serve {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;       // as sent: methods are case-sensitive
  std::string path;         // of the target, before '?', as sent: nothing is decoded
  std::string query = {};   // behind '?'
  HeaderList headers = {};  // names in lower case, values trimmed
  std::string body = {};
  std::shared_ptr<void> body_room = {};  // what the body takes of the server's bound
  int minor_version = 1;                 // of HTTP/1
  bool keep_alive = true;

  std::optional<std::string_view> header(std::string_view name) const;  // the first of that name
};

struct HttpReply {
  int status = 200;
  HeaderList headers = {};  // besides content-length, connection and date
  std::string body = {};
  bool close = false;  // the connection, afterwards
};

/// The standard phrase: "Not Found".
std::string_view reason_phrase(int status);

/// One request that is being answered. Everything but post(), gone(), peer() and request() is for
/// the thread that the exchange was handed out on; it may outlive its connection, and then does
/// nothing.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  /// Who asks, as text: "127.0.0.1".
  virtual const std::string& peer() const = 0;

  /// The whole answer. A request is answered once: reply(), or begin_stream() to end_stream().
  virtual void reply(HttpReply reply) = 0;
  /// The head (no body in it); what follows is sent as it is written.
  virtual void begin_stream(HttpReply head) = 0;
  virtual void write(std::string_view bytes) = 0;
  /// `complete` false: the connection is cut so that the client knows that something is missing.
  virtual void end_stream(bool complete = true) = 0;
  virtual bool gone() const = 0;  // the client
  /// Called at most once, when the client goes before the answer is complete.
  virtual void on_gone(std::function<void()> callback) = 0;
  /// Calls back after `seconds`, unless the exchange is over by then. One at a time: a new call
  /// replaces the last.
  virtual void after(double seconds, std::function<void()> callback) = 0;
  /// From any thread: runs `task` on the exchange's own.
  virtual void post(std::function<void()> task) = 0;
};

using ExchangeHandler = std::function<void(std::shared_ptr<Exchange>)>;

}  // namespace heddle::serve
