#pragma once
// A connection's bytes, plain or under TLS. Used on its own I/O thread only.

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace heddle::serve {

/// Callbacks run on the socket's I/O thread and not after close().
class ByteStream {
 public:
  using Done = std::function<void(boost::system::error_code)>;
  using Received = std::function<void(boost::system::error_code, std::string_view)>;

  virtual ~ByteStream() = default;
  virtual void handshake(Done done) = 0;
  /// Some bytes, valid during the callback; asio::error::eof when the peer sends no more. One at a
  /// time.
  virtual void read(Received received) = 0;
  /// All of `bytes`, which stay where they are until then. One at a time.
  virtual void write(std::string_view bytes, Done done) = 0;
  /// So many of the first bytes as go out without waiting, while no write() is under way. An error
  /// is told by the next write().
  virtual std::size_t write_now(std::string_view bytes) = 0;
  /// After the end of the peer's bytes: called when the connection breaks.
  virtual void wait_broken(std::function<void()> broken) = 0;
  /// No more is sent; the peer may still send.
  virtual void shutdown_send() = 0;
  virtual void close() = 0;
};

std::unique_ptr<ByteStream> plain_stream(boost::asio::ip::tcp::socket socket);
std::unique_ptr<ByteStream> tls_stream(boost::asio::ip::tcp::socket socket,
                                       boost::asio::ssl::context& context);

/// Throws kBadInput naming the file.
std::unique_ptr<boost::asio::ssl::context> tls_context(const std::string& certificate_file,
                                                       const std::string& key_file);

}  // namespace heddle::serve
