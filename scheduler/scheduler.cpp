#include "scheduler/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/philox.h"

namespace heddle {
namespace {

std::int64_t blocks_for(std::int64_t n_tokens, int block_tokens) {
  return (n_tokens + block_tokens - 1) / block_tokens;
}

std::int64_t length(const Sequence& s) {
  return static_cast<std::int64_t>(s.tokens.size());
}

void take_out(auto& list, SequenceId id) {
  list.erase(std::find(list.begin(), list.end(), id));
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      pool_(options.n_blocks, options.shuffle_seed),
      states_(options.n_state_slots, options.shuffle_seed) {
  HEDDLE_CHECK(options.max_step_tokens > 0 && options.max_chunk > 0 && options.max_running > 0);
  HEDDLE_CHECK(options.max_step_outputs >= std::min(options.max_running, options.max_step_tokens));
  HEDDLE_CHECK(options.block_tokens > 0 && options.max_sequence_tokens > 0);
  HEDDLE_CHECK(options.n_state_slots == 0 || options.n_state_slots >= options.max_running);
  HEDDLE_CHECK(options.state_block_tokens > 0);
}

void Scheduler::check_fits(const SequenceRequest& request) const {
  HEDDLE_CHECK(request.max_new_tokens >= 0);
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  if (n_prompt == 0) throw bad_input("the prompt has no tokens");
  // The last generated token is never computed, but it has a position.
  const std::int64_t room = options_.max_sequence_tokens - n_prompt;
  if (request.max_new_tokens > room) {
    throw bad_input(fmt::format("prompt of {} tokens and {} new ones need {}, the context has {}",
                                n_prompt, request.max_new_tokens,
                                static_cast<unsigned long long>(n_prompt) +
                                    static_cast<unsigned long long>(request.max_new_tokens),
                                options_.max_sequence_tokens));
  }
  const std::int64_t need = blocks_for(n_prompt + request.max_new_tokens, options_.block_tokens);
  if (need > pool_.n_blocks()) {
    throw bad_input(fmt::format("the request needs {} cache blocks of {} tokens, the pool has {}",
                                need, options_.block_tokens, pool_.n_blocks()));
  }
}

SequenceId Scheduler::add(SequenceRequest request) {
  check_fits(request);
  Sequence s;
  s.id = next_id_++;
  s.n_prompt = static_cast<std::int64_t>(request.prompt.size());
  s.tokens = std::move(request.prompt);
  s.max_new_tokens = request.max_new_tokens;
  s.all_outputs = request.all_outputs;
  waiting_.push_back(s.id);
  const SequenceId id = s.id;
  sequences_.emplace(id, std::move(s));
  return id;
}

std::int64_t Scheduler::resume(SequenceId id, SequenceRequest request) {
  const auto it = sequences_.find(id);
  HEDDLE_CHECK(it != sequences_.end() && it->second.state == SequenceState::kHeld);
  check_fits(request);
  Sequence& s = it->second;
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  std::int64_t kept = 0;
  // Rows that are kept give no logits, so a request that wants all of them keeps none.
  const std::int64_t limit =
      request.all_outputs ? 0 : std::min({s.n_computed, length(s), n_prompt - 1});
  while (kept < limit && s.tokens[static_cast<std::size_t>(kept)] ==
                             request.prompt[static_cast<std::size_t>(kept)]) {
    ++kept;
  }
  rewind(s, kept);
  kept = s.n_computed;
  s.n_scored = 0;
  drop_blocks(s, static_cast<std::size_t>(blocks_for(kept, options_.block_tokens)));
  s.tokens = std::move(request.prompt);
  s.n_prompt = n_prompt;
  s.max_new_tokens = request.max_new_tokens;
  s.all_outputs = request.all_outputs;
  s.state = SequenceState::kWaiting;
  take_out(held_, id);
  waiting_.push_back(id);
  stats_.reused_tokens += kept;
  return kept;
}

std::int64_t Scheduler::remaining(const Sequence& s) const {
  // Once all new tokens are sampled the last one need not be computed.
  if (s.max_new_tokens > 0 && s.n_generated() >= s.max_new_tokens) return 0;
  return length(s) - s.n_computed;
}

std::int64_t Scheduler::chunk_limit(const BatchPlan& plan,
                                    const Sequence& s,
                                    std::int64_t reserved) const {
  std::int64_t n = std::min(remaining(s), options_.max_chunk);
  if (options_.chunk_seed != 0 && n > 0) {
    const double u = philox_uniform(options_.chunk_seed, static_cast<std::uint32_t>(s.id),
                                    static_cast<std::uint64_t>(s.n_computed));
    n = 1 + static_cast<std::int64_t>(u * static_cast<double>(n));
  }
  n = std::min(n, options_.max_step_tokens - plan.n_tokens - reserved);
  const std::int64_t outputs = options_.max_step_outputs - plan.n_outputs - reserved;
  if (s.all_outputs && s.n_computed + n > s.n_scored) {
    n = std::min(n, outputs + std::max<std::int64_t>(0, s.n_scored - s.n_computed));
  } else if (outputs < 1 && n == remaining(s)) {
    n -= 1;  // the row with the output waits for a later step
  }
  return std::max<std::int64_t>(0, n);
}

std::optional<BatchPlan> Scheduler::plan() {
  if (in_flight_.size() >= 2) return std::nullopt;
  BatchPlan plan;
  plan_running(plan);
  admit_waiting(plan);
  if (plan.items.empty()) {
    // Work but no step and nothing in flight would be a livelock: an error, not a loop.
    HEDDLE_CHECK(!in_flight_.empty() || idle());
    return std::nullopt;
  }
  std::vector<SequenceId> sampled;
  for (const BatchPlan::Item& item : plan.items) {
    if (item.sample) sampled.push_back(item.sequence);
  }
  in_flight_.push_back(std::move(sampled));
  ++stats_.steps;
  stats_.computed_tokens += plan.n_tokens;
  return plan;
}

void Scheduler::plan_running(BatchPlan& plan) {
  std::int64_t decoding = std::count_if(running_.begin(), running_.end(), [this](SequenceId id) {
    return remaining(sequences_.at(id)) == 1;
  });
  // running_ shrinks from the end when a victim is preempted, so the index stays right.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = sequences_.at(running_[i]);
    if (remaining(s) == 1) --decoding;
    const std::int64_t n = chunk_limit(plan, s, decoding);
    if (n == 0 || !grow(s, n, &plan)) continue;
    append_item(plan, s, n);
  }
}

void Scheduler::admit_waiting(BatchPlan& plan) {
  while (!waiting_.empty() && static_cast<std::int64_t>(running_.size()) < options_.max_running) {
    Sequence& s = sequences_.at(waiting_.front());
    const std::int64_t n = chunk_limit(plan, s, 0);
    if (n == 0) return;
    // All known tokens must find room, else it would only push others out.
    const std::int64_t need =
        blocks_for(length(s), options_.block_tokens) - static_cast<std::int64_t>(s.blocks.size());
    while (pool_.n_free() < need && evict_one_idle(s.id)) {
    }
    if (pool_.n_free() < need || !grow(s, n, nullptr) || !take_state(s)) return;
    waiting_.pop_front();
    s.state = SequenceState::kRunning;
    // A preempted sequence takes its old place: ids are ages.
    running_.insert(std::upper_bound(running_.begin(), running_.end(), s.id), s.id);
    append_item(plan, s, n);
  }
}

/// True without states, or once the sequence has a slot.
bool Scheduler::take_state(Sequence& s) {
  if (!has_states() || s.state_slot >= 0) return true;
  while (states_.n_free() == 0 && evict_one_idle(s.id)) {
  }
  const std::optional<BlockId> slot = states_.allocate();
  if (slot) s.state_slot = *slot;
  return slot.has_value();
}

/// What is computed ends at `n_computed`, or at 0 where the state cannot go back that far.
void Scheduler::rewind(Sequence& s, std::int64_t n_computed) {
  const std::int64_t block = options_.state_block_tokens;
  if (has_states() && n_computed < s.n_computed / block * block) n_computed = 0;
  s.n_computed = n_computed;
  if (n_computed == 0) drop_blocks(s, 0);
}

bool Scheduler::grow(Sequence& s, std::int64_t n_tokens, const BatchPlan* plan) {
  const std::int64_t need = blocks_for(s.n_computed + n_tokens, options_.block_tokens);
  while (static_cast<std::int64_t>(s.blocks.size()) < need) {
    if (const std::optional<BlockId> block = pool_.allocate()) {
      s.blocks.push_back(*block);
      continue;
    }
    if (evict_one_idle(s.id)) continue;
    // Only a sequence younger than this one that is not part of the plan may lose its blocks.
    if (plan == nullptr || running_.back() == s.id) return false;
    const SequenceId victim = running_.back();
    for (const BatchPlan::Item& item : plan->items) HEDDLE_CHECK(item.sequence != victim);
    preempt(victim);
  }
  return true;
}

bool Scheduler::evict_one_idle(SequenceId except) {
  const auto evict = [&](SequenceId id) {
    Sequence& s = sequences_.at(id);
    if (id == except || s.blocks.empty()) return false;
    drop_blocks(s, 0);
    s.n_computed = 0;
    return true;
  };
  return std::any_of(held_.begin(), held_.end(), evict) ||
         std::any_of(waiting_.rbegin(), waiting_.rend(), evict);
}

void Scheduler::drop_blocks(Sequence& s, std::size_t keep) {
  while (s.blocks.size() > keep) {
    pool_.release(s.blocks.back());
    s.blocks.pop_back();
  }
  if (keep == 0 && s.state_slot >= 0) {
    states_.release(s.state_slot);
    s.state_slot = -1;
  }
}

void Scheduler::append_item(BatchPlan& plan, Sequence& s, std::int64_t n_tokens) {
  BatchPlan::Item item;
  item.sequence = s.id;
  item.start = s.n_computed;
  const auto begin = s.tokens.begin() + s.n_computed;
  item.tokens.assign(begin, begin + n_tokens);
  item.block_table = s.blocks;
  item.state_slot = s.state_slot;
  if (item.tokens.back() == kPendingToken) {
    HEDDLE_CHECK(!in_flight_.empty());
    const auto& rows = in_flight_.back();
    const auto row = std::find(rows.begin(), rows.end(), s.id);
    HEDDLE_CHECK(row != rows.end());
    item.pending_row = static_cast<std::int32_t>(row - rows.begin());
  }
  s.n_computed += n_tokens;
  const bool at_end = s.n_computed == length(s);
  if (s.all_outputs) {
    item.n_outputs = s.n_computed - std::max(item.start, s.n_scored);
    item.n_outputs = std::max<std::int64_t>(0, item.n_outputs);
    s.n_scored = std::max(s.n_scored, s.n_computed);
  } else if (at_end) {
    item.n_outputs = 1;
  }
  item.sample = at_end && s.n_generated() < s.max_new_tokens;
  if (item.sample && item.n_outputs == 0) item.n_outputs = 1;
  if (item.sample) s.tokens.push_back(kPendingToken);
  plan.n_tokens += n_tokens;
  plan.n_outputs += item.n_outputs;
  plan.items.push_back(std::move(item));
}

void Scheduler::commit(const BatchPlan& plan, const std::vector<Token>& sampled) {
  HEDDLE_CHECK(!in_flight_.empty());
  in_flight_.erase(in_flight_.begin());
  std::size_t row = 0;
  for (const BatchPlan::Item& item : plan.items) {
    if (!item.sample) continue;
    HEDDLE_CHECK(row < sampled.size());
    const Token token = sampled[row++];
    const auto it = sequences_.find(item.sequence);
    if (it == sequences_.end()) continue;
    const std::size_t position = static_cast<std::size_t>(item.start) + item.tokens.size();
    std::vector<Token>& tokens = it->second.tokens;
    if (position < tokens.size() && tokens[position] == kPendingToken) tokens[position] = token;
  }
  HEDDLE_CHECK(row == sampled.size());
}

void Scheduler::abandon(const BatchPlan& plan) {
  if (!in_flight_.empty()) in_flight_.erase(in_flight_.begin());
  for (const BatchPlan::Item& item : plan.items) {
    const auto it = sequences_.find(item.sequence);
    if (it == sequences_.end()) continue;
    std::vector<Token>& tokens = it->second.tokens;
    if (!tokens.empty() && tokens.back() == kPendingToken) tokens.pop_back();
    preempt(item.sequence);
  }
}

void Scheduler::remove(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  Sequence& s = it->second;
  drop_blocks(s, 0);
  switch (s.state) {
    case SequenceState::kWaiting:
      take_out(waiting_, id);
      break;
    case SequenceState::kRunning:
      take_out(running_, id);
      break;
    case SequenceState::kHeld:
      take_out(held_, id);
      break;
  }
  sequences_.erase(it);
}

void Scheduler::hold(SequenceId id, std::int64_t n_drop) {
  Sequence& s = sequences_.at(id);
  if (s.state == SequenceState::kWaiting) take_out(waiting_, id);
  if (s.state == SequenceState::kRunning) take_out(running_, id);
  HEDDLE_CHECK(s.state != SequenceState::kHeld && n_drop >= 0 && n_drop < length(s));
  s.tokens.resize(s.tokens.size() - static_cast<std::size_t>(n_drop));
  rewind(s, std::min(s.n_computed, length(s)));
  s.state = SequenceState::kHeld;
  held_.push_back(id);
}

bool Scheduler::preempt(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end() || it->second.state != SequenceState::kRunning) return false;
  Sequence& s = it->second;
  drop_blocks(s, 0);
  s.n_computed = 0;
  s.state = SequenceState::kWaiting;
  ++s.preemptions;
  ++stats_.preemptions;
  take_out(running_, id);
  // Before all that never ran and all younger ones: waiting_ stays in order of age for the
  // preempted.
  const auto place =
      std::find_if(waiting_.begin(), waiting_.end(), [id](SequenceId other) { return other > id; });
  waiting_.insert(place, id);
  return true;
}

const Sequence* Scheduler::find(SequenceId id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : &it->second;
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats stats = stats_;
  stats.waiting = static_cast<int>(waiting_.size());
  stats.running = static_cast<int>(running_.size());
  stats.held = static_cast<int>(held_.size());
  stats.free_blocks = pool_.n_free();
  stats.free_state_slots = states_.n_free();
  return stats;
}

void Scheduler::check() const {
  pool_.check();
  states_.check();
  int owned = 0;
  int states = 0;
  for (const auto& [id, s] : sequences_) {
    owned += static_cast<int>(s.blocks.size());
    HEDDLE_CHECK(s.n_computed <= length(s));
    if (s.state_slot >= 0) ++states;
    HEDDLE_CHECK(has_states() ? s.n_computed == 0 || s.state_slot >= 0 : s.state_slot < 0);
    HEDDLE_CHECK(s.state_slot < 0 || !s.blocks.empty());
    HEDDLE_CHECK(blocks_for(s.n_computed, options_.block_tokens) <=
                 static_cast<std::int64_t>(s.blocks.size()));
  }
  HEDDLE_CHECK(owned + pool_.n_free() == pool_.n_blocks());
  HEDDLE_CHECK(states + states_.n_free() == states_.n_blocks());
  HEDDLE_CHECK(std::is_sorted(running_.begin(), running_.end()));
  HEDDLE_CHECK(sequences_.size() == running_.size() + waiting_.size() + held_.size());
}

}  // namespace heddle
