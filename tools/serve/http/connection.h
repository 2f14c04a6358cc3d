#pragma once
// One client connection: requests in, answers out, timers, the client's going away. Everything runs
// on its I/O thread.

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tools/serve/http/byte_stream.h"
#include "tools/serve/http/message.h"
#include "tools/serve/http/request_reader.h"
#include "tools/serve/limits.h"

namespace heddle::serve {

/// What the connections of a server share. Outlives them.
struct ConnectionContext {
  const ServerLimits& limits;
  std::shared_ptr<ByteBudget> bodies;
  ExchangeHandler handler;
  /// Makes the answer to what never became a request.
  std::function<HttpReply(const Refusal&)> refuse;
  /// Of a request whose body is still to come: an answer if it need not. May be empty.
  std::function<std::optional<HttpReply>(const HttpRequest&)> check_head;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::io_context& io,
             std::unique_ptr<ByteStream> stream,
             std::string peer,
             const ConnectionContext& context,
             std::function<void(Connection&)> closed);
  ~Connection();
  void start();
  /// One more request at most: the one that is being answered, or one that arrives within a second
  /// of now.
  void drain();
  /// In place of start(): answers whatever will come, and closes.
  void refuse(const Refusal& why) { refuse(context_.refuse(why)); }
  void refuse(const HttpReply& reply);
  void close();

 private:
  using Clock = std::chrono::steady_clock;
  class Answer;
  friend class Answer;
  enum class Phase { kHandshake, kIdle, kHead, kBody, kAnswering, kLingering, kClosed };

  void read_more();
  void received(boost::system::error_code error, std::string_view bytes);
  void feed(std::string_view bytes);
  void next_request();
  void dispatch();
  void peer_sends_no_more();
  void broken();
  void enter(Phase phase);
  void arm(double seconds);
  void disarm() { deadline_ = Clock::time_point::max(); }
  void wait();
  void timed_out();
  void send(std::string_view bytes);
  void flush();
  void written(boost::system::error_code error);
  void answer_complete(bool keep_alive);
  void after_answer();
  void linger();
  bool takes_more() const { return !draining_; }  // requests

  boost::asio::io_context& io_;
  std::unique_ptr<ByteStream> stream_;
  std::string peer_;
  const ConnectionContext& context_;
  std::function<void(Connection&)> closed_;
  boost::asio::steady_timer timer_;  // at the deadline, or earlier: most deadlines are moved
  bool waiting_ = false;             // for it
  Clock::time_point deadline_ = Clock::time_point::max();
  RequestReader reader_;
  Phase phase_ = Phase::kHandshake;
  bool reading_ = false;
  bool no_more_input_ = false;
  bool draining_ = false;
  bool overrun_ = false;          // more than pipelined_bytes has come: what is behind is dropped
  std::string input_;             // read ahead of the request that is being answered
  std::size_t window_bytes_ = 0;  // of a body since the timer was set
  std::string unsent_;            // what write() takes next
  std::string sending_;           // what it has
  std::size_t sent_ = 0;          // of it
  bool writing_ = false;
  bool answered_ = false;   // all of the answer is in unsent_ or gone
  bool keep_alive_ = true;  // after it
  std::size_t lingered_ = 0;
  std::weak_ptr<Answer> answer_;
};

}  // namespace heddle::serve
