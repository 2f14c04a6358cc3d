// Sections that run for long: clients that go at any time, and memory over many requests.

#include <algorithm>
#include <random>
#include <string>
#include <utility>

#include "tools/loadtest/sections.h"
#include "tools/serve/client/response_reader.h"

namespace heddle::loadtest {
namespace {

using serve::ResponseReader;
using Asked = Row::Asked;

/// Clients that each send something, or a part of it, and go after so many bytes or so much time.
class Quitters {
 public:
  Quitters(std::uint16_t port, std::size_t n_at_once, std::size_t n_all)
      : n_all_(n_all),
        clients_(n_at_once),
        loop_(port, n_at_once, [this](Peer& peer, Happening what, std::string_view bytes) {
          happened(peer, what, bytes);
        }) {}

  void run() {
    for (std::size_t i = 0; i < clients_.size(); ++i) begin(loop_[i]);
    while (n_gone_ < n_all_) {
      loop_.turn(1);
      const auto now = Clock::now();
      for (std::size_t i = 0; i < clients_.size(); ++i) {
        if (loop_[i].fd >= 0 && now >= clients_[i].leaves) go(loop_[i]);
      }
    }
  }
  std::size_t n_complete() const { return n_complete_; }
  std::size_t n_cut() const { return n_cut_; }

 private:
  struct Client {
    ResponseReader reader;
    Clock::time_point leaves = {};
    std::size_t bytes_left = 0;  // that it waits for
    bool half = false;
  };

  std::size_t pick(std::size_t n) { return random_() % n; }

  void begin(Peer& peer) {
    if (n_begun_ >= n_all_) return;
    ++n_begun_;
    Client& c = clients_[peer.index];
    c = {};
    c.leaves = Clock::now() + std::chrono::microseconds(pick(4) == 0 ? 0 : pick(40000));
    c.bytes_left = pick(3) == 0 ? pick(4000) : ~std::size_t{0};
    c.half = pick(8) == 0;
    loop_.open(peer);
    std::string request = chat("abort", 1 + static_cast<std::int64_t>(pick(64)), pick(2) == 0);
    switch (pick(8)) {
      case 0:  // nothing at all
        return;
      case 1:  // a part of head or body
        request.resize(pick(request.size()));
        break;
      case 2:  // several, one behind the other
        request += request + get_request("/health") + request;
        break;
      case 3:  // one that is answered at once
        request = get_request("/v1/models");
        break;
      default:
        break;
    }
    loop_.send(peer, request);
    if (c.half && peer.connected) loop_.shut(peer);
  }

  void go(Peer& peer) {
    loop_.close(peer, pick(2) == 0);
    gone(peer);
  }

  void gone(Peer& peer) {
    ++n_gone_;
    begin(peer);
  }

  void happened(Peer& peer, Happening what, std::string_view bytes) {
    Client& c = clients_[peer.index];
    if (what == Happening::kConnected) return;
    if (what == Happening::kClosed) {
      ++n_cut_;
      return gone(peer);
    }
    c.reader.push(bytes, [](std::string_view) {});
    if (c.reader.state() == ResponseReader::State::kComplete) {
      ++n_complete_;
      if (c.half) return go(peer);
    }
    if (bytes.size() >= c.bytes_left) return go(peer);
    c.bytes_left -= bytes.size();
    if (c.half) loop_.shut(peer);
  }

  std::size_t n_all_;
  std::vector<Client> clients_;
  std::mt19937 random_{7};
  std::size_t n_begun_ = 0;
  std::size_t n_gone_ = 0;
  std::size_t n_complete_ = 0;
  std::size_t n_cut_ = 0;
  PeerLoop loop_;
};

/// Keeps asking on connections that stay, and looks at the server's memory now and then.
class Askers {
 public:
  Askers(const ChildServer& server, std::size_t n_peers, std::size_t n_all)
      : server_(server),
        n_all_(n_all),
        readers_(n_peers),
        loop_(server.port(), n_peers, [this](Peer& peer, Happening what, std::string_view bytes) {
          if (what == Happening::kClosed) ++n_errors_;
          if (what == Happening::kBytes) received(peer, bytes);
        }) {}

  void run() {
    loop_.open_all(20.0);
    for (std::size_t i = 0; i < readers_.size(); ++i) ask(loop_[i]);
    while (n_done_ < n_all_ && n_errors_ == 0) loop_.turn(100);
  }
  void close() {
    for (std::size_t i = 0; i < readers_.size(); ++i) loop_.close(loop_[i]);
  }

  std::size_t n_done() const { return n_done_; }
  std::size_t n_errors() const { return n_errors_; }
  /// MiB per 100,000 requests, by least squares over what came after the first third.
  double slope() const {
    double n = 0.0;
    double x_sum = 0.0;
    double y_sum = 0.0;
    double xx = 0.0;
    double xy = 0.0;
    for (const auto& [requests, mib] : samples_) {
      const double x = requests / 1e5;
      n += 1.0;
      x_sum += x;
      y_sum += mib;
      xx += x * x;
      xy += x * mib;
    }
    const double spread = n * xx - x_sum * x_sum;
    return spread > 0.0 ? (n * xy - x_sum * y_sum) / spread : 0.0;
  }

 private:
  void ask(Peer& peer) {
    if (n_sent_ >= n_all_) return;
    const std::size_t i = n_sent_++;
    loop_.send(peer, i % 100 == 99   ? metrics_
                     : i % 100 == 49 ? wrong_
                     : i % 2 == 0    ? whole_
                                     : stream_);
  }

  void received(Peer& peer, std::string_view bytes) {
    ResponseReader& reader = readers_[peer.index];
    reader.push(bytes, [](std::string_view) {});
    if (reader.state() == ResponseReader::State::kBroken) ++n_errors_;
    if (reader.state() != ResponseReader::State::kComplete) return;
    if (reader.status() != 200 && reader.status() != 400) ++n_errors_;
    reader.reset();
    ++n_done_;
    const std::size_t every = std::max<std::size_t>(n_all_ / 60, 1);
    if (n_done_ > n_all_ / 3 && n_done_ % every == 0) {
      samples_.emplace_back(static_cast<double>(n_done_),
                            static_cast<double>(server_.rss_bytes()) / (1 << 20));
    }
    ask(peer);
  }

  const ChildServer& server_;
  std::size_t n_all_;
  std::vector<ResponseReader> readers_;
  std::string whole_ = chat("one", 4, false);
  std::string stream_ = chat("another one", 4, true);
  std::string wrong_ = chat("too long", 100000000, false);  // 400
  std::string metrics_ = get_request("/metrics");
  std::size_t n_sent_ = 0;
  std::size_t n_done_ = 0;
  std::size_t n_errors_ = 0;
  std::vector<std::pair<double, double>> samples_;  // requests, MiB
  PeerLoop loop_;
};

}  // namespace

std::vector<Row> run_aborts(const LoadOptions& options) {
  const std::size_t n = options.quick ? 3000 : 100000;
  ChildServer server({.rate = 500.0, .running = 64, .http_threads = options.http_threads});
  fetch(server.port(), "/health");
  const Counters before = server.counters();
  const auto start = Clock::now();
  Quitters quitters(server.port(), options.quick ? 64 : 256, n);
  quitters.run();
  const double seconds = ms_between(start, Clock::now()) / 1000.0;
  const Counters after = server.wait_for(before, 10.0);
  std::vector<Row> rows = {
      {"clients", static_cast<double>(n)},
      {"seconds", seconds, "s"},
      {"answers that were complete", static_cast<double>(quitters.n_complete())},
      {"closed by the server", static_cast<double>(quitters.n_cut())}};
  add_counters(rows, before, after);
  return rows;
}

std::vector<Row> run_slope(const LoadOptions& options) {
  const std::size_t n_all = options.quick ? 4000 : 400000;
  ChildServer server({.running = 64, .http_threads = options.http_threads});
  const Counters before = server.counters();
  const auto start = Clock::now();
  Askers askers(server, 64, n_all);
  askers.run();
  const double seconds = ms_between(start, Clock::now()) / 1000.0;
  const double slope = askers.slope();
  std::vector<Row> rows = {
      {"requests", static_cast<double>(askers.n_done()), "", static_cast<double>(n_all),
       Asked::kSame},
      {"errors", static_cast<double>(askers.n_errors()), "", 0.0, Asked::kSame},
      {"requests a second", static_cast<double>(askers.n_done()) / seconds, "/s"},
      {"memory at the end", static_cast<double>(server.rss_bytes()) / (1 << 20), "MiB"}};
  // Of few requests it is noise: then it is printed and asked for nothing.
  rows.push_back({"memory per 100,000 requests", slope, "MiB", 1.0,
                  options.quick ? Asked::kNothing : Asked::kLess});
  askers.close();
  add_counters(rows, before, server.wait_for(before, 10.0));
  return rows;
}

}  // namespace heddle::loadtest
