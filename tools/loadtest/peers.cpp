#include "tools/loadtest/peers.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "tools/serve/client/response_reader.h"

namespace heddle::loadtest {
namespace {

sockaddr_in loopback(std::uint32_t address, std::uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(address);
  return a;
}

constexpr std::uint32_t kLoopback = 0x7f000001;

}  // namespace

PeerLoop::PeerLoop(std::uint16_t port, std::size_t n_peers, Handler handler)
    : port_(port),
      handler_(std::move(handler)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      buffer_(65536) {
  for (std::size_t i = 0; i < n_peers; ++i) {
    peers_.push_back(std::make_unique<Peer>());
    peers_.back()->index = i;
  }
}

PeerLoop::~PeerLoop() {
  for (const auto& peer : peers_) close(*peer, true);
  ::close(epoll_);
}

void PeerLoop::watch(Peer& peer, bool writing, bool add) {
  epoll_event event{};
  event.events = EPOLLIN | (writing ? EPOLLOUT : 0U);
  event.data.ptr = &peer;
  epoll_ctl(epoll_, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, peer.fd, &event);
}

void PeerLoop::open(Peer& peer) {
  peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (peer.fd < 0) throw std::runtime_error(fmt::format("socket: {}", std::strerror(errno)));
  const int on = 1;
  setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // Of several addresses, so that ports of closed connections do not run out.
  setsockopt(peer.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  const sockaddr_in from = loopback(kLoopback + n_opened_++ % 200, 0);
  bind(peer.fd, reinterpret_cast<const sockaddr*>(&from), sizeof from);
  peer.connected = false;
  peer.out.clear();
  peer.sent = 0;
  const sockaddr_in to = loopback(kLoopback, port_);
  if (connect(peer.fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 &&
      errno != EINPROGRESS) {
    throw std::runtime_error(fmt::format("connect: {}", std::strerror(errno)));
  }
  watch(peer, true, true);
}

void PeerLoop::send(Peer& peer, std::string_view bytes) {
  if (peer.fd < 0) return;
  const bool waits = !peer.out.empty();
  peer.out.append(bytes);
  if (peer.connected && !waits) flush(peer);
}

void PeerLoop::flush(Peer& peer) {
  while (peer.sent < peer.out.size()) {
    const ssize_t n =
        ::send(peer.fd, peer.out.data() + peer.sent, peer.out.size() - peer.sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) return watch(peer, true, false);
    if (n < 0) break;  // reading tells
    peer.sent += static_cast<std::size_t>(n);
  }
  peer.out.clear();
  peer.sent = 0;
}

void PeerLoop::close(Peer& peer, bool reset) {
  if (peer.fd < 0) return;
  if (reset) {
    const linger now{1, 0};
    setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  ::close(peer.fd);
  peer.fd = -1;
}

void PeerLoop::shut(Peer& peer) {
  if (peer.fd >= 0) ::shutdown(peer.fd, SHUT_WR);
}

void PeerLoop::readable(Peer& peer) {
  const ssize_t n = recv(peer.fd, buffer_.data(), buffer_.size(), 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) {
    return handler_(peer, Happening::kBytes, {buffer_.data(), static_cast<std::size_t>(n)});
  }
  close(peer);
  handler_(peer, Happening::kClosed, {});
}

void PeerLoop::turn(int timeout_ms) {
  epoll_event events[512];
  const int n = epoll_wait(epoll_, events, 512, timeout_ms);
  for (int i = 0; i < n; ++i) {
    Peer& peer = *static_cast<Peer*>(events[i].data.ptr);
    if (peer.fd < 0) continue;
    if (!peer.connected && (events[i].events & (EPOLLERR | EPOLLHUP)) == 0 &&
        (events[i].events & EPOLLOUT) != 0) {
      peer.connected = true;
      watch(peer, false, false);
      handler_(peer, Happening::kConnected, {});
      if (peer.fd >= 0 && !peer.out.empty()) flush(peer);
    } else if ((events[i].events & EPOLLOUT) != 0 && peer.connected) {
      watch(peer, false, false);
      flush(peer);
    }
    if (peer.fd >= 0 && (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) readable(peer);
  }
}

void PeerLoop::open_all(double seconds) {
  constexpr std::size_t kAtOnce = 512;  // the server's backlog is not for ever
  const auto start = Clock::now();
  std::size_t next = 0;
  for (;;) {
    std::size_t n_connected = 0;
    for (std::size_t i = 0; i < next; ++i) n_connected += peers_[i]->connected ? 1 : 0;
    if (n_connected == peers_.size()) return;
    if (Clock::now() - start > std::chrono::duration<double>(seconds)) {
      throw std::runtime_error(
          fmt::format("{} of {} connections are open", n_connected, peers_.size()));
    }
    for (; next < peers_.size() && next - n_connected < kAtOnce; ++next) open(*peers_[next]);
    turn(10);
  }
}

std::string fetch(std::uint16_t port, const std::string& path) {
  std::string body;
  serve::ResponseReader reader;
  bool over = false;
  PeerLoop loop(port, 1, [&](Peer&, Happening what, std::string_view bytes) {
    if (what == Happening::kBytes) {
      reader.push(bytes, [&](std::string_view part) { body += part; });
      over = reader.state() == serve::ResponseReader::State::kComplete;
    } else if (what == Happening::kClosed) {
      over = true;
    }
  });
  loop.open(loop[0]);
  loop.send(loop[0], get_request(path));
  for (int i = 0; i < 3000 && !over; ++i) loop.turn(10);
  if (reader.state() != serve::ResponseReader::State::kComplete || reader.status() != 200) {
    throw std::runtime_error(fmt::format("GET {}: {}", path, reader.status()));
  }
  return body;
}

std::string get_request(std::string_view path) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
}

std::string post_request(std::string_view path, std::string_view body) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      path, body.size(), body);
}

}  // namespace heddle::loadtest
