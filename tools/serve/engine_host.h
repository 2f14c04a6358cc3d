#pragma once
// The engine thread: what other threads ask of the engine, and what comes back to them.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "tools/serve/driver.h"

namespace heddle::serve {

/// Who waits for a request's progress. Called on the thread that its own post() runs tasks on.
class EventReceiver {
 public:
  virtual ~EventReceiver() = default;
  /// The engine has it: what is wrong with a request is known before this, or not at all.
  virtual void accepted() = 0;
  virtual void refused(ErrorKind kind, const std::string& text) = 0;
  /// Of one step, in order.
  virtual void progressed(const std::vector<RequestEvent>& events) = 0;
  virtual void post(std::function<void()> task) = 0;  // from any thread
};

using Ticket = std::uint64_t;

struct HostOptions {
  std::int64_t most_open = 1280;            // requests that wait or run
  std::int64_t most_open_tokens = 4 << 20;  // of their prompts and answers
  std::int64_t most_open_of_client = 0;     // of one Request::client; 0: any number
  std::int64_t most_open_tokens_of_client = 0;
  double stall_seconds = 60.0;  // a step that takes longer is a stalled engine
};

enum class HostState { kServing, kDraining, kStalled, kDead };
std::string_view name(HostState state);

/// All but the destructor may be called from any thread.
class EngineHost {
 public:
  EngineHost(std::unique_ptr<Driver> driver, HostOptions options);
  ~EngineHost();  // cancels what is left and ends the thread
  EngineHost(const EngineHost&) = delete;
  EngineHost& operator=(const EngineHost&) = delete;

  const ModelFacts& facts() const;

  enum class Refusal { kNone, kQueueFull, kQueueTokensFull, kClientFull, kDraining, kDead };
  struct Submitted {
    Ticket ticket = 0;
    Refusal refusal = Refusal::kNone;
  };
  /// Counts one open request until its last event has been delivered. `n_tokens`: of its prompt and
  /// all its answers.
  Submitted submit(Request request, std::int64_t n_tokens, std::shared_ptr<EventReceiver> receiver);
  /// Unknown and ended ones are ignored. What comes after it is not delivered.
  void cancel(Ticket ticket);
  /// Runs `task` on the engine thread between two steps. False: there is no engine any more.
  bool call(std::function<void(Driver&)> task);

  HostState state() const;
  std::int64_t n_open() const;
  /// Requests of one client that there is room for in an empty queue.
  std::int64_t most_open() const;
  /// The next request would be refused with kQueueFull.
  bool full() const;
  /// As of the last step, a second old at most.
  EngineStats stats() const;

  /// Refuses what comes from now on.
  void drain();
  /// Ends what is open with an error event `why`.
  void cancel_all(const std::string& why);

 private:
  struct Impl;
  void order(std::function<void()> task);  // for the engine thread
  std::unique_ptr<Impl> impl_;
};

}  // namespace heddle::serve
