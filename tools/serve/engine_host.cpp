#include "tools/serve/engine_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/start_thread.h"

namespace heddle::serve {
namespace {

constexpr int kMostFailedSteps = 1000;  // for want of memory: a second at least

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

std::string_view name(HostState state) {
  switch (state) {
    case HostState::kServing:
      return "serving";
    case HostState::kDraining:
      return "draining";
    case HostState::kStalled:
      return "stalled";
    case HostState::kDead:
      return "dead";
  }
  return "";
}

struct EngineHost::Impl {
  struct Open {
    std::shared_ptr<EventReceiver> receiver;
    RequestId id = 0;      // 0: not submitted yet
    int choices_left = 0;  // that have not ended
    std::int64_t n_tokens = 0;
    std::string client = {};
    bool cancelled = false;                 // its receiver has gone
    std::vector<RequestEvent> events = {};  // of this step
  };

  struct Share {
    std::int64_t n_open = 0;
    std::int64_t n_tokens = 0;
  };

  Impl(std::unique_ptr<Driver> d, HostOptions o)
      : driver(std::move(d)), facts(driver->facts()), options(o) {}

  void run();
  bool take_orders();
  void begin(Ticket ticket, Request request);
  void receive(Ticket ticket, const RequestEvent& event);
  void deliver();
  void die(const std::string& why);
  void end(Ticket ticket);
  Refusal admit(const std::string& client, std::int64_t n_tokens);
  void release(const std::string& client, std::int64_t n_tokens);
  void publish(bool at_once);

  std::unique_ptr<Driver> driver;
  ModelFacts facts;
  HostOptions options;

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::function<void()>> orders;  // under the mutex, in order
  bool stopping = false;                      // under the mutex
  EngineStats last_stats;                     // under the mutex
  std::int64_t open_tokens = 0;               // under the mutex
  std::map<std::string, Share> share_of;      // of clients; under the mutex, if bounded

  std::atomic<std::int64_t> n_open{0};  // written under the mutex
  std::atomic<Ticket> next_ticket{1};
  std::atomic<bool> draining{false};
  std::atomic<bool> dead{false};
  std::atomic<bool> busy{false};
  std::atomic<std::int64_t> heartbeat{now_ms()};

  // The engine thread's own.
  std::map<Ticket, Open> open;
  std::vector<Ticket> touched;  // have events of this step
  std::int64_t published = 0;
  std::thread thread;
};

bool EngineHost::Impl::take_orders() {
  std::vector<std::function<void()>> taken;
  {
    const std::scoped_lock lock(mutex);
    if (stopping) return false;
    taken.swap(orders);
  }
  heartbeat = now_ms();
  busy = true;  // an order may hang, too: in a call to a disk
  for (const auto& order : taken) {
    try {
      order();
    } catch (const std::exception& e) {
      die(e.what());
    }
  }
  return true;
}

void EngineHost::Impl::run() {
  int n_failed = 0;  // steps one behind the other
  while (take_orders()) {
    heartbeat = now_ms();
    bool stepped = false;
    try {
      stepped = !dead && driver->step();
      n_failed = 0;
    } catch (const std::bad_alloc&) {
      stepped = true;  // it goes on with the next, unless there is no end to it
      if (++n_failed >= kMostFailedSteps) die("there is no memory");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } catch (const std::exception& e) {
      die(e.what());
    }
    deliver();
    publish(!stepped);
    heartbeat = now_ms();
    busy = false;
    if (stepped) continue;
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return stopping || !orders.empty(); });
  }
  for (auto& [ticket, entry] : open) {
    if (entry.id != 0) driver->cancel(entry.id);
  }
}

void EngineHost::Impl::begin(Ticket ticket, Request request) {
  const auto it = open.find(ticket);
  if (it == open.end()) return;
  Open& entry = it->second;
  if (entry.cancelled) return end(ticket);
  const auto receiver = entry.receiver;
  entry.choices_left = request.n;
  if (dead) {
    const RequestEvent last{.finish = FinishReason::kError, .error = "engine_dead: it has ended"};
    receiver->post([receiver, last] { receiver->progressed({last}); });
    return end(ticket);
  }
  try {
    entry.id = driver->submit(
        std::move(request), [this, ticket](const RequestEvent& event) { receive(ticket, event); });
  } catch (const Error& e) {
    receiver->post([receiver, kind = e.kind(), text = std::string(e.what())] {
      receiver->refused(kind, text);
    });
    return end(ticket);
  } catch (const std::exception& e) {
    receiver->post(
        [receiver, text = std::string(e.what())] { receiver->refused(ErrorKind::kRuntime, text); });
    return end(ticket);
  }
  receiver->post([receiver] { receiver->accepted(); });
}

void EngineHost::Impl::receive(Ticket ticket, const RequestEvent& event) {
  const auto it = open.find(ticket);
  if (it == open.end()) return;
  if (event.finish != FinishReason::kNone) --it->second.choices_left;
  if (it->second.events.empty()) touched.push_back(ticket);
  it->second.events.push_back(event);
}

void EngineHost::Impl::deliver() {
  for (const Ticket ticket : touched) {
    const auto it = open.find(ticket);
    if (it == open.end()) continue;
    Open& entry = it->second;
    const auto receiver = entry.receiver;
    auto events = std::exchange(entry.events, {});
    const bool ended = entry.choices_left <= 0;
    if (!entry.cancelled) {
      receiver->post([receiver, events = std::move(events)] { receiver->progressed(events); });
    }
    if (ended) end(ticket);  // who sees no request open any more finds its last event posted
  }
  touched.clear();
}

void EngineHost::Impl::end(Ticket ticket) {
  const auto it = open.find(ticket);
  if (it == open.end()) return;
  release(it->second.client, it->second.n_tokens);
  open.erase(it);
}

/// Counts a request, or says why not. What is larger than all the room may run alone.
EngineHost::Refusal EngineHost::Impl::admit(const std::string& client, std::int64_t n_tokens) {
  const std::scoped_lock lock(mutex);
  if (n_open >= options.most_open) return Refusal::kQueueFull;
  if (open_tokens > 0 && open_tokens + n_tokens > options.most_open_tokens) {
    return Refusal::kQueueTokensFull;
  }
  if (options.most_open_of_client > 0) {
    Share& share = share_of[client];
    const bool tokens_full = options.most_open_tokens_of_client > 0 && share.n_open > 0 &&
                             share.n_tokens + n_tokens > options.most_open_tokens_of_client;
    if (share.n_open >= options.most_open_of_client || tokens_full) return Refusal::kClientFull;
    ++share.n_open;
    share.n_tokens += n_tokens;
  }
  open_tokens += n_tokens;
  ++n_open;
  return Refusal::kNone;
}

void EngineHost::Impl::release(const std::string& client, std::int64_t n_tokens) {
  const std::scoped_lock lock(mutex);
  open_tokens -= n_tokens;
  --n_open;
  const auto share = share_of.find(client);
  if (share == share_of.end()) return;
  share->second.n_tokens -= n_tokens;
  if (--share->second.n_open == 0) share_of.erase(share);
}

/// A driver that throws has broken an invariant of its own: nothing of it is trusted any more.
void EngineHost::Impl::die(const std::string& why) {
  log(LogLevel::kError, "the engine has ended: " + why);
  dead = true;
  for (auto& [ticket, entry] : open) {
    if (entry.events.empty()) touched.push_back(ticket);
    entry.events.push_back({.finish = FinishReason::kError, .error = "engine_dead: " + why});
    entry.choices_left = 0;
  }
}

void EngineHost::Impl::publish(bool at_once) {
  const std::int64_t now = now_ms();
  if (dead || (!at_once && now - published < 100)) return;
  published = now;
  EngineStats stats = driver->stats();
  const std::scoped_lock lock(mutex);
  last_stats = std::move(stats);
}

EngineHost::EngineHost(std::unique_ptr<Driver> driver, HostOptions options)
    : impl_(std::make_unique<Impl>(std::move(driver), options)) {
  impl_->last_stats = impl_->driver->stats();
  impl_->thread = start_thread("heddle-engine", [this] { impl_->run(); });
}

EngineHost::~EngineHost() {
  {
    const std::scoped_lock lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_one();
  impl_->thread.join();
}

const ModelFacts& EngineHost::facts() const {
  return impl_->facts;
}

EngineHost::Submitted EngineHost::submit(Request request,
                                         std::int64_t n_tokens,
                                         std::shared_ptr<EventReceiver> receiver) {
  Impl& h = *impl_;
  if (h.dead) return {.refusal = Refusal::kDead};
  if (h.draining) return {.refusal = Refusal::kDraining};
  const Refusal refusal = h.admit(request.client, n_tokens);
  if (refusal != Refusal::kNone) return {.refusal = refusal};
  const Ticket ticket = h.next_ticket++;
  auto shared = std::make_shared<Request>(std::move(request));
  order([&h, ticket, n_tokens, shared, receiver = std::move(receiver)] {
    h.open[ticket] = {.receiver = receiver, .n_tokens = n_tokens, .client = shared->client};
    h.begin(ticket, std::move(*shared));
  });
  return {.ticket = ticket};
}

void EngineHost::cancel(Ticket ticket) {
  order([&h = *impl_, ticket] {
    const auto it = h.open.find(ticket);
    if (it == h.open.end()) return;
    it->second.cancelled = true;
    if (it->second.id != 0 && !h.dead) h.driver->cancel(it->second.id);
    h.deliver();
  });
}

bool EngineHost::call(std::function<void(Driver&)> task) {
  if (impl_->dead) return false;
  order([&h = *impl_, task = std::move(task)] { task(*h.driver); });
  return true;
}

void EngineHost::order(std::function<void()> task) {
  {
    const std::scoped_lock lock(impl_->mutex);
    impl_->orders.push_back(std::move(task));
  }
  impl_->wake.notify_one();
}

HostState EngineHost::state() const {
  const Impl& h = *impl_;
  if (h.dead) return HostState::kDead;
  const double silent = static_cast<double>(now_ms() - h.heartbeat) / 1000.0;
  if (h.busy && silent > h.options.stall_seconds) return HostState::kStalled;
  return h.draining ? HostState::kDraining : HostState::kServing;
}

std::int64_t EngineHost::n_open() const {
  return impl_->n_open;
}

std::int64_t EngineHost::most_open() const {
  const HostOptions& o = impl_->options;
  return o.most_open_of_client > 0 ? std::min(o.most_open, o.most_open_of_client) : o.most_open;
}

bool EngineHost::full() const {
  return impl_->n_open >= impl_->options.most_open;
}

EngineStats EngineHost::stats() const {
  const std::scoped_lock lock(impl_->mutex);
  return impl_->last_stats;
}

void EngineHost::drain() {
  impl_->draining = true;
}

void EngineHost::cancel_all(const std::string& why) {
  order([&h = *impl_, why] {
    for (auto& [ticket, entry] : h.open) {
      if (entry.cancelled) continue;
      const auto receiver = entry.receiver;
      const RequestEvent last{.finish = FinishReason::kError, .error = why};
      receiver->post([receiver, last] { receiver->progressed({last}); });
      entry.cancelled = true;
    }
    for (auto it = h.open.begin(); it != h.open.end();) {
      const RequestId id = it->second.id;
      ++it;  // the entry goes with its last event
      if (id != 0 && !h.dead) h.driver->cancel(id);
    }
    h.deliver();
  });
}

}  // namespace heddle::serve
