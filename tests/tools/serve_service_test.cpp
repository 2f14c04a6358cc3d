#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tools/serve/api/api_error.h"
#include "tools/serve/client/http_client.h"
#include "tools/serve/client/response_reader.h"
#include "tools/serve/fake_driver.h"
#include "tools/serve/service.h"
#include "tools/serve/workers.h"

namespace heddle::serve {
namespace {

using testing::HasSubstr;

/// Whether it holds before long.
template <typename Condition>
bool soon(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// Closed, it holds who passes.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++n_waiting_;
    opened_.wait(lock, [this] { return open_; });
    --n_waiting_;
  }
  void set(bool open) {
    const std::scoped_lock lock(mutex_);
    open_ = open;
    opened_.notify_all();
  }
  bool holds() {
    const std::scoped_lock lock(mutex_);
    return n_waiting_ > 0;
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool open_ = true;
  int n_waiting_ = 0;
};

/// What one request was told. Runs its tasks where they are posted: on the engine's thread.
class Recorder : public EventReceiver {
 public:
  void accepted() override { ++n_accepted_; }
  void refused(ErrorKind kind, const std::string& text) override {
    const std::scoped_lock lock(mutex_);
    kind_ = kind;
    refusal_ = text;
  }
  void progressed(const std::vector<RequestEvent>& events) override {
    const std::scoped_lock lock(mutex_);
    for (const RequestEvent& event : events) {
      if (event.choice >= texts_.size()) texts_.resize(event.choice + 1);
      texts_[event.choice] += event.text;
      if (event.finish == FinishReason::kNone) continue;
      finishes_.push_back(event.finish);
      error_ = event.error;
    }
  }
  void post(std::function<void()> task) override { task(); }

  int n_accepted() const { return n_accepted_; }
  std::string refusal() const { return copy_of(refusal_); }
  std::vector<std::string> texts() const { return copy_of(texts_); }
  std::vector<FinishReason> finishes() const { return copy_of(finishes_); }
  std::string error() const { return copy_of(error_); }
  ErrorKind kind() const { return copy_of(kind_); }

 private:
  template <typename T>
  T copy_of(const T& value) const {
    const std::scoped_lock lock(mutex_);
    return value;
  }

  mutable std::mutex mutex_;
  std::atomic<int> n_accepted_{0};
  ErrorKind kind_ = ErrorKind::kRuntime;
  std::string refusal_;
  std::string error_;
  std::vector<std::string> texts_;
  std::vector<FinishReason> finishes_;
};

Request request_of(std::int64_t n_tokens, int n = 1) {
  return {.prompt = {1, 2, 3}, .max_new_tokens = n_tokens, .n = n};
}

/// Bytes, until it is broken.
class FragileTokenizer : public ByteTokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override {
    if (text.find("unreadable") != std::string_view::npos) throw std::runtime_error("no such text");
    return ByteTokenizer::encode(text, options);
  }
  std::string token_bytes(TokenId id, bool special) const override {
    if (broken && id < kBegin) throw std::runtime_error("no such token");
    return ByteTokenizer::token_bytes(id, special);
  }
  std::atomic<bool> broken{false};
};

class FragileDriver : public FakeDriver {
 public:
  FragileDriver(FakeDriverOptions options, FragileTokenizer& tokenizer)
      : FakeDriver(std::move(options)), facts_(FakeDriver::facts()) {
    facts_.tokenizer = &tokenizer;
  }
  const ModelFacts& facts() const override { return facts_; }

 private:
  ModelFacts facts_;
};

/// A host whose engine's steps pass a gate.
struct Host {
  explicit Host(HostOptions options = {}, FakeDriverOptions driver = {})
      : host(make(std::move(driver)), options) {}
  ~Host() { gate.set(true); }

  std::unique_ptr<Driver> make(FakeDriverOptions driver) {
    const auto before = driver.before_step;
    driver.before_step = [this, before] {
      gate.pass();
      if (before) before();
    };
    return std::make_unique<FragileDriver>(std::move(driver), tokenizer);
  }
  std::shared_ptr<Recorder> submit(const Request& request, Ticket* ticket = nullptr) {
    auto recorder = std::make_shared<Recorder>();
    const auto n = static_cast<std::int64_t>(request.prompt.size()) + request.max_new_tokens;
    const auto submitted = host.submit(request, n, recorder);
    EXPECT_EQ(submitted.refusal, EngineHost::Refusal::kNone);
    if (ticket != nullptr) *ticket = submitted.ticket;
    return recorder;
  }
  EngineHost::Refusal refusal(const Request& request, std::int64_t n_tokens = 1) {
    return host.submit(request, n_tokens, std::make_shared<Recorder>()).refusal;
  }
  /// Holds the engine inside a step.
  void hold() {
    gate.set(false);
    host.call([](Driver&) {});
    EXPECT_TRUE(soon([this] { return gate.holds(); }));
  }
  bool empties() {
    return soon([this] {
      return host.n_open() == 0 && host.stats().running == 0 && host.stats().waiting == 0;
    });
  }

  Gate gate;
  FragileTokenizer tokenizer;
  EngineHost host;
};

TEST(ServeHost, DeliversEachChoiceToItsEndAndCountsToZero) {
  Host h;
  const auto recorder = h.submit(request_of(5, 3));
  ASSERT_TRUE(h.empties());
  EXPECT_EQ(recorder->n_accepted(), 1);
  const std::vector<std::int32_t> prompt = {1, 2, 3};
  EXPECT_THAT(recorder->texts(), testing::ElementsAre(FakeDriver::answer(prompt, 0, 5),
                                                      FakeDriver::answer(prompt, 1, 5),
                                                      FakeDriver::answer(prompt, 2, 5)));
  EXPECT_THAT(
      recorder->finishes(),
      testing::ElementsAre(FinishReason::kLength, FinishReason::kLength, FinishReason::kLength));
}

TEST(ServeHost, RefusesWhatIsOverItsBoundsAndTakesAgainAfterwards) {
  Host h({.most_open = 2, .most_open_tokens = 100});
  h.hold();
  EXPECT_EQ(h.refusal(request_of(1), 50), EngineHost::Refusal::kNone);
  EXPECT_EQ(h.refusal(request_of(1), 51), EngineHost::Refusal::kQueueTokensFull);
  EXPECT_EQ(h.refusal(request_of(1), 50), EngineHost::Refusal::kNone);
  EXPECT_EQ(h.refusal(request_of(1)), EngineHost::Refusal::kQueueFull);
  EXPECT_EQ(h.host.n_open(), 2);
  h.gate.set(true);
  ASSERT_TRUE(h.empties());
  EXPECT_EQ(h.refusal(request_of(1), 1000), EngineHost::Refusal::kNone) << "alone it may be larger";
  EXPECT_TRUE(h.empties());
}

TEST(ServeHost, TellsWhatTheEngineRefuses) {
  Host h;
  const auto recorder = h.submit({.prompt = {}, .max_new_tokens = 1});
  ASSERT_TRUE(h.empties());
  EXPECT_EQ(recorder->kind(), ErrorKind::kBadInput);
  EXPECT_THAT(recorder->refusal(), HasSubstr("prompt"));
  EXPECT_EQ(recorder->n_accepted(), 0);
}

TEST(ServeHost, NothingComesAfterCancelWhetherItRunsOrWaits) {
  Host h({}, {.max_running = 1, .tokens_per_second = 500.0});
  Ticket first = 0;
  Ticket second = 0;
  const auto running = h.submit(request_of(30000), &first);
  const auto waiting = h.submit(request_of(30000), &second);
  ASSERT_TRUE(soon([&] { return !running->texts().empty() && waiting->n_accepted() == 1; }));
  h.hold();
  h.host.cancel(second);
  h.host.cancel(first);
  h.host.cancel(first);
  h.host.cancel(9999);
  h.gate.set(true);
  ASSERT_TRUE(h.empties());
  EXPECT_TRUE(running->finishes().empty());
  EXPECT_TRUE(waiting->texts().empty());
}

TEST(ServeHost, DrainsAndRefusesMeanwhile) {
  Host h;
  h.hold();
  const auto recorder = h.submit(request_of(3));
  h.host.drain();
  EXPECT_EQ(h.host.state(), HostState::kDraining);
  EXPECT_EQ(h.refusal(request_of(3)), EngineHost::Refusal::kDraining);
  h.gate.set(true);
  ASSERT_TRUE(h.empties());
  EXPECT_THAT(recorder->finishes(), testing::ElementsAre(FinishReason::kLength));
}

TEST(ServeHost, CancelAllEndsEverythingWithOneError) {
  Host h({}, {.max_running = 2, .tokens_per_second = 500.0});
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int i = 0; i < 5; ++i) recorders.push_back(h.submit(request_of(10000, 1 + i % 2)));
  h.host.cancel_all("draining");
  ASSERT_TRUE(h.empties());
  for (const auto& recorder : recorders) {
    EXPECT_THAT(recorder->finishes(), testing::ElementsAre(FinishReason::kError));
    EXPECT_EQ(recorder->error(), "draining");
  }
}

TEST(ServeHost, AnEngineThatThrowsIsDeadAndTellsAll) {
  std::atomic<bool> broken{false};
  Host h({}, {.max_running = 1, .tokens_per_second = 500.0, .before_step = [&broken] {
                if (broken) throw std::runtime_error("an invariant");
              }});
  const auto running = h.submit(request_of(30000, 2));
  ASSERT_TRUE(soon([&] { return !running->texts().empty(); }));
  h.hold();
  const auto late = h.submit(request_of(1));  // the engine dies before it comes to it
  broken = true;
  h.gate.set(true);
  ASSERT_TRUE(soon([&] { return h.host.n_open() == 0; }));
  EXPECT_EQ(h.host.state(), HostState::kDead);
  EXPECT_EQ(running->error(), "engine_dead: an invariant");
  EXPECT_THAT(late->error(), HasSubstr("engine_dead"));
  EXPECT_EQ(h.refusal(request_of(1)), EngineHost::Refusal::kDead);
  EXPECT_FALSE(h.host.call([](Driver&) {}));
}

// R2
TEST(ServeHost, MemoryThatRunsOutInAStepEndsNothing) {
  std::atomic<int> n_steps{0};
  Host h({}, {.before_step = [&n_steps] {
           if (++n_steps % 2 == 0) throw std::bad_alloc();
         }});
  const auto recorder = h.submit(request_of(6));
  ASSERT_TRUE(h.empties());
  EXPECT_EQ(h.host.state(), HostState::kServing);
  EXPECT_THAT(recorder->finishes(), testing::ElementsAre(FinishReason::kLength));
}

// R2
TEST(ServeHost, MemoryThatNeverComesBackIsTheEnginesEnd) {
  Host h({}, {.before_step = [] { throw std::bad_alloc(); }});
  const auto recorder = h.submit(request_of(6));
  ASSERT_TRUE(soon([&] { return h.host.n_open() == 0; }));
  EXPECT_EQ(h.host.state(), HostState::kDead);
  EXPECT_EQ(recorder->error(), "engine_dead: there is no memory");
}

// R5
TEST(ServeHost, AnOrderThatThrowsIsTheEnginesEnd) {
  Host h({}, {.max_running = 1, .tokens_per_second = 500.0});
  const auto running = h.submit(request_of(30000));
  ASSERT_TRUE(soon([&] { return !running->texts().empty(); }));
  h.host.call([](Driver&) { throw std::runtime_error("an invariant"); });
  ASSERT_TRUE(soon([&] { return h.host.n_open() == 0; }));
  EXPECT_EQ(h.host.state(), HostState::kDead);
  EXPECT_EQ(running->error(), "engine_dead: an invariant");
}

// R6
TEST(ServeHost, AnOrderThatHangsIsAStallUntilItEnds) {
  Host h({.stall_seconds = 0.02});
  Gate disk;
  disk.set(false);
  h.host.call([&disk](Driver&) { disk.pass(); });
  EXPECT_TRUE(soon([&] { return h.host.state() == HostState::kStalled; }));
  disk.set(true);
  EXPECT_TRUE(soon([&] { return h.host.state() == HostState::kServing; }));
}

// R6
TEST(ServeHost, AStepThatTakesLongIsAStallUntilItEnds) {
  Host h({.stall_seconds = 0.02});
  h.hold();
  EXPECT_TRUE(soon([&] { return h.host.state() == HostState::kStalled; }));
  h.gate.set(true);
  EXPECT_TRUE(soon([&] { return h.host.state() == HostState::kServing; }));
}

TEST(ServeHost, ItsEndCancelsWhatIsLeft) {
  std::weak_ptr<Recorder> left;
  {
    Host h({}, {.tokens_per_second = 500.0});
    left = h.submit(request_of(30000));
    ASSERT_TRUE(soon([&] { return h.host.stats().running == 1; }));
  }
  EXPECT_TRUE(left.expired());
}

TEST(ServeHost, ThreadsMaySubmitAndCancelAtOnce) {
  Host h({}, {.max_running = 8});
  std::vector<std::thread> threads;
  std::atomic<int> n_taken{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&h, &n_taken, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 100; ++i) {
        const auto submitted = h.host.submit(request_of(1 + static_cast<int>(random() % 50)), 50,
                                             std::make_shared<Recorder>());
        if (submitted.refusal == EngineHost::Refusal::kNone) ++n_taken;
        if (random() % 2 == 0) h.host.cancel(submitted.ticket);
        if (random() % 8 == 0) h.host.call([](Driver& driver) { driver.stats(); });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(h.empties());
  EXPECT_EQ(n_taken, 400);
}

TEST(ServeWorkers, ClientsTakeTurns) {
  Workers workers(1, 100);
  Gate gate;
  gate.set(false);
  EXPECT_TRUE(workers.post("many", [&] { gate.pass(); }));
  EXPECT_TRUE(soon([&] { return gate.holds(); }));
  std::vector<std::string> order;  // of the one worker
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(workers.post("many", [&order, i] { order.push_back("m" + std::to_string(i)); }));
  }
  EXPECT_TRUE(workers.post("one", [&] { order.push_back("o"); }));
  EXPECT_TRUE(workers.post("another", [&] { order.push_back("a"); }));
  EXPECT_EQ(workers.n_tasks(), 8U);
  gate.set(true);
  EXPECT_TRUE(soon([&] { return workers.n_tasks() == 0; }));
  EXPECT_THAT(order, testing::ElementsAre("o", "a", "m0", "m1", "m2", "m3", "m4"));
}

// R5
TEST(ServeWorkers, WhatATaskThrowsEndsItAlone) {
  Workers workers(1, 10);
  std::atomic<int> n_done{0};
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(workers.post("", [] { throw std::runtime_error("a task"); }));
    EXPECT_TRUE(workers.post("", [] { throw 3; }));
    EXPECT_TRUE(workers.post("", [&] { ++n_done; }));
  }
  EXPECT_TRUE(soon([&] { return n_done == 3; }));
}

namespace asio = boost::asio;
using asio::ip::tcp;

/// The server's end of the wire alone.
class Wire {
 public:
  Wire(const ServerLimits& limits, ExchangeHandler handler)
      : http_({.port = 0, .limits = limits}, std::move(handler), refusal_reply) {
    http_.start();
  }
  ~Wire() { http_.stop(); }
  tcp::socket connect() {
    tcp::socket socket(io_);
    socket.connect({asio::ip::make_address("127.0.0.1"), http_.port()});
    return socket;
  }
  /// All that comes back until the server closes.
  std::string told(tcp::socket& socket, std::string_view bytes) {
    boost::system::error_code error;
    asio::write(socket, asio::buffer(bytes), error);
    std::string answer;
    asio::read(socket, asio::dynamic_buffer(answer), error);
    return answer;
  }
  std::string told(std::string_view bytes) {
    tcp::socket socket = connect();
    return told(socket, bytes);
  }
  bool empties() {
    return soon([this] { return http_.stats().connections == 0; });
  }

 private:
  asio::io_context io_;
  HttpServer http_;
};

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

void answer_at_once(const std::shared_ptr<Exchange>& exchange) {
  exchange->reply({});
}

// H5
TEST(ServeWire, WhatDoesNotArriveInTimeIs408) {
  ServerLimits limits;
  limits.header_seconds = 0.05;
  limits.body_window_seconds = 0.05;
  Wire wire(limits, answer_at_once);
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  for (const std::string& begun : {std::string("GET / HT"), post + "Content-Length: 9\r\n\r\nx",
                                   post + "Transfer-Encoding: chunked\r\n\r\n5\r\nx"}) {
    const std::string answer = wire.told(begun);
    EXPECT_THAT(answer, testing::StartsWith("HTTP/1.1 408 ")) << begun;
    EXPECT_THAT(answer, HasSubstr("\r\nconnection: close\r\n"));
    EXPECT_THAT(answer, HasSubstr("\"code\":\"request_timeout\""));
  }
  EXPECT_TRUE(wire.empties());
}

// H5: a byte now and then is too little
TEST(ServeWire, ABodyThatTricklesIs408) {
  ServerLimits limits;
  limits.body_window_seconds = 0.05;
  Wire wire(limits, answer_at_once);
  tcp::socket socket = wire.connect();
  asio::write(
      socket,
      asio::buffer(std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n")));
  EXPECT_TRUE(soon([&] {
    boost::system::error_code error;
    asio::write(socket, asio::buffer("x", 1), error);
    return error || socket.available() > 0;
  }));
  EXPECT_THAT(wire.told(socket, ""), testing::StartsWith("HTTP/1.1 408 "));
  socket.close();
  EXPECT_TRUE(wire.empties());
}

// H5: half-open
TEST(ServeWire, WhoSaysNothingIsClosed) {
  ServerLimits limits;
  limits.idle_seconds = 0.05;
  Wire wire(limits, answer_at_once);
  EXPECT_EQ(wire.told(""), "");
  const std::string keeps = wire.told("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(keeps, testing::StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(wire.empties());
}

/// Streams to a client that does not read, until it is told that the client is gone.
void stream_unread(const ServerLimits& limits, std::size_t piece_bytes, int most_pieces) {
  std::shared_ptr<Exchange> kept;
  std::atomic<bool> gone{false};
  std::atomic<int> n_pieces{0};
  {
    Wire wire(limits, [&](std::shared_ptr<Exchange> exchange) {
      kept = exchange;
      exchange->on_gone([&gone] { gone = true; });
      exchange->begin_stream({});
      const std::string piece(piece_bytes, 'x');
      while (!exchange->gone() && n_pieces < most_pieces) {
        exchange->write(piece);
        ++n_pieces;
      }
    });
    tcp::socket socket = wire.connect();
    asio::write(socket, asio::buffer(kGet));
    EXPECT_TRUE(soon([&] { return gone.load(); }));
    EXPECT_TRUE(wire.empties());
    kept.reset();  // none outlives the server
  }
  EXPECT_LE(n_pieces, most_pieces);
}

// H5: an answer that is never read
TEST(ServeWire, WhoTakesNothingForSoLongIsGone) {
  ServerLimits limits;
  limits.write_stall_seconds = 0.05;
  limits.unsent_bytes = std::size_t{1} << 30U;
  stream_unread(limits, std::size_t{64} << 20U, 1);  // more than sockets hold
}

// H5: the same by size
TEST(ServeWire, WhoLeavesTooMuchIsGone) {
  ServerLimits limits;
  limits.write_stall_seconds = 3600.0;
  limits.unsent_bytes = std::size_t{1} << 20U;
  stream_unread(limits, 100000, 1000);
}

// R5
TEST(ServeWire, AHandlerThatThrowsLosesItsConnectionAlone) {
  std::atomic<int> n_asked{0};
  Wire wire({}, [&](const std::shared_ptr<Exchange>& exchange) {
    ++n_asked;
    if (n_asked == 1) throw std::runtime_error("a handler");
    if (n_asked == 2) return exchange->post([exchange] { throw std::runtime_error("a task"); });
    exchange->reply({});
  });
  EXPECT_EQ(wire.told(kGet), "");
  EXPECT_EQ(wire.told(kGet), "");
  EXPECT_THAT(wire.told(kGet), testing::StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(wire.empties());
}

struct Reply {
  int status = 0;
  std::string body;
  std::string error;
};

/// A server with an engine that computes nothing, and clients of it.
class Server {
 public:
  explicit Server(FakeDriverOptions driver = {}, HostOptions options = {})
      : http_(
            {.port = 0, .threads = 2},
            [this](auto exchange) { service_->handle(std::move(exchange)); },
            [this](const Refusal& refusal) { return service_->refuse(refusal); }),
        engine_(options, std::move(driver)),
        service_(std::make_unique<Service>(engine_.host, ServiceOptions{})) {
    service_->watch(&http_);
    http_.start();
  }
  ~Server() {
    engine_.gate.set(true);
    http_.stop();
    service_->stop();
  }

  EngineHost& host() { return engine_.host; }
  Host& engine() { return engine_; }
  HttpServer& http() { return http_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(http_.port()); }
  bool empties() {
    return engine_.empties() && soon([this] { return http_.stats().connections == 0; });
  }

  /// All at one time, each on a connection of its own.
  std::vector<Reply> ask(const std::vector<ClientRequest>& requests) const {
    asio::io_context io;
    HttpClient client(io, parse_url(url(), "url"), "url");
    std::vector<Reply> replies(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      client.send(
          requests[i],
          {.received = [&reply = replies[i]](int, std::string_view bytes) { reply.body += bytes; },
           .done =
               [&reply = replies[i]](const ClientResult& result) {
                 reply.status = result.status;
                 reply.error = result.error;
               }});
    }
    io.run();
    return replies;
  }
  Reply ask(const ClientRequest& request) const { return ask(std::vector{request})[0]; }

  tcp::socket connect(asio::io_context& io) const {
    tcp::socket socket(io);
    socket.connect({asio::ip::make_address("127.0.0.1"), http_.port()});
    return socket;
  }

 private:
  HttpServer http_;
  Host engine_;
  std::unique_ptr<Service> service_;
};

ClientRequest get(const std::string& path) {
  return {.method = "GET", .target = path, .timeout_seconds = 60.0};
}

ClientRequest chat(const std::string& content, int n_tokens, bool stream = true, int n = 1) {
  const Json body{{"messages", {{{"role", "user"}, {"content", content}}}},
                  {"max_tokens", n_tokens},
                  {"stream", stream},
                  {"n", n}};
  return {.target = "/v1/chat/completions",
          .headers = {{"content-type", "application/json"}},
          .body = body.dump(),
          .timeout_seconds = 60.0};
}

/// What a chat request is answered with.
std::string expected(const std::string& content, int n_tokens) {
  const auto prompt = ByteTokenizer().encode("<user>" + content + "\n<assistant>", {});
  return FakeDriver::answer(prompt, 0, n_tokens);
}

/// The content of a stream of one choice; what is missing at its end is added to it.
std::string streamed(const Reply& reply) {
  std::string text;
  std::string last;
  EventReader().push(reply.body, [&](std::string_view data) {
    last = data;
    if (data == "[DONE]") return;
    const Json event = Json::parse(data);
    if (event.contains("error")) {
      text += " error " + event["error"]["code"].get<std::string>();
      return;
    }
    for (const Json& choice : event["choices"]) text += choice["delta"].value("content", "");
  });
  return last == "[DONE]" ? text : text + " (no end)";
}

TEST(ServeServer, HundredsOfStreamsAtOnceEachGetTheirOwnAnswer) {
  Server server({.max_running = 64});
  std::vector<ClientRequest> requests;
  for (int i = 0; i < 250; ++i) {
    requests.push_back(chat("stream " + std::to_string(i), 5 + i % 20, i % 5 != 0));
  }
  const auto replies = server.ask(requests);
  for (int i = 0; i < 250; ++i) {
    const Reply& reply = replies[static_cast<std::size_t>(i)];
    ASSERT_EQ(reply.status, 200) << reply.error << reply.body;
    const std::string text =
        i % 5 != 0 ? streamed(reply)
                   : Json::parse(reply.body)["choices"][0]["message"]["content"].get<std::string>();
    EXPECT_EQ(text, expected("stream " + std::to_string(i), 5 + i % 20));
  }
  EXPECT_TRUE(server.empties());
}

TEST(ServeServer, OtherRoutesAnswerWhileStreamsRun) {
  Server server({.max_running = 32, .tokens_per_second = 400.0});
  std::vector<ClientRequest> requests;
  for (int i = 0; i < 60; ++i) {
    requests.push_back(chat("s", 30));
    requests.push_back(get(i % 4 == 0   ? "/metrics"
                           : i % 4 == 1 ? "/v1/models"
                           : i % 4 == 2 ? "/health"
                                        : "/openapi.json"));
  }
  for (const Reply& reply : server.ask(requests)) EXPECT_EQ(reply.status, 200) << reply.error;
  EXPECT_TRUE(server.empties());
}

TEST(ServeServer, ASurplusIsRefusedWith429AndTheRestAnswered) {
  Server server({.max_running = 4}, {.most_open = 20});
  server.engine().hold();
  std::thread opener([&server] {
    EXPECT_TRUE(soon([&] { return server.host().n_open() == 20; }));
    EXPECT_TRUE(soon([&] {
      return server.ask(get("/metrics")).body.find("route=\"chat\",status=\"4xx\"} 80") !=
             std::string::npos;
    }));
    server.engine().gate.set(true);
  });
  const auto replies = server.ask(std::vector(100, chat("surplus", 3)));
  opener.join();
  EXPECT_EQ(std::ranges::count(replies, 200, &Reply::status), 20);
  EXPECT_EQ(std::ranges::count(replies, 429, &Reply::status), 80);
  EXPECT_TRUE(server.empties());
}

/// Goes at a random point of a random request.
void quit_somewhere(const Server& server, unsigned seed) {
  std::mt19937 random(seed);
  asio::io_context io;
  const std::string body =
      chat("quit", 1 + static_cast<int>(random() % 40), random() % 2 == 0).body;
  const std::string whole =
      "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Content-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  tcp::socket socket = server.connect(io);
  boost::system::error_code ignored;
  const std::size_t n = random() % 3 == 0 ? random() % whole.size() : whole.size();
  asio::write(socket, asio::buffer(whole.data(), n), ignored);
  if (random() % 3 == 0) asio::write(socket, asio::buffer(whole), ignored);  // pipelined
  if (random() % 4 == 0) socket.shutdown(tcp::socket::shutdown_send, ignored);
  if (n == whole.size() && random() % 2 == 0) {
    std::vector<char> bytes(1 + random() % 400);
    socket.read_some(asio::buffer(bytes), ignored);
  }
  if (random() % 2 == 0) socket.set_option(asio::socket_base::linger(true, 0), ignored);
  socket.close(ignored);
}

TEST(ServeServer, ClientsThatGoAtAnyTimeLeaveNothingBehind) {
  Server server({.max_running = 8, .tokens_per_second = 2000.0});
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&server, t] {
      for (unsigned i = 0; i < 80; ++i) quit_somewhere(server, t * 1000 + i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(server.empties());
  EXPECT_EQ(streamed(server.ask(chat("after", 4))), expected("after", 4));
}

TEST(ServeServer, DrainLetsStreamsEndAndRefusesNewOnes) {
  Server server({.max_running = 64});
  server.engine().hold();
  std::thread drainer([&server] {
    EXPECT_TRUE(soon([&] { return server.host().n_open() == 50; }));
    server.host().drain();
    server.http().drain();
    EXPECT_EQ(server.ask(get("/health")).status, 503);
    EXPECT_EQ(server.ask(chat("new", 1)).status, 503);
    server.engine().gate.set(true);
  });
  const auto replies = server.ask(std::vector(50, chat("drain", 20)));
  drainer.join();
  for (const Reply& reply : replies) EXPECT_EQ(streamed(reply), expected("drain", 20));
  EXPECT_TRUE(server.empties());
}

TEST(ServeServer, WhatIsCancelledAtTheEndOfADrainIsToldSo) {
  Server server({.max_running = 64, .tokens_per_second = 100.0});
  std::thread canceller([&server] {
    EXPECT_TRUE(soon([&] { return server.host().stats().running >= 20; }));
    server.host().drain();
    server.host().cancel_all("draining");
  });
  const auto replies = server.ask(std::vector(40, chat("cut", 30000)));
  canceller.join();
  for (const Reply& reply : replies) {
    const bool before = reply.status == 503;  // it had not begun, or comes too late
    EXPECT_TRUE(before || streamed(reply).find(" error draining") != std::string::npos)
        << reply.body;
  }
  EXPECT_TRUE(server.empties());
}

TEST(ServeServer, StopWhileStreamsRunCutsThem) {
  std::vector<Reply> replies;
  std::thread client;
  {
    Server server({.max_running = 64, .tokens_per_second = 200.0});
    client = std::thread([&server, &replies, url = server.url()] {
      replies = server.ask(std::vector(100, chat("stop", 30000)));
    });
    EXPECT_TRUE(soon([&] { return server.host().n_open() == 100; }));
    server.http().stop();
    client.join();
  }
  ASSERT_EQ(replies.size(), 100U);
  for (const Reply& reply : replies) EXPECT_NE(reply.error, "");
}

TEST(ServeServer, ADeadEngineIsToldToAll) {
  std::atomic<bool> broken{false};
  Server server({.max_running = 64, .tokens_per_second = 200.0, .before_step = [&broken] {
                   if (broken) throw std::runtime_error("an invariant");
                 }});
  std::thread breaker([&] {
    EXPECT_TRUE(soon([&] { return server.host().stats().running >= 30; }));
    broken = true;
  });
  const auto replies = server.ask(std::vector(30, chat("dead", 30000)));
  breaker.join();
  for (const Reply& reply : replies) {
    EXPECT_THAT(streamed(reply), HasSubstr(" error engine_dead"));
  }
  EXPECT_EQ(server.ask(get("/health")).status, 503);
  EXPECT_EQ(server.ask(chat("new", 1)).status, 503);
  EXPECT_EQ(server.ask(get("/v1/models")).status, 200);
}

TEST(ServeServer, WhatTheEngineHasNotBegunWhenItDiesIs503StreamedOrNot) {
  Gate gate;
  std::atomic<bool> broken{false};
  Server server({.before_step = [&] {
    gate.pass();
    if (broken) throw std::runtime_error("an invariant");
  }});
  gate.set(false);
  std::thread breaker([&] {
    EXPECT_TRUE(soon([&] { return gate.holds() && server.host().n_open() == 4; }));
    broken = true;
    gate.set(true);
  });
  const auto replies =
      server.ask({chat("one", 5), chat("two", 5), chat("three", 5), chat("whole", 5, false)});
  breaker.join();
  int n_early = 0;  // one at least waited behind the step
  for (const Reply& reply : replies) {
    EXPECT_THAT(reply.body, HasSubstr("engine_dead"));
    if (reply.status == 503) ++n_early;
  }
  EXPECT_GE(n_early, 1);
  EXPECT_TRUE(soon([&] { return server.host().n_open() == 0; }));
}

/// A chat request with log probabilities.
ClientRequest with_logprobs(ClientRequest request) {
  Json body = Json::parse(request.body);
  body["logprobs"] = true;
  request.body = body.dump();
  return request;
}

// R5
TEST(ServeServer, ATokenizerThatThrowsFailsItsRequestAlone) {
  Server server;
  std::vector<ClientRequest> requests;
  for (int i = 0; i < 20; ++i) {
    requests.push_back(chat(i % 2 == 0 ? "unreadable" : "readable", 5, i % 4 < 2));
  }
  const auto replies = server.ask(requests);
  for (std::size_t i = 0; i < replies.size(); ++i) {
    ASSERT_EQ(replies[i].status, i % 2 == 0 ? 500 : 200) << replies[i].body;
    if (i % 2 == 0) {
      EXPECT_THAT(replies[i].body, HasSubstr("\"code\":\"internal_error\""));
    }
  }
  EXPECT_TRUE(server.empties());
}

// R5
TEST(ServeServer, AnAnswerThatThrowsIsAnErrorOfItsOwn) {
  Server server({.max_running = 8, .tokens_per_second = 500.0});
  std::vector<Reply> others;
  std::thread client([&] { others = server.ask(std::vector(4, chat("other", 100))); });
  EXPECT_TRUE(soon([&] { return server.host().stats().running == 4; }));
  server.engine().tokenizer.broken = true;  // needed for log probabilities alone
  const Reply whole = server.ask(with_logprobs(chat("a", 3, false)));
  EXPECT_EQ(whole.status, 500);
  EXPECT_THAT(whole.body, HasSubstr("\"code\":\"internal_error\""));
  EXPECT_THAT(streamed(server.ask(with_logprobs(chat("a", 30000)))),
              HasSubstr(" error internal_error"));
  server.engine().tokenizer.broken = false;
  client.join();
  for (const Reply& reply : others) EXPECT_EQ(streamed(reply), expected("other", 100));
  EXPECT_TRUE(server.empties());
}

TEST(ServeServer, PipelinedRequestsAreAnsweredInTheirOrder) {
  Server server;
  asio::io_context io;
  tcp::socket socket = server.connect(io);
  std::string all;
  for (int i = 0; i < 20; ++i) {
    all += "GET /v1/models/" + std::string(i % 2 == 0 ? "fake" : "other") +
           " HTTP/1.1\r\nHost: a\r\n" + (i == 19 ? "Connection: close\r\n" : "") + "\r\n";
  }
  asio::write(socket, asio::buffer(all));
  std::string answer;
  boost::system::error_code error;
  asio::read(socket, asio::dynamic_buffer(answer), error);
  std::string statuses;
  for (std::size_t at = answer.find("HTTP/1.1 "); at != std::string::npos;
       at = answer.find("HTTP/1.1 ", at + 1)) {
    statuses += answer.substr(at + 9, 3) + " ";
  }
  std::string wanted;
  for (int i = 0; i < 20; ++i) wanted += i % 2 == 0 ? "200 " : "404 ";
  EXPECT_EQ(statuses, wanted);
}

}  // namespace
}  // namespace heddle::serve
