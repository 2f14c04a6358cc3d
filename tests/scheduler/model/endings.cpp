// How a stream ends: whatever it has left comes to its end, also while others come without end.

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "tests/scheduler/model/require.h"
#include "tests/scheduler/model/scheduler_model.h"

namespace heddle::test {

/// A short one of a client that nobody has seen before; false: not even this fits.
bool SchedulerModel::visit(int priority) {
  const SchedulerOptions& o = options_.scheduler;
  const std::int64_t room =
      std::min(o.max_sequence_tokens, std::int64_t{o.n_blocks} * o.block_tokens);
  std::uint64_t salt = mix(static_cast<std::uint64_t>(n_names_ % 16), 3);
  const std::uint64_t longest =
      static_cast<std::uint64_t>(std::clamp<std::int64_t>(room - 1, 1, 16));
  SequenceRequest request;
  request.max_new_tokens = 1;
  request.reuse = false;
  request.priority = priority;
  for (std::uint64_t n = 1 + salt % longest; n > 0; --n) {
    salt = mix(salt, 5);
    request.prompt.push_back(static_cast<Token>(salt % static_cast<std::uint64_t>(options_.vocab)));
  }
  request.client = fmt::format("visitor {}", n_names_++);
  ++outcome_.flooded;
  return submit(std::move(request), 0) != 0;
}

void SchedulerModel::flood() {
  const SchedulerOptions& o = options_.scheduler;
  std::set<SequenceId> stay;
  int priority = 0;  // none of those that come is better than what has to end
  std::int64_t left = 0;
  for (const auto& [id, t] : live_) {
    stay.insert(id);
    priority = std::max(priority, t.priority);
    left += t.text.size();
  }
  // Each that is present may get what one can owe, and what it asks for, before the last begins;
  // what is computed again for want of room comes beside.
  const std::int64_t most =
      computed_ + 8 * left +
      4 * (std::ssize(stay) + 2 * options_.places() + 6) * o.max_sequence_tokens;
  const auto stays = [&](const auto& entry) { return stay.contains(entry.first); };
  while (std::ranges::any_of(live_, stays)) {
    const auto n_waiting = std::ranges::count_if(
        live_, [&](const auto& entry) { return !stays(entry) && !entry.second.ran; });
    for (auto i = n_waiting; i < 3; ++i) {
      if (!visit(priority)) return;
    }
    if (!plan_step(false, {})) commit_oldest();
    require(computed_ <= most, "I6 bound", "{} of {} have not ended",
            std::ranges::count_if(live_, stays), stay.size());
  }
}

void SchedulerModel::run_out() {
  std::int64_t most = 4 + options_.flight;
  for (const auto& [id, t] : live_) most += t.text.size() + 1;
  // A step in flight may have failed: its sequences start again once.
  if (!flights_.empty()) most *= 2;
  while (!live_.empty() || !flights_.empty()) {
    if (plan_step(false, {})) {
      if (--most < 0) throw Violation("I5 progress", "more steps than there are tokens");
    } else {
      commit_oldest();
    }
  }
  if (!scheduler_.idle()) throw Violation("I5 progress", "nothing is left, but it is not idle");
}

void SchedulerModel::drain() {
  run_out();
  // Whatever the cache holds by now, each text is asked for once more.
  for (std::size_t i = 0; i < texts_.size() && i < 24; ++i) {
    SequenceRequest request;
    request.prompt = texts_[texts_.size() - 1 - i].tokens;
    request.scope = texts_[texts_.size() - 1 - i].scope;
    submit(std::move(request), 0);
    run_out();
  }
  check_memory();
  outcome_.stats = scheduler_.stats();
  scheduler_.clear_cache();
  scheduler_.check();
  const SchedulerStats s = scheduler_.stats();
  if (s.free_blocks != options_.scheduler.n_blocks || s.clients != 0 ||
      s.free_state_slots != options_.scheduler.n_state_slots || s.cache.blocks != 0 ||
      s.cache.snapshots != 0 || s.cache.host_blocks != 0 || s.cache.host_snapshots != 0 ||
      s.waiting != 0 || s.running != 0) {
    throw Violation(
        "I10 all zero",
        fmt::format("free {} of {} blocks, {} of {} slots; cached {} and {}", s.free_blocks,
                    options_.scheduler.n_blocks, s.free_state_slots,
                    options_.scheduler.n_state_slots, s.cache.blocks, s.cache.snapshots));
  }
}

}  // namespace heddle::test
