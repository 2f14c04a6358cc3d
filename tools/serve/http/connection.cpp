#include "tools/serve/http/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <ctime>
#include <utility>

namespace heddle::serve {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr double kHandshakeSeconds = 10.0;
constexpr double kLingerSeconds = 2.0;
constexpr double kDrainGraceSeconds = 1.0;
constexpr std::size_t kLingerBytes = std::size_t{64} << 10U;
constexpr std::size_t kPieceBytes = std::size_t{64} << 10U;  // that one write waits for

/// The same within a second.
const std::string& http_date() {
  thread_local std::time_t of = 0;
  thread_local std::string date;
  const std::time_t now = std::time(nullptr);
  if (now != of) {
    of = now;
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[64];
    date.assign(text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
  }
  return date;
}

/// `seconds`: from the request to this.
std::string head_of(const HttpReply& reply,
                    std::string_view framing,
                    bool keep_alive,
                    double seconds) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\n", reply.status, reason_phrase(reply.status));
  for (const auto& [name, value] : reply.headers) {
    head += name;
    head += ": ";
    for (const char c : value) head += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
    head += "\r\n";
  }
  fmt::format_to(std::back_inserter(head),
                 "date: {}\r\nopenai-processing-ms: {}\r\n{}connection: {}\r\n\r\n", http_date(),
                 static_cast<std::int64_t>(seconds * 1e3), framing,
                 keep_alive ? "keep-alive" : "close");
  return head;
}

}  // namespace

/// The exchange of a connection's request. Holds the connection: that lives until it is answered.
class Connection::Answer : public Exchange, public std::enable_shared_from_this<Answer> {
 public:
  Answer(std::shared_ptr<Connection> connection, HttpRequest request)
      : connection_(std::move(connection)),
        io_(connection_->io_),
        peer_(connection_->peer_),
        request_(std::move(request)),
        timer_(io_) {}

  /// Nobody has answered: the handler has failed.
  ~Answer() override {
    if (connection_ == nullptr) return;
    asio::post(io_, [connection = std::move(connection_)] { connection->close(); });
  }

  const HttpRequest& request() const override { return request_; }
  const std::string& peer() const override { return peer_; }
  bool gone() const override { return gone_; }
  void on_gone(std::function<void()> callback) override { on_gone_ = std::move(callback); }
  void post(std::function<void()> task) override {
    asio::post(io_, [self = weak_from_this(), task = std::move(task)] { guard(self, task); });
  }

  void after(double seconds, std::function<void()> callback) override {
    if (connection_ == nullptr) return;
    timer_.expires_after(std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6)));
    timer_.async_wait([self = weak_from_this(), callback = std::move(callback)](error_code error) {
      const auto alive = self.lock();
      if (!error && alive && alive->connection_ != nullptr) guard(self, callback);
    });
  }

  void reply(HttpReply reply) override {
    if (connection_ == nullptr) return;
    const bool no_body = reply.status == 204 || reply.status == 304;
    const bool keep = request_.keep_alive && !reply.close && connection_->takes_more();
    std::string bytes =
        head_of(reply, no_body ? "" : fmt::format("content-length: {}\r\n", reply.body.size()),
                keep, seconds());
    if (request_.method != "HEAD" && !no_body) bytes += reply.body;
    connection_->send(bytes);
    complete(keep);
  }

  void begin_stream(HttpReply head) override {
    if (connection_ == nullptr) return;
    chunked_ = request_.minor_version > 0;
    connection_->send(head_of(head, chunked_ ? "transfer-encoding: chunked\r\n" : "",
                              chunked_ && keeps_alive(), seconds()));
  }

  void write(std::string_view bytes) override {
    if (connection_ == nullptr || bytes.empty() || request_.method == "HEAD") return;
    if (connection_->unsent_.size() + bytes.size() > connection_->context_.limits.unsent_bytes) {
      return connection_->broken();  // it does not take what it asked for
    }
    if (!chunked_) return connection_->send(bytes);
    std::string chunk = fmt::format("{:x}\r\n", bytes.size());
    chunk += bytes;
    chunk += "\r\n";
    connection_->send(chunk);
  }

  void end_stream(bool complete_stream) override {
    if (connection_ == nullptr) return;
    if (chunked_ && complete_stream) connection_->send("0\r\n\r\n");
    complete(chunked_ && complete_stream && keeps_alive());
  }

  void client_gone() {
    gone_ = true;
    timer_.cancel();
    connection_.reset();
    if (auto callback = std::exchange(on_gone_, nullptr)) callback();
  }

  bool streams() const { return chunked_; }

 private:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  /// A task that throws has left its exchange half done: the connection goes, and nothing else.
  static void guard(const std::weak_ptr<Answer>& self, const std::function<void()>& task) {
    try {
      task();
    } catch (...) {
      const auto alive = self.lock();
      if (alive && alive->connection_ != nullptr) std::shared_ptr(alive->connection_)->close();
      throw;
    }
  }
  bool keeps_alive() const { return request_.keep_alive && connection_->takes_more(); }
  void complete(bool keep_alive) {
    on_gone_ = nullptr;
    timer_.cancel();
    std::exchange(connection_, nullptr)->answer_complete(keep_alive);
  }

  std::shared_ptr<Connection> connection_;  // until the answer is complete or the client gone
  asio::io_context& io_;
  std::string peer_;
  HttpRequest request_;
  asio::steady_timer timer_;
  const Clock::time_point begin_ = Clock::now();
  std::function<void()> on_gone_;
  bool chunked_ = false;
  std::atomic<bool> gone_{false};
};

Connection::Connection(asio::io_context& io,
                       std::unique_ptr<ByteStream> stream,
                       std::string peer,
                       const ConnectionContext& context,
                       std::function<void(Connection&)> closed)
    : io_(io),
      stream_(std::move(stream)),
      peer_(std::move(peer)),
      context_(context),
      closed_(std::move(closed)),
      timer_(io),
      reader_(context.limits, context.bodies) {}

Connection::~Connection() = default;

void Connection::start() {
  arm(kHandshakeSeconds);
  stream_->handshake([this, self = shared_from_this()](error_code error) {
    if (error) return close();
    enter(Phase::kIdle);
    read_more();
  });
}

/// A request may be on its way: what has been sent by now is told that the server is shutting down.
void Connection::drain() {
  draining_ = true;
  if (phase_ == Phase::kIdle) arm(std::min(kDrainGraceSeconds, context_.limits.idle_seconds));
}

void Connection::close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  const auto self = shared_from_this();  // callbacks may hold the last other reference
  timer_.cancel();
  stream_->close();
  if (const auto answer = answer_.lock()) answer->client_gone();
  if (auto closed = std::exchange(closed_, nullptr)) closed(*this);
}

void Connection::broken() {
  close();
}

void Connection::enter(Phase phase) {
  if (phase_ == phase) return;
  phase_ = phase;
  const ServerLimits& limits = context_.limits;
  if (phase == Phase::kIdle) {
    return arm(draining_ ? std::min(kDrainGraceSeconds, limits.idle_seconds) : limits.idle_seconds);
  }
  if (phase == Phase::kHead) return arm(limits.header_seconds);
  if (phase == Phase::kBody) {
    window_bytes_ = 0;
    return arm(limits.body_window_seconds);
  }
  disarm();
}

void Connection::arm(double seconds) {
  deadline_ = Clock::now() + std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6));
  if (!waiting_ || timer_.expiry() > deadline_) wait();
}

void Connection::wait() {
  waiting_ = true;
  timer_.expires_at(deadline_);
  timer_.async_wait([self = weak_from_this()](error_code error) {
    const auto alive = self.lock();
    if (error || !alive) return;
    alive->waiting_ = false;
    alive->timed_out();
  });
}

void Connection::timed_out() {
  if (deadline_ == Clock::time_point::max()) return;
  if (deadline_ > Clock::now()) return wait();
  if (phase_ == Phase::kBody && window_bytes_ >= context_.limits.body_window_bytes) {
    window_bytes_ = 0;
    return arm(context_.limits.body_window_seconds);
  }
  if (phase_ == Phase::kHead || phase_ == Phase::kBody) {
    return refuse({408, "request_timeout", "the request did not arrive in time"});
  }
  close();  // idle, lingering, or a client that takes nothing
}

/// Always one read under way, also while a request is answered: that is how its client's going is
/// seen.
void Connection::read_more() {
  if (reading_ || no_more_input_ || phase_ == Phase::kClosed) return;
  reading_ = true;
  stream_->read([this, self = shared_from_this()](error_code error, std::string_view bytes) {
    reading_ = false;
    received(error, bytes);
  });
}

void Connection::received(error_code error, std::string_view bytes) {
  if (phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kLingering) {
    lingered_ += bytes.size();
    if (error || lingered_ > kLingerBytes) return close();
    return read_more();
  }
  if (error == asio::error::eof) return peer_sends_no_more();
  if (error) return broken();
  if (phase_ == Phase::kAnswering) {
    const std::size_t most = context_.limits.pipelined_bytes;
    const std::size_t room = overrun_ || input_.size() > most ? 0 : most - input_.size();
    input_.append(bytes.substr(0, room));
    overrun_ = overrun_ || bytes.size() > room;
  } else {
    feed(bytes);
  }
  read_more();
}

/// Half a close: the client may still wait for its answer, or may be gone. A byte that it does not
/// expect would tell, and there are such: a comment of an event stream, and an interim response.
void Connection::peer_sends_no_more() {
  no_more_input_ = true;
  const auto answer = answer_.lock();
  if (phase_ != Phase::kAnswering || !answer) return close();
  stream_->wait_broken([this, self = shared_from_this()] { broken(); });
  if (answered_) return;
  if (answer->streams()) {
    answer->write(":\n\n");
  } else if (answer->request().minor_version > 0) {
    send("HTTP/1.1 100 Continue\r\n\r\n");
  }
}

void Connection::feed(std::string_view bytes) {
  window_bytes_ += bytes.size();
  const std::size_t used = reader_.push(bytes);
  switch (reader_.state()) {
    case RequestReader::State::kIdle:
      return;
    case RequestReader::State::kHead:
      return enter(Phase::kHead);
    case RequestReader::State::kBody:
      if (phase_ != Phase::kBody && context_.check_head) {
        if (const auto reply = context_.check_head(reader_.head())) return refuse(*reply);
      }
      enter(Phase::kBody);
      if (reader_.take_continue()) send("HTTP/1.1 100 Continue\r\n\r\n");
      return;
    case RequestReader::State::kComplete:
      input_.assign(bytes.substr(used));
      return dispatch();
    case RequestReader::State::kRefused:
      return refuse(reader_.refusal());
  }
}

void Connection::dispatch() {
  enter(Phase::kAnswering);
  answered_ = false;
  const auto answer = std::make_shared<Answer>(shared_from_this(), reader_.take());
  answer_ = answer;
  context_.handler(answer);
}

void Connection::refuse(const HttpReply& reply) {
  enter(Phase::kAnswering);
  input_.clear();
  send(head_of(reply, fmt::format("content-length: {}\r\n", reply.body.size()), false, 0.0) +
       reply.body);
  answer_complete(false);
}

void Connection::send(std::string_view bytes) {
  if (phase_ == Phase::kClosed) return;
  if (!writing_ && unsent_.empty()) bytes.remove_prefix(stream_->write_now(bytes));
  if (bytes.empty()) return;
  unsent_ += bytes;
  if (!writing_) flush();
}

/// In pieces: a slow client is given time for each.
void Connection::flush() {
  if (phase_ == Phase::kClosed) return;
  if (sent_ == sending_.size()) {
    if (unsent_.empty()) return;
    sending_.clear();
    std::swap(sending_, unsent_);
    sent_ = 0;
  }
  writing_ = true;
  arm(context_.limits.write_stall_seconds);
  const std::string_view piece = std::string_view(sending_).substr(sent_, kPieceBytes);
  stream_->write(piece, [this, n = piece.size(), self = shared_from_this()](error_code error) {
    sent_ += n;
    written(error);
  });
}

void Connection::written(error_code error) {
  writing_ = false;
  if (error) return broken();
  if (phase_ == Phase::kAnswering) disarm();
  if (sent_ < sending_.size()) return flush();
  if (sending_.capacity() > kPieceBytes) {
    sending_ = {};
    sent_ = 0;
  }
  if (!unsent_.empty()) return flush();
  if (answered_) after_answer();
}

void Connection::answer_complete(bool keep_alive) {
  answered_ = true;
  keep_alive_ = keep_alive && !no_more_input_;
  if (!writing_) asio::post(io_, [this, self = shared_from_this()] { after_answer(); });
}

void Connection::after_answer() {
  if (phase_ != Phase::kAnswering || !answered_ || writing_ || !unsent_.empty()) return;
  answer_.reset();
  if (!keep_alive_ || !takes_more()) return linger();
  answered_ = false;
  enter(Phase::kIdle);
  next_request();
}

void Connection::next_request() {
  const std::string ahead = std::exchange(input_, {});
  if (!ahead.empty()) feed(ahead);
  // What has been cut off cannot be made up for: the last that came whole has been answered.
  if (overrun_ && (phase_ == Phase::kIdle || phase_ == Phase::kHead || phase_ == Phase::kBody)) {
    return linger();
  }
  read_more();
}

/// What the client still sends is read for a while: closing at once would reset the connection, and
/// the answer with it.
void Connection::linger() {
  if (no_more_input_) return close();
  phase_ = Phase::kLingering;
  stream_->shutdown_send();
  arm(kLingerSeconds);
  input_.clear();
  read_more();
}

}  // namespace heddle::serve
