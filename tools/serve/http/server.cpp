#include "tools/serve/http/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/start_thread.h"
#include "tools/serve/http/connection.h"

namespace heddle::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kMostLeaving = 256;

Refusal too_many() {
  return {503, "server_is_overloaded", "there are too many connections; try again later"};
}

/// An I/O thread and the connections that live on it.
struct IoThread {
  asio::io_context io{1};
  asio::executor_work_guard<asio::io_context::executor_type> work = asio::make_work_guard(io);
  std::set<std::shared_ptr<Connection>> connections;  // its thread's own
  std::atomic<std::int64_t> n_connections{0};
  std::thread thread;
};

/// What a callback throws is logged, and ends nothing but what it was about.
void run(asio::io_context& io) {
  for (;;) {
    try {
      io.run();
      return;
    } catch (const std::exception& e) {
      log(LogLevel::kError, fmt::format("a connection failed: {}", e.what()));
    }
  }
}

tcp::endpoint endpoint_of(const HttpServerOptions& options) {
  error_code error;
  const auto address = asio::ip::make_address(options.host, error);
  if (!error) return {address, options.port};
  asio::io_context io;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), error);
  if (error || found.empty()) {
    throw bad_input(fmt::format("--host: '{}' is not an address of this machine, nor a name of one",
                                options.host));
  }
  return found.begin()->endpoint();
}

std::shared_ptr<ByteBudget> bodies_of(const ServerLimits& limits) {
  auto bodies = std::make_shared<ByteBudget>();
  bodies->most = limits.bodies_bytes;
  bodies->free_bytes = limits.small_body_bytes;
  return bodies;
}

}  // namespace

struct HttpServer::Impl {
  Impl(HttpServerOptions o, ExchangeHandler handler, std::function<HttpReply(const Refusal&)> r)
      : options(std::move(o)),
        context{options.limits, bodies_of(options.limits), std::move(handler), std::move(r), {}},
        acceptor(acceptor_io) {
    if (!options.tls_certificate.empty()) {
      tls = tls_context(options.tls_certificate, options.tls_key);
    }
    bind();
    for (int i = 0; i < std::max(1, options.threads); ++i) {
      threads.push_back(std::make_unique<IoThread>());
    }
    spare = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
  ~Impl() {
    if (spare >= 0) ::close(spare);
  }

  void bind() {
    const tcp::endpoint endpoint = endpoint_of(options);
    error_code error;
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    check_listening(error);
    address = endpoint.address();
  }
  void check_listening(error_code error) const {
    if (!error) return;
    throw bad_input(fmt::format("--port: {}:{} cannot be listened on: {}", options.host,
                                options.port, error.message()));
  }

  void accept();
  void take(tcp::socket socket, IoThread& owner);
  void turn_away_politely(tcp::socket socket, const std::string& peer, IoThread& owner);
  void turn_away(tcp::socket socket);
  bool enter(const std::string& peer, bool loopback);
  void leave(const std::string& peer, bool loopback);
  IoThread& least_busy() {
    return **std::ranges::min_element(threads, {},
                                      [](const auto& t) { return t->n_connections.load(); });
  }

  HttpServerOptions options;
  ConnectionContext context;
  std::unique_ptr<asio::ssl::context> tls;
  std::vector<std::unique_ptr<IoThread>> threads;
  asio::io_context acceptor_io{1};
  tcp::acceptor acceptor;
  asio::ip::address address;
  std::thread acceptor_thread;
  int spare = -1;  // a descriptor to give up where there are no more
  std::mutex mutex;
  std::map<std::string, int> of_peer;  // connections; under the mutex
  std::atomic<std::int64_t> connections{0};
  std::atomic<std::int64_t> accepted{0};
  std::atomic<std::int64_t> turned_away{0};
  std::atomic<int> leaving{0};  // turned away, and not closed yet
  std::atomic<bool> draining{false};
  bool running = false;
};

bool HttpServer::Impl::enter(const std::string& peer, bool loopback) {
  const std::scoped_lock lock(mutex);
  if (connections.load() >= options.limits.connections) return false;
  if (!loopback) {
    int& n = of_peer[peer];
    if (n >= options.limits.connections_per_address) return false;
    ++n;
  }
  ++connections;
  return true;
}

void HttpServer::Impl::leave(const std::string& peer, bool loopback) {
  const std::scoped_lock lock(mutex);
  --connections;
  if (loopback) return;
  const auto it = of_peer.find(peer);
  if (it != of_peer.end() && --it->second == 0) of_peer.erase(it);
}

void HttpServer::Impl::accept() {
  IoThread& owner = least_busy();
  acceptor.async_accept(owner.io, [this, &owner](error_code error, tcp::socket socket) {
    if (error == asio::error::operation_aborted || !acceptor.is_open()) return;
    if (error == asio::error::no_descriptors && spare >= 0) {
      // Accept on the spare descriptor to say so: else the client would wait for ever.
      ::close(std::exchange(spare, -1));
      error_code again;
      tcp::socket refused = acceptor.accept(owner.io, again);
      if (!again) turn_away(std::move(refused));
      spare = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    } else if (!error) {
      take(std::move(socket), owner);
    } else {
      log_warning(fmt::format("accept: {}", error.message()));
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    accept();
  });
}

void HttpServer::Impl::take(tcp::socket socket, IoThread& owner) {
  error_code error;
  const tcp::endpoint remote = socket.remote_endpoint(error);
  if (error) return;  // gone already
  const std::string peer = remote.address().to_string();
  const bool loopback = remote.address().is_loopback();
  ++accepted;
  if (!enter(peer, loopback)) return turn_away_politely(std::move(socket), peer, owner);
  ++owner.n_connections;
  std::unique_ptr<ByteStream> stream =
      tls ? tls_stream(std::move(socket), *tls) : plain_stream(std::move(socket));
  auto connection = std::make_shared<Connection>(owner.io, std::move(stream), peer, context,
                                                 [this, &owner, peer, loopback](Connection& c) {
                                                   leave(peer, loopback);
                                                   --owner.n_connections;
                                                   owner.connections.erase(c.shared_from_this());
                                                 });
  asio::post(owner.io, [this, &owner, connection = std::move(connection)] {
    owner.connections.insert(connection);
    connection->start();
    if (draining) connection->drain();
  });
}

/// Reads what it still sends: closing at once would reset the connection, and the answer with it.
void HttpServer::Impl::turn_away_politely(tcp::socket socket,
                                          const std::string& peer,
                                          IoThread& owner) {
  if (tls || leaving >= kMostLeaving) return turn_away(std::move(socket));
  ++turned_away;
  ++leaving;
  auto connection = std::make_shared<Connection>(owner.io, plain_stream(std::move(socket)), peer,
                                                 context, [this, &owner](Connection& c) {
                                                   --leaving;
                                                   owner.connections.erase(c.shared_from_this());
                                                 });
  asio::post(owner.io, [&owner, connection = std::move(connection)] {
    owner.connections.insert(connection);
    connection->refuse(too_many());
  });
}

/// At once: where there are no descriptors, or very many come.
void HttpServer::Impl::turn_away(tcp::socket socket) {
  ++turned_away;
  if (tls) return;  // it would have to be said under TLS
  HttpReply reply = context.refuse(too_many());
  std::string text = fmt::format("HTTP/1.1 503 {}\r\n", reason_phrase(503));
  for (const auto& [name, value] : reply.headers) text += name + ": " + value + "\r\n";
  text += fmt::format("content-length: {}\r\nconnection: close\r\n\r\n{}", reply.body.size(),
                      reply.body);
  error_code ignored;
  socket.non_blocking(true, ignored);
  socket.write_some(asio::buffer(text), ignored);
  socket.shutdown(tcp::socket::shutdown_send, ignored);
}

HttpServer::HttpServer(HttpServerOptions options,
                       ExchangeHandler handler,
                       std::function<HttpReply(const Refusal&)> refuse,
                       std::function<std::optional<HttpReply>(const HttpRequest&)> check_head)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(handler), std::move(refuse))) {
  impl_->context.check_head = std::move(check_head);
}

HttpServer::~HttpServer() {
  stop();
}

void HttpServer::start() {
  error_code error;
  impl_->acceptor.listen(asio::socket_base::max_listen_connections, error);
  impl_->check_listening(error);
  impl_->running = true;
  try {
    for (const auto& thread : impl_->threads) {
      thread->thread = start_thread("heddle-http", [&io = thread->io] { run(io); });
    }
    asio::post(impl_->acceptor_io, [this] { impl_->accept(); });
    impl_->acceptor_thread = start_thread("heddle-accept", [this] { run(impl_->acceptor_io); });
  } catch (...) {
    stop();
    throw;
  }
}

void HttpServer::drain() {
  impl_->draining = true;
  for (const auto& thread : impl_->threads) {
    asio::post(thread->io, [&t = *thread] {
      for (const auto& connection : std::vector(t.connections.begin(), t.connections.end())) {
        connection->drain();
      }
    });
  }
}

void HttpServer::stop() {
  if (!std::exchange(impl_->running, false)) return;
  asio::post(impl_->acceptor_io, [this] {
    error_code ignored;
    impl_->acceptor.close(ignored);
  });
  if (impl_->acceptor_thread.joinable()) impl_->acceptor_thread.join();
  for (const auto& thread : impl_->threads) {
    asio::post(thread->io, [&t = *thread] {
      for (const auto& connection : std::vector(t.connections.begin(), t.connections.end())) {
        connection->close();
      }
      t.work.reset();
    });
  }
  for (const auto& thread : impl_->threads) {
    if (thread->thread.joinable()) thread->thread.join();
  }
}

std::uint16_t HttpServer::port() const {
  return impl_->acceptor.local_endpoint().port();
}

bool HttpServer::is_loopback() const {
  return impl_->address.is_loopback();
}

const ServerLimits& HttpServer::limits() const {
  return impl_->options.limits;
}

HttpServerStats HttpServer::stats() const {
  return {.connections = impl_->connections,
          .accepted = impl_->accepted,
          .turned_away = impl_->turned_away};
}

}  // namespace heddle::serve
