#pragma once
// The server under load: a process of its own with an engine that computes nothing.

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace heddle::loadtest {

struct ChildOptions {
  double rate = 0.0;  // tokens a second of each sequence; 0: as fast as it goes
  std::int64_t running = 256;
  std::int64_t queue = 1024;  // requests that wait
  bool stamps = false;
  int http_threads = 1;

  std::string text() const;
  static ChildOptions of(const std::string& text);
};

/// What must be as it was when all clients have gone.
struct Counters {
  std::int64_t open_requests = 0;
  std::int64_t connections = 0;
  std::int64_t fds = 0;
  std::int64_t threads = 0;
  bool operator==(const Counters&) const = default;
};

/// Runs this program again as the server. Throws std::runtime_error where it does not start.
class ChildServer {
 public:
  explicit ChildServer(const ChildOptions& options);
  ~ChildServer();
  ChildServer(const ChildServer&) = delete;
  ChildServer& operator=(const ChildServer&) = delete;

  std::uint16_t port() const { return port_; }
  std::int64_t rss_bytes() const;
  Counters counters() const;
  /// Until they are `wanted`, at most so long; the last ones.
  Counters wait_for(const Counters& wanted, double seconds) const;
  int stop();  // exit code

 private:
  pid_t pid_ = -1;
  int input_ = -1;  // its end is the child's
  std::uint16_t port_ = 0;
};

/// The child's main().
int run_child(const std::string& options);

void raise_descriptor_limit();

}  // namespace heddle::loadtest
