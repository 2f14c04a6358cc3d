#include "scheduler/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
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
      states_(options.n_state_slots, options.shuffle_seed),
      cache_({.block_tokens = options.block_tokens,
              .states = options.n_state_slots > 0,
              .state_block_tokens = options.state_block_tokens,
              .key = options.cache_key},
             pool_,
             states_) {
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
  s.scope = std::move(request.scope);
  s.reuse = request.reuse && options_.prefix_cache && !request.all_outputs;
  s.snapshot_at = std::move(request.snapshot_at);
  HEDDLE_CHECK(std::is_sorted(s.snapshot_at.begin(), s.snapshot_at.end()));
  waiting_.push_back(s.id);
  const SequenceId id = s.id;
  sequences_.emplace(id, std::move(s));
  return id;
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
  n = std::min(
      {n, options_.max_step_tokens - plan.n_tokens - reserved, next_snapshot(s) - s.n_computed});
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
  plan.step = ++stats_.steps;
  InFlight flight{.step = plan.step, .sampled = {}, .snapshots = {}};
  for (const BatchPlan::Item& item : plan.items) {
    if (item.sample) flight.sampled.push_back(item.sequence);
    if (item.snapshot >= 0) flight.snapshots.push_back(item.snapshot);
  }
  in_flight_.push_back(std::move(flight));
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
    if (n == 0 || !grow(s, n, plan)) continue;
    append_item(plan, s, n);
  }
}

void Scheduler::admit_waiting(BatchPlan& plan) {
  while (!waiting_.empty() && static_cast<std::int64_t>(running_.size()) < options_.max_running &&
         plan.n_tokens < options_.max_step_tokens) {
    Sequence& s = sequences_.at(waiting_.front());
    if (remaining(s) == 0 || plan.n_outputs == options_.max_step_outputs) return;
    const std::size_t n_block_copies = plan.block_copies.size();
    const std::size_t n_state_copies = plan.state_copies.size();
    const bool started = start(s, plan);
    const std::int64_t n = started ? chunk_limit(plan, s, 0) : 0;
    if (n == 0) {
      plan.block_copies.resize(n_block_copies);
      plan.state_copies.resize(n_state_copies);
      drop_blocks(s);
      return;
    }
    HEDDLE_CHECK(grow(s, n, plan));
    waiting_.pop_front();
    s.state = SequenceState::kRunning;
    // A preempted sequence takes its old place: ids are ages.
    running_.insert(std::upper_bound(running_.begin(), running_.end(), s.id), s.id);
    if (s.run == 0) {
      stats_.cached_tokens += s.found.n_cached;
      stats_.replayed_tokens += s.found.n_replayed(s.n_prompt);
    }
    ++s.run;
    append_item(plan, s, n);
  }
}

/// Gives a waiting sequence what the cache has of it, room for all its known tokens, and a state.
/// False: there is no room.
bool Scheduler::start(Sequence& s, BatchPlan& plan) {
  PrefixCache::Match match;
  match.reuse.miss = ReuseMiss::kDisabled;
  if (s.reuse) {
    const bool pending = s.tokens.back() == kPendingToken;
    match = cache_.match(s.scope, std::span(s.tokens).first(s.tokens.size() - (pending ? 1 : 0)));
  }
  for (const PrefixNode node : match.path) {
    s.blocks.push_back(cache_.block(node));
    pool_.share(s.blocks.back());
  }
  // All known tokens must find room, else it would only push others out.
  const std::int64_t need =
      blocks_for(length(s), options_.block_tokens) - static_cast<std::int64_t>(s.blocks.size());
  const std::int64_t idle = cache_.stats().blocks - pool_.n_shared();
  while (pool_.n_free() < need && pool_.n_free() + idle >= need && cache_.evict_block()) {
  }
  if (pool_.n_free() < need || !take_state(s)) return false;
  if (s.run == 0) s.found = match.reuse;
  s.departs = match.reuse.n_known;
  s.n_computed = match.reuse.n_cached;
  // What is copied counts once the step is committed.
  s.n_valid = static_cast<std::int64_t>(match.path.size()) * options_.block_tokens;
  s.n_in_cache = static_cast<std::int64_t>(match.path.size());
  if (!match.path.empty()) s.node = match.path.back();
  if (match.partial >= 0) {
    s.blocks.push_back(*take_block());
    plan.block_copies.push_back({match.partial, s.blocks.back()});
  }
  if (match.state >= 0) plan.state_copies.push_back({match.state, s.state_slot});
  return true;
}

/// True without states, or once the sequence has a slot.
bool Scheduler::take_state(Sequence& s) {
  if (!has_states() || s.state_slot >= 0) return true;
  if (states_.n_free() == 0) cache_.evict_snapshot();
  const std::optional<BlockId> slot = states_.allocate();
  if (slot) s.state_slot = *slot;
  return slot.has_value();
}

std::optional<BlockId> Scheduler::take_block() {
  if (pool_.n_free() == 0) cache_.evict_block();
  return pool_.allocate();
}

bool Scheduler::grow(Sequence& s, std::int64_t n_tokens, const BatchPlan& plan) {
  const std::int64_t need = blocks_for(s.n_computed + n_tokens, options_.block_tokens);
  while (static_cast<std::int64_t>(s.blocks.size()) < need) {
    if (const std::optional<BlockId> block = take_block()) {
      s.blocks.push_back(*block);
      continue;
    }
    // Only a sequence younger than this one that is not part of the plan may lose its blocks.
    if (running_.empty() || running_.back() <= s.id) return false;
    const SequenceId victim = running_.back();
    for (const BatchPlan::Item& item : plan.items) HEDDLE_CHECK(item.sequence != victim);
    preempt(victim);
  }
  return true;
}

void Scheduler::drop_blocks(Sequence& s) {
  for (const BlockId block : s.blocks) pool_.release(block);
  s.blocks.clear();
  if (s.state_slot >= 0) states_.release(s.state_slot);
  s.state_slot = -1;
  s.n_computed = 0;
  s.n_valid = 0;
  s.n_in_cache = 0;
  s.node = kNoNode;
}

/// The next position where a state is kept; a chunk ends there.
std::int64_t Scheduler::next_snapshot(const Sequence& s) const {
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  if (!has_states() || !s.reuse) return next;
  const auto consider = [&](std::int64_t position) {
    if (position > s.n_computed) next = std::min(next, position);
  };
  consider(s.n_prompt);
  consider(s.departs);
  const auto listed = std::upper_bound(s.snapshot_at.begin(), s.snapshot_at.end(), s.n_computed);
  if (listed != s.snapshot_at.end()) consider(*listed);
  if (options_.snapshot_every > 0) {
    consider((s.n_computed / options_.snapshot_every + 1) * options_.snapshot_every);
  }
  return next;
}

void Scheduler::append_item(BatchPlan& plan, Sequence& s, std::int64_t n_tokens) {
  BatchPlan::Item item;
  item.sequence = s.id;
  item.start = s.n_computed;
  const auto begin = s.tokens.begin() + s.n_computed;
  item.tokens.assign(begin, begin + n_tokens);
  item.block_table = s.blocks;
  item.state_slot = s.state_slot;
  item.run = s.run;
  const bool keep_state = next_snapshot(s) == s.n_computed + n_tokens;
  if (item.tokens.back() == kPendingToken) {
    HEDDLE_CHECK(!in_flight_.empty());
    const auto& rows = in_flight_.back().sampled;
    const auto row = std::find(rows.begin(), rows.end(), s.id);
    HEDDLE_CHECK(row != rows.end());
    item.pending_row = static_cast<std::int32_t>(row - rows.begin());
  }
  s.n_computed += n_tokens;
  if (keep_state && (states_.n_free() > 0 || cache_.evict_snapshot())) {
    item.snapshot = *states_.allocate();
  }
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
  HEDDLE_CHECK(!in_flight_.empty() && in_flight_.front().step == plan.step);
  in_flight_.erase(in_flight_.begin());
  std::size_t row = 0;
  for (const BatchPlan::Item& item : plan.items) {
    if (item.sample) {
      HEDDLE_CHECK(row < sampled.size());
      const Token token = sampled[row++];
      const auto it = sequences_.find(item.sequence);
      if (it != sequences_.end() && item.run > it->second.void_run) {
        const std::size_t position = static_cast<std::size_t>(item.start) + item.tokens.size();
        std::vector<Token>& tokens = it->second.tokens;
        if (position < tokens.size() && tokens[position] == kPendingToken) tokens[position] = token;
      }
    }
    commit_item(item);
  }
  HEDDLE_CHECK(row == sampled.size());
}

/// What the item has computed is there for others.
void Scheduler::commit_item(const BatchPlan::Item& item) {
  const auto it = sequences_.find(item.sequence);
  const bool there = it != sequences_.end() && it->second.run == item.run &&
                     it->second.state == SequenceState::kRunning;
  bool kept = false;
  if (there) {
    Sequence& s = it->second;
    s.n_valid = item.start + static_cast<std::int64_t>(item.tokens.size());
    if (s.reuse) store_blocks(s);
    if (item.snapshot >= 0) {
      const PrefixNode node = node_at(s, s.n_valid);
      kept = node != kNoNode && cache_.add_snapshot(node, s.n_valid, item.snapshot);
    }
  }
  if (item.snapshot >= 0 && !kept) states_.release(item.snapshot);
}

/// Puts the full blocks of committed tokens into the cache; one that is there already takes the
/// place of the sequence's own.
void Scheduler::store_blocks(Sequence& s) {
  const std::int64_t n = options_.block_tokens;
  while ((s.n_in_cache + 1) * n <= s.n_valid) {
    const PrefixNode parent = s.n_in_cache == 0 ? cache_.root(s.scope) : s.node;
    BlockId& block = s.blocks[static_cast<std::size_t>(s.n_in_cache)];
    const auto tokens = std::span(s.tokens).subspan(static_cast<std::size_t>(s.n_in_cache * n),
                                                    static_cast<std::size_t>(n));
    const PrefixNode node = cache_.insert(parent, tokens, block);
    if (node == kNoNode) {
      s.reuse = false;
      return;
    }
    if (cache_.block(node) != block) {
      pool_.share(cache_.block(node));
      pool_.release(block);
      block = cache_.block(node);
    }
    s.node = node;
    ++s.n_in_cache;
  }
}

/// The node that ends at `position`, which is committed; a partial one is made.
PrefixNode Scheduler::node_at(Sequence& s, std::int64_t position) {
  if (!s.reuse) return kNoNode;
  const std::int64_t n = options_.block_tokens;
  const std::int64_t begin = s.n_in_cache * n;
  HEDDLE_CHECK(position >= begin && position < begin + n);
  if (position == begin) return s.node;
  const PrefixNode parent = s.n_in_cache == 0 ? cache_.root(s.scope) : s.node;
  const auto tokens = std::span(s.tokens).subspan(static_cast<std::size_t>(begin),
                                                  static_cast<std::size_t>(position - begin));
  return cache_.insert(parent, tokens, s.blocks[static_cast<std::size_t>(s.n_in_cache)]);
}

/// The last tokens, and the state, which becomes the cache's.
void Scheduler::store_end(Sequence& s) {
  if (!s.reuse || s.n_valid == 0) return;
  const PrefixNode node = node_at(s, s.n_valid);
  // With a step in flight the slot has gone on already.
  if (node == kNoNode || s.state_slot < 0 || s.n_valid != s.n_computed) return;
  if (cache_.add_snapshot(node, s.n_valid, s.state_slot)) s.state_slot = -1;
}

void Scheduler::abandon(const BatchPlan& plan) {
  // Or it was committed, and what came after failed.
  const auto flight = std::find_if(in_flight_.begin(), in_flight_.end(),
                                   [&](const InFlight& f) { return f.step == plan.step; });
  const bool uncommitted = flight != in_flight_.end();
  if (uncommitted) in_flight_.erase(flight);
  for (const BatchPlan::Item& item : plan.items) {
    if (uncommitted && item.snapshot >= 0) states_.release(item.snapshot);
    const auto it = sequences_.find(item.sequence);
    if (it == sequences_.end()) continue;
    // Of the step behind it too: it computes on what failed.
    std::vector<Token>& tokens = it->second.tokens;
    while (!tokens.empty() && tokens.back() == kPendingToken) tokens.pop_back();
    it->second.void_run = it->second.run;
    preempt(item.sequence);
  }
}

void Scheduler::remove(SequenceId id, bool faulty) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  Sequence& s = it->second;
  if (s.state == SequenceState::kRunning) {
    if (!faulty) store_end(s);
    take_out(running_, id);
  } else {
    take_out(waiting_, id);
  }
  drop_blocks(s);
  if (faulty && s.reuse) {
    const auto known = std::find(s.tokens.begin(), s.tokens.end(), kPendingToken);
    cache_.discard(s.scope, std::span(s.tokens.begin(), known), s.found.n_cached);
  }
  sequences_.erase(it);
}

bool Scheduler::preempt(SequenceId id) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end() || it->second.state != SequenceState::kRunning) return false;
  Sequence& s = it->second;
  store_end(s);
  drop_blocks(s);
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
  stats.free_blocks = pool_.n_free();
  stats.free_state_slots = states_.n_free();
  stats.cache = cache_.stats();
  return stats;
}

void Scheduler::check() const {
  pool_.check();
  states_.check();
  cache_.check();
  std::vector<int> blocks(static_cast<std::size_t>(pool_.n_blocks()));
  std::vector<int> slots(static_cast<std::size_t>(states_.n_blocks()));
  cache_.count_owned(blocks, slots);
  for (const InFlight& flight : in_flight_) {
    for (const BlockId slot : flight.snapshots) ++slots[static_cast<std::size_t>(slot)];
  }
  for (const auto& [id, s] : sequences_) {
    for (const BlockId block : s.blocks) ++blocks[static_cast<std::size_t>(block)];
    if (s.state_slot >= 0) ++slots[static_cast<std::size_t>(s.state_slot)];
    HEDDLE_CHECK(s.n_valid <= s.n_computed && s.n_computed <= length(s));
    HEDDLE_CHECK(has_states() ? s.n_computed == 0 || s.state_slot >= 0 : s.state_slot < 0);
    HEDDLE_CHECK((s.state == SequenceState::kRunning) == !s.blocks.empty());
    HEDDLE_CHECK(blocks_for(s.n_computed, options_.block_tokens) <=
                 static_cast<std::int64_t>(s.blocks.size()));
  }
  for (BlockId i = 0; i < pool_.n_blocks(); ++i) {
    HEDDLE_CHECK(pool_.references(i) == blocks[static_cast<std::size_t>(i)]);
  }
  for (BlockId i = 0; i < states_.n_blocks(); ++i) {
    HEDDLE_CHECK(states_.references(i) == slots[static_cast<std::size_t>(i)]);
  }
  HEDDLE_CHECK(std::is_sorted(running_.begin(), running_.end()));
  HEDDLE_CHECK(sequences_.size() == running_.size() + waiting_.size());
}

}  // namespace heddle
