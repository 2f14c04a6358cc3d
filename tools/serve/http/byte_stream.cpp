#include "tools/serve/http/byte_stream.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "base/error.h"

namespace heddle::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

/// What one read takes: shared by all connections of a thread, so that an idle one needs no buffer.
constexpr std::size_t kReadBytes = std::size_t{64} << 10U;
thread_local std::array<char, kReadBytes> t_read_buffer;

/// A socket's callbacks find out by `alive_` that their stream was closed.
class SocketBase : public ByteStream {
 public:
  void wait_broken(std::function<void()> broken) override {
    lowest().async_wait(tcp::socket::wait_error, guarded([broken = std::move(broken)](auto error) {
                          if (!error) broken();
                        }));
  }
  void shutdown_send() override {
    error_code ignored;
    lowest().shutdown(tcp::socket::shutdown_send, ignored);
  }
  void close() override {
    alive_.reset();
    error_code ignored;
    lowest().close(ignored);
  }

 protected:
  virtual tcp::socket& lowest() = 0;

  Done guarded(Done callback) {
    return [alive = std::weak_ptr<int>(alive_), callback = std::move(callback)](error_code error) {
      if (alive.lock()) callback(error);
    };
  }
  std::weak_ptr<int> alive() const { return alive_; }
  /// For what counts bytes, too.
  auto sized(Done callback) {
    return [done = guarded(std::move(callback))](error_code error, std::size_t) { done(error); };
  }

 private:
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

class PlainStream : public SocketBase {
 public:
  explicit PlainStream(tcp::socket socket) : socket_(std::move(socket)) {
    error_code ignored;
    socket_.set_option(tcp::no_delay(true), ignored);
    socket_.non_blocking(true, ignored);
  }

  void handshake(Done done) override {
    asio::post(socket_.get_executor(), [done = guarded(std::move(done))] { done(error_code()); });
  }

  void read(Received received) override {
    received_ = std::move(received);
    wait_readable();
  }

  void close() override {
    SocketBase::close();
    received_ = nullptr;  // it may hold what holds this
  }

  std::size_t write_now(std::string_view bytes) override {
    error_code error;
    const std::size_t n = socket_.write_some(asio::buffer(bytes.data(), bytes.size()), error);
    return error ? 0 : n;
  }

  void write(std::string_view bytes, Done done) override {
    asio::async_write(socket_, asio::buffer(bytes.data(), bytes.size()), sized(std::move(done)));
  }

 private:
  tcp::socket& lowest() override { return socket_; }

  void wait_readable() {
    socket_.async_wait(tcp::socket::wait_read, guarded([this](error_code error) {
                         std::size_t n = 0;
                         if (!error) n = socket_.read_some(asio::buffer(t_read_buffer), error);
                         if (error == asio::error::would_block) return wait_readable();
                         const Received received = std::exchange(received_, nullptr);
                         received(error, std::string_view(t_read_buffer.data(), n));
                       }));
  }

  tcp::socket socket_;
  Received received_;
};

class TlsStream : public SocketBase {
 public:
  TlsStream(tcp::socket socket, asio::ssl::context& context) : stream_(std::move(socket), context) {
    error_code ignored;
    stream_.next_layer().set_option(tcp::no_delay(true), ignored);
  }

  void handshake(Done done) override {
    stream_.async_handshake(asio::ssl::stream_base::server, guarded(std::move(done)));
  }

  void read(Received received) override {
    stream_.async_read_some(
        asio::buffer(buffer_),
        [this, self = alive(), received = std::move(received)](error_code error, std::size_t n) {
          if (self.expired()) return;
          if (error == asio::ssl::error::stream_truncated) error = asio::error::eof;
          received(error, std::string_view(buffer_.data(), n));
        });
  }

  std::size_t write_now(std::string_view) override { return 0; }

  void write(std::string_view bytes, Done done) override {
    asio::async_write(stream_, asio::buffer(bytes.data(), bytes.size()), sized(std::move(done)));
  }

 private:
  tcp::socket& lowest() override { return stream_.next_layer(); }
  asio::ssl::stream<tcp::socket> stream_;
  std::array<char, 4096> buffer_ = {};
};

}  // namespace

std::unique_ptr<ByteStream> plain_stream(tcp::socket socket) {
  return std::make_unique<PlainStream>(std::move(socket));
}

std::unique_ptr<ByteStream> tls_stream(tcp::socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsStream>(std::move(socket), context);
}

std::unique_ptr<asio::ssl::context> tls_context(const std::string& certificate_file,
                                                const std::string& key_file) {
  auto context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                       asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 |
                       asio::ssl::context::no_tlsv1_1);
  error_code error;
  context->use_certificate_chain_file(certificate_file, error);
  if (error) {
    throw bad_input(fmt::format("--tls-cert: {}: not a certificate chain in PEM: {}",
                                certificate_file, error.message()));
  }
  context->use_private_key_file(key_file, asio::ssl::context::pem, error);
  if (error) {
    throw bad_input(fmt::format("--tls-key: {}: not the certificate's key in PEM: {}", key_file,
                                error.message()));
  }
  return context;
}

}  // namespace heddle::serve
