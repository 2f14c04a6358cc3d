#include "tools/loadtest/sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "tools/loadtest/child_server.h"
#include "tools/loadtest/peers.h"
#include "tools/serve/client/response_reader.h"

namespace heddle::loadtest {
namespace {

using serve::EventReader;
using serve::ResponseReader;
using Asked = Row::Asked;

/// The number that a text begins with; -1: the event has no text, or another one.
std::int64_t stamp_of(std::string_view event) {
  constexpr std::string_view kKey = R"("content":")";
  const std::size_t at = event.find(kKey);
  if (at == std::string_view::npos) return -1;
  const char first = event[at + kKey.size()];
  return first >= '0' && first <= '9' ? std::atoll(event.data() + at + kKey.size()) : -1;
}

}  // namespace

bool Row::holds() const {
  switch (asked) {
    case Asked::kNothing:
      return true;
    case Asked::kLess:
      return value < bound;
    case Asked::kMore:
      return value >= bound;
    case Asked::kSame:
      return value == bound;
  }
  return false;
}

void add_counters(std::vector<Row>& rows, const Counters& before, const Counters& after) {
  const auto row = [&](const char* what, std::int64_t was, std::int64_t is) {
    rows.push_back({what, static_cast<double>(is), "", static_cast<double>(was), Asked::kSame});
  };
  row("open requests afterwards", before.open_requests, after.open_requests);
  row("connections afterwards", before.connections, after.connections);
  row("descriptors afterwards", before.fds, after.fds);
  row("threads afterwards", before.threads, after.threads);
}

std::string chat(std::string_view content, std::int64_t n_tokens, bool stream) {
  return post_request(
      "/v1/chat/completions",
      fmt::format(
          R"({{"model":"fake","messages":[{{"role":"user","content":"{}"}}],"max_tokens":{},)"
          R"("ignore_eos":true,"stream":{}}})",
          content, n_tokens, stream));
}

double ms_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double, std::milli>(b - a).count();
}

double percentile(std::vector<double>& values, double p) {
  if (values.empty()) return 0.0;
  std::ranges::sort(values);
  return values[static_cast<std::size_t>(p * static_cast<double>(values.size() - 1))];
}

const std::vector<Section>& sections() {
  static const std::vector<Section> kSections = {
      {"streams", "live event streams, 20 tokens a second each", run_streams},
      {"idle", "connections that have asked once and wait", run_idle},
      {"models", "GET /v1/models, 64 connections", run_models},
      {"burst", "chat requests at one time", run_burst},
      {"aborts", "clients that go, at any time", run_aborts},
      {"slope", "memory over many requests", run_slope}};
  return kSections;
}

std::vector<Row> run_streams(const LoadOptions& options) {
  const std::size_t n_streams = options.quick ? 100 : 1000;
  const int n_tokens = options.quick ? 40 : 200;
  ChildServer server({.rate = 20.0,
                      .running = static_cast<std::int64_t>(n_streams),
                      .stamps = true,
                      .http_threads = options.http_threads});
  const Counters before = server.counters();
  struct Stream {
    ResponseReader reader;
    EventReader events;
    int n_tokens = 0;
    bool done = false;
  };
  std::vector<Stream> streams(n_streams);
  std::vector<double> lags;
  std::size_t n_open = n_streams;
  std::size_t n_errors = 0;
  const auto end = [&](Stream& s, bool good) {
    if (s.reader.status() == 0 && good) return;
    --n_open;
    if (!good || !s.done || s.n_tokens != n_tokens || s.reader.status() != 200) ++n_errors;
  };
  PeerLoop loop(server.port(), n_streams, [&](Peer& peer, Happening what, std::string_view bytes) {
    Stream& s = streams[peer.index];
    if (what == Happening::kClosed) return end(s, false);
    if (what != Happening::kBytes) return;
    const auto now =
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch())
            .count();
    s.reader.push(bytes, [&](std::string_view body) {
      s.events.push(body, [&](std::string_view event) {
        if (event == "[DONE]") s.done = true;
        const std::int64_t stamp = stamp_of(event);
        if (stamp < 0) return;
        ++s.n_tokens;
        lags.push_back(static_cast<double>(now - stamp) / 1000.0);
      });
    });
    if (s.reader.state() == ResponseReader::State::kComplete) {
      end(s, true);
      loop.close(peer);
    } else if (s.reader.state() == ResponseReader::State::kBroken) {
      end(s, false);
      loop.close(peer);
    }
  });
  loop.open_all(20.0);
  const auto start = Clock::now();
  for (std::size_t i = 0; i < n_streams; ++i) loop.send(loop[i], chat("stream", n_tokens, true));
  const double longest_ms = n_tokens * 50.0 + 30000.0;
  while (n_open > 0 && ms_between(start, Clock::now()) < longest_ms) loop.turn(20);
  const double seconds = ms_between(start, Clock::now()) / 1000.0;
  const auto n_events = static_cast<double>(lags.size());
  std::vector<Row> rows = {
      {"streams", static_cast<double>(n_streams)},
      {"errors", static_cast<double>(n_errors + n_open), "", 0.0, Asked::kSame},
      {"tokens that came", n_events, "", static_cast<double>(n_streams) * n_tokens, Asked::kSame},
      {"seconds", seconds, "s"},
      {"lag of an event, median", percentile(lags, 0.5), "ms"},
      {"lag of an event, p99", percentile(lags, 0.99), "ms", options.quick ? 2000.0 : 100.0,
       Asked::kLess},
      {"lag of an event, most", percentile(lags, 1.0), "ms"}};
  add_counters(rows, before, server.wait_for(before, 10.0));
  return rows;
}

std::vector<Row> run_idle(const LoadOptions& options) {
  const std::size_t n = options.quick ? 500 : 10000;
  ChildServer server({.http_threads = options.http_threads});
  fetch(server.port(), "/health");
  const Counters before = server.counters();
  const std::int64_t rss = server.rss_bytes();
  std::vector<ResponseReader> readers(n);
  std::size_t n_answered = 0;
  std::size_t n_closed = 0;
  PeerLoop loop(server.port(), n, [&](Peer& peer, Happening what, std::string_view bytes) {
    if (what == Happening::kClosed) ++n_closed;
    if (what != Happening::kBytes) return;
    readers[peer.index].push(bytes, [](std::string_view) {});
    if (readers[peer.index].state() == ResponseReader::State::kComplete) ++n_answered;
  });
  loop.open_all(60.0);
  for (std::size_t i = 0; i < n; ++i) {
    loop.send(loop[i], get_request("/v1/models"));
    if (i % 64 == 0) loop.turn(0);
  }
  const auto start = Clock::now();
  while (n_answered + n_closed < n && ms_between(start, Clock::now()) < 30000.0) loop.turn(20);
  const double grown = static_cast<double>(server.rss_bytes() - rss) / (1 << 20);
  std::vector<Row> rows = {
      {"connections", static_cast<double>(n_answered), "", static_cast<double>(n), Asked::kSame},
      {"closed meanwhile", static_cast<double>(n_closed), "", 0.0, Asked::kSame},
      {"memory grown by", grown, "MiB", 100.0, Asked::kLess},
      {"of one", grown * 1024.0 / static_cast<double>(n), "KiB"}};
  for (std::size_t i = 0; i < n; ++i) loop.close(loop[i], true);
  add_counters(rows, before, server.wait_for(before, 10.0));
  return rows;
}

std::vector<Row> run_models(const LoadOptions& options) {
  constexpr std::size_t kPeers = 64;
  const double seconds = options.quick ? 1.5 : 8.0;
  ChildServer server({.http_threads = options.http_threads});
  const Counters before = server.counters();
  const std::string request = get_request("/v1/models");
  struct Client {
    ResponseReader reader;
    Clock::time_point asked = {};
  };
  std::vector<Client> clients(kPeers);
  std::vector<double> latencies;
  std::size_t n_errors = 0;
  bool measuring = false;
  PeerLoop loop(server.port(), kPeers, [&](Peer& peer, Happening what, std::string_view bytes) {
    Client& c = clients[peer.index];
    if (what == Happening::kClosed) ++n_errors;
    if (what != Happening::kBytes) return;
    c.reader.push(bytes, [](std::string_view) {});
    if (c.reader.state() != ResponseReader::State::kComplete) return;
    if (c.reader.status() != 200) ++n_errors;
    const auto now = Clock::now();
    if (measuring) latencies.push_back(ms_between(c.asked, now));
    c.reader.reset();
    c.asked = now;
    loop.send(peer, request);
  });
  loop.open_all(20.0);
  for (std::size_t i = 0; i < kPeers; ++i) {
    clients[i].asked = Clock::now();
    loop.send(loop[i], request);
  }
  const auto run_for = [&](double s) {
    const auto start = Clock::now();
    while (ms_between(start, Clock::now()) < s * 1000.0) loop.turn(20);
    return ms_between(start, Clock::now()) / 1000.0;
  };
  run_for(0.5);
  measuring = true;
  const double passed = run_for(seconds);
  const auto n = static_cast<double>(latencies.size());
  std::vector<Row> rows = {
      {"errors", static_cast<double>(n_errors), "", 0.0, Asked::kSame},
      {"requests a second", n / passed, "/s", options.quick ? 500.0 : 25000.0, Asked::kMore},
      {"latency, median", percentile(latencies, 0.5), "ms"},
      {"latency, p99", percentile(latencies, 0.99), "ms", options.quick ? 1000.0 : 5.0,
       Asked::kLess}};
  for (std::size_t i = 0; i < kPeers; ++i) loop.close(loop[i], true);
  add_counters(rows, before, server.wait_for(before, 10.0));
  return rows;
}

std::vector<Row> run_burst(const LoadOptions& options) {
  const std::size_t n = options.quick ? 1000 : 10000;
  ChildServer server({.rate = 200.0,
                      .running = 64,
                      .queue = options.quick ? 128 : 1024,
                      .http_threads = options.http_threads});
  const Counters before = server.counters();
  struct Client {
    ResponseReader reader;
    Clock::time_point asked = {};
    bool done = false;
  };
  std::vector<Client> clients(n);
  std::vector<double> taken;
  std::vector<double> shed;
  std::size_t n_other = 0;
  std::size_t n_left = n;
  PeerLoop loop(server.port(), n, [&](Peer& peer, Happening what, std::string_view bytes) {
    Client& c = clients[peer.index];
    if (what == Happening::kConnected || c.done) return;
    if (what == Happening::kBytes) {
      c.reader.push(bytes, [](std::string_view) {});
      if (c.reader.state() != ResponseReader::State::kComplete) return;
    }
    c.done = true;
    --n_left;
    const double ms = ms_between(c.asked, Clock::now());
    if (what == Happening::kClosed) {
      ++n_other;
    } else if (c.reader.status() == 200) {
      taken.push_back(ms);
    } else if (c.reader.status() == 429 && c.reader.header("retry-after")) {
      shed.push_back(ms);
    } else {
      ++n_other;
    }
  });
  loop.open_all(60.0);
  const std::string request = chat("burst", 16, false);
  const auto start = Clock::now();
  for (std::size_t i = 0; i < n; ++i) {
    clients[i].asked = Clock::now();
    loop.send(loop[i], request);
  }
  const double sent_ms = ms_between(start, Clock::now());
  while (n_left > 0 && ms_between(start, Clock::now()) < 60000.0) loop.turn(20);
  std::vector<Row> rows = {
      {"requests", static_cast<double>(n)},
      {"sent within", sent_ms, "ms"},
      {"not answered, or otherwise", static_cast<double>(n_other + n_left), "", 0.0, Asked::kSame},
      {"answered with 200", static_cast<double>(taken.size())},
      {"answered with 429", static_cast<double>(shed.size())},
      {"time to 429, median", percentile(shed, 0.5), "ms"},
      {"time to 429, p99", percentile(shed, 0.99), "ms"},
      {"all answered after", ms_between(start, Clock::now()), "ms"}};
  for (std::size_t i = 0; i < n; ++i) loop.close(loop[i], true);
  add_counters(rows, before, server.wait_for(before, 10.0));
  return rows;
}

}  // namespace heddle::loadtest
