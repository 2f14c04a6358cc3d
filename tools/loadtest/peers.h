#pragma once
// Many client sockets on one thread, with as little between them and the kernel as can be: what is
// measured is the server.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace heddle::loadtest {

using Clock = std::chrono::steady_clock;

enum class Happening {
  kConnected,
  kBytes,
  kClosed,  // by the server, or never connected; the peer is closed
};

struct Peer {
  int fd = -1;
  std::size_t index = 0;
  bool connected = false;
  std::string out;       // what is still to be sent
  std::size_t sent = 0;  // of it
};

class PeerLoop {
 public:
  using Handler = std::function<void(Peer&, Happening, std::string_view)>;

  PeerLoop(std::uint16_t port, std::size_t n_peers, Handler handler);
  ~PeerLoop();
  PeerLoop(const PeerLoop&) = delete;
  PeerLoop& operator=(const PeerLoop&) = delete;

  Peer& operator[](std::size_t i) { return *peers_[i]; }
  std::size_t size() const { return peers_.size(); }

  void open(Peer& peer);
  void send(Peer& peer, std::string_view bytes);
  void close(Peer& peer, bool reset = false);
  void shut(Peer& peer);  // sends no more
  /// Handles what happens within `timeout_ms`; returns at once after something did.
  void turn(int timeout_ms);
  /// Opens those that are closed, not too many at a time. Throws std::runtime_error if some cannot.
  void open_all(double seconds);

 private:
  void watch(Peer& peer, bool writing, bool add);
  void flush(Peer& peer);
  void readable(Peer& peer);

  std::uint16_t port_;
  std::vector<std::unique_ptr<Peer>> peers_;
  Handler handler_;
  int epoll_ = -1;
  unsigned n_opened_ = 0;
  std::vector<char> buffer_;
};

/// The body of a GET, over a connection of its own. Throws std::runtime_error.
std::string fetch(std::uint16_t port, const std::string& path);

/// A request in bytes.
std::string get_request(std::string_view path);
std::string post_request(std::string_view path, std::string_view body);

}  // namespace heddle::loadtest
