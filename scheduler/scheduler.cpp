#include "scheduler/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <new>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/philox.h"
#include "scheduler/recovery.h"

namespace heddle {
namespace {

/// No more run than a step has tokens, so that each that generates has its row.
SchedulerOptions with_rows_for_all(SchedulerOptions options) {
  options.max_running = std::min(options.max_running, options.max_step_tokens);
  return options;
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(with_rows_for_all(options)),
      pool_(options.n_blocks, options.shuffle_seed),
      states_(options.n_state_slots, options.shuffle_seed),
      cache_({.block_tokens = options.block_tokens,
              .states = options.n_state_slots > 0,
              .state_block_tokens = options.state_block_tokens,
              .key = options.cache_key,
              .few_children = options.few_children,
              .host_blocks = options.n_host_blocks,
              .host_slots = options.n_host_slots,
              .block_copy_tokens = options.block_copy_tokens,
              .state_copy_tokens = options.state_copy_tokens},
             pool_,
             states_),
      queue_(options.max_sequence_tokens) {
  HEDDLE_CHECK(options.max_step_tokens > 0 && options.max_chunk > 0 && options.max_running > 0);
  HEDDLE_CHECK(options.max_step_outputs >= options_.max_running);
  HEDDLE_CHECK(options.block_tokens > 0 && options.max_sequence_tokens > 0);
  HEDDLE_CHECK(options.n_state_slots == 0 || options.n_state_slots >= options.max_running);
  HEDDLE_CHECK(options.state_block_tokens > 0);
  for (int i = 0; i < options.leaked_blocks; ++i) pool_.allocate();
}

void Scheduler::check_fits(const SequenceRequest& request) const {
  HEDDLE_CHECK(request.max_new_tokens >= 0);
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  if (n_prompt == 0) throw bad_input("the prompt has no tokens");
  HEDDLE_CHECK(request.outputs_from >= 0 && request.outputs_from < n_prompt);
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
  HEDDLE_CHECK(std::is_sorted(request.snapshot_at.begin(), request.snapshot_at.end()));
  HEDDLE_CHECK(std::abs(request.priority) <= kMostPriority);
  if (broken_) rebuild();
  const SequenceId id = next_id_++;
  Sequence& s = sequences_[id];
  try {
    s.id = id;
    s.n_prompt = static_cast<std::int64_t>(request.prompt.size());
    s.tokens = std::move(request.prompt);
    s.max_new_tokens = request.max_new_tokens;
    s.all_outputs = request.all_outputs;
    s.n_scored = s.n_delivered = request.outputs_from;
    s.scope = std::move(request.scope);
    s.counted = request.counted;
    s.reuse = request.reuse && options_.prefix_cache && !request.all_outputs;
    s.leave = request.leave;
    s.snapshot_at = std::move(request.snapshot_at);
    s.priority = request.priority;
    s.client = &queue_.enter(request.client);
    const auto parent = sequences_.find(request.fork_of);
    if (parent != sequences_.end() && can_fork(parent->second, s)) {
      parent->second.forks.push_back(id);
      s.fork_of = request.fork_of;
    } else {
      queue_.add(*s.client, id, s.priority);
    }
  } catch (...) {
    if (s.client != nullptr) queue_.leave(*s.client);
    sequences_.erase(id);
    throw;
  }
  return id;
}

std::int64_t Scheduler::remaining(const Sequence& s) const {
  // Once all new tokens are sampled the last one need not be computed.
  if (s.max_new_tokens > 0 && s.n_generated() >= s.max_new_tokens) return 0;
  return length(s) - s.n_computed;
}

std::int64_t Scheduler::outputs_left(const BatchPlan& plan) const {
  return options_.max_step_outputs - plan.n_outputs - static_cast<std::int64_t>(plan.forks.size());
}

/// `reserved` tokens and rows with logits are for decoding sequences, half of the rest for other
/// prompts if there are `others`: in any case a row for each of them.
std::int64_t Scheduler::chunk_limit(const BatchPlan& plan,
                                    const Sequence& s,
                                    std::int64_t reserved,
                                    std::int64_t others) const {
  std::int64_t n = std::min(remaining(s), options_.max_chunk);
  if (options_.chunk_seed != 0 && n > 0) {
    const double u = philox_uniform(options_.chunk_seed, static_cast<std::uint32_t>(s.id),
                                    static_cast<std::uint64_t>(s.n_computed));
    n = 1 + static_cast<std::int64_t>(u * static_cast<double>(n));
  }
  std::int64_t budget = options_.max_step_tokens - plan.n_tokens - reserved;
  if (others > 0 && budget > options_.block_tokens) budget = (budget + 1) / 2;
  n = std::min({n, budget, next_snapshot(s) - s.n_computed});
  std::int64_t outputs = outputs_left(plan) - reserved;
  if (others > 0 && outputs > 1) {
    outputs = std::clamp<std::int64_t>(outputs - others, 1, (outputs + 1) / 2);
  }
  if (s.all_outputs && s.n_computed + n > s.n_scored) {
    n = std::min(n, outputs + std::max<std::int64_t>(0, s.n_scored - s.n_computed));
  } else if (outputs < 1 && n == remaining(s)) {
    n -= 1;  // the row with the output waits for a later step
  }
  return std::max<std::int64_t>(0, n);
}

std::optional<BatchPlan> Scheduler::plan(std::span<const SequenceId> held) {
  const Recovery recovery(*this);
  if (in_flight_.size() >= 2) return std::nullopt;
  BatchPlan plan;
  plan.items.reserve(running_.size() + 1);
  plan_running(plan, held);
  begin_forks(plan, 0);
  const std::size_t n_planned = plan.items.size();
  admit_waiting(plan);
  begin_forks(plan, n_planned);
  if (plan.items.empty()) {
    if (in_flight_.empty() && !idle() && held.empty())
      throw runtime_failure("no progress: " + describe());
    return std::nullopt;
  }
  plan.step = ++stats_.steps;
  plan.copies_before = std::exchange(copies_, {});
  for (const BatchPlan::Copy& copy : plan.copies_before) {
    if (!copy.from.on_host) continue;
    const bool block = copy.what == BatchPlan::Copy::What::kBlock;
    ++(block ? stats_.returned_blocks : stats_.returned_snapshots);
  }
  InFlight flight{.step = plan.step, .snapshots = {}, .forks = {}, .lost = false};
  for (const BatchPlan::Item& item : plan.items) {
    if (item.snapshot >= 0) flight.snapshots.push_back(item.snapshot);
  }
  for (const BatchPlan::Fork& fork : plan.forks) {
    sequences_.at(fork.sequence).pending_row = plan.n_samples++;
    flight.forks.emplace_back(plan.items[static_cast<std::size_t>(fork.item)].sequence,
                              fork.sequence);
  }
  in_flight_.push_back(std::move(flight));
  stats_.computed_tokens += plan.n_tokens;
  return plan;
}

void Scheduler::plan_running(BatchPlan& plan, std::span<const SequenceId> held) {
  const auto left_of = [&](const Sequence& s) {
    return std::ranges::find(held, s.id) == held.end() ? remaining(s) : 0;
  };
  std::int64_t decoding = 0;
  std::int64_t prompts = front_has_room() ? 1 : 0;  // the one that waits has its share, too
  for (const Sequence* s : running_) {
    const std::int64_t n = left_of(*s);
    if (n == 1) ++decoding;
    if (n > 1) ++prompts;
  }
  // running_ shrinks from the end when a victim is preempted, so the index stays right.
  for (std::size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = *running_[i];
    const std::int64_t left = left_of(s);
    if (left == 0) continue;
    if (left == 1) --decoding;
    if (left > 1) --prompts;
    const std::int64_t n =
        left > 1 ? chunk_limit(plan, s, decoding, prompts) : chunk_limit(plan, s, 0, 0);
    if (n == 0 || !grow(s, n, plan)) continue;
    append_item(plan, s, n);
  }
}

void Scheduler::release(BlockId block) {
  pool_.release(block);
  cache_.released(block);
}

void Scheduler::drop_blocks(Sequence& s) {
  for (const BlockId block : s.blocks) release(block);
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
  // So near to where it began replaying costs less than a step that ends there.
  const std::int64_t after =
      std::max(s.n_computed, s.found.n_cached + options_.state_block_tokens - 1);
  const auto listed = std::upper_bound(s.snapshot_at.begin(), s.snapshot_at.end(), after);
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
  if (s.tokens.size() == s.tokens.capacity()) s.tokens.reserve(2 * s.tokens.size());  // see below
  item.tokens = std::span(s.tokens).subspan(static_cast<std::size_t>(s.n_computed),
                                            static_cast<std::size_t>(n_tokens));
  item.block_table = s.blocks;
  item.state_slot = s.state_slot;
  item.run = s.run;
  const bool keep_state = next_snapshot(s) == s.n_computed + n_tokens;
  if (item.tokens.back() == kPendingToken) {
    HEDDLE_CHECK(!in_flight_.empty());
    item.pending_row = s.pending_row;
  }
  s.n_computed += n_tokens;
  if (keep_state && (states_.n_free() > 0 || cache_.evict_snapshot(&copies_))) {
    item.snapshot = *states_.allocate();
    plan.copies_after.push_back({BatchPlan::Copy::What::kState, {s.state_slot}, {item.snapshot}});
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
  if (item.sample) {
    s.tokens.push_back(kPendingToken);  // item.tokens stays where it is: there is room
    s.pending_row = plan.n_samples++;
    queue_.charge(*s.client, 1);
  }
  ends_forks_ = ends_forks_ || (!s.forks.empty() && s.n_computed >= s.n_prompt);
  plan.n_tokens += n_tokens;
  plan.n_outputs += item.n_outputs;
  plan.items.push_back(item);
}

void Scheduler::commit(const BatchPlan& plan, const std::vector<Token>& sampled) {
  const Recovery recovery(*this);
  HEDDLE_CHECK(!in_flight_.empty() && in_flight_.front().step == plan.step);
  HEDDLE_CHECK(static_cast<std::int64_t>(sampled.size()) == plan.n_samples);
  const bool lost = in_flight_.front().lost;
  in_flight_.erase(in_flight_.begin());
  if (lost) return;
  auto next = sampled.begin();
  for (const BatchPlan::Item& item : plan.items) {
    const auto it = sequences_.find(item.sequence);
    Sequence* s = it == sequences_.end() ? nullptr : &it->second;
    const std::int64_t end = item.end();
    if (item.sample) know_token(s, item.run, end, *next++);
    commit_item(s, item, end);
  }
  for (const BatchPlan::Fork& fork : plan.forks) {
    const auto it = sequences_.find(fork.sequence);
    Sequence* s = it == sequences_.end() ? nullptr : &it->second;
    if (s != nullptr) {
      know_token(s, fork.run, s->n_prompt, *next);
      commit_fork(*s, fork, plan.items[static_cast<std::size_t>(fork.item)]);
    }
    ++next;
  }
}

/// The token at `position` that a plan of this run left pending.
void Scheduler::know_token(Sequence* s, int run, std::int64_t position, Token token) {
  if (s == nullptr || run <= s->void_run || position >= length(*s)) return;
  Token& place = s->tokens[static_cast<std::size_t>(position)];
  if (place == kPendingToken) place = token;
}

/// What the item has computed, up to `end`, is there for others.
void Scheduler::commit_item(Sequence* s, const BatchPlan::Item& item, std::int64_t end) {
  bool kept = false;
  if (s != nullptr && s->run == item.run && s->state == SequenceState::kRunning) {
    s->n_valid = end;
    if (s->all_outputs) s->n_delivered = std::max(s->n_delivered, end);
    if (s->reuse) store_blocks(*s);
    if (item.snapshot >= 0) {
      const PrefixNode node = node_at(*s, end);
      kept = node != kNoNode && cache_.add_snapshot(node, end, item.snapshot);
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
    if (const BlockId there = cache_.place(node).id; there != block) {
      pool_.share(there);
      release(block);
      block = there;
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

void Scheduler::remove(SequenceId id, bool faulty) {
  const auto it = sequences_.find(id);
  if (it == sequences_.end()) return;
  Sequence& s = it->second;
  const Recovery recovery(*this, Recovery::kAsItIs);
  try {
    if (!broken_) leave_cache(s, faulty);
  } catch (const std::bad_alloc&) {
    broken_ = true;
  }
  std::erase(running_, &s);
  queue_.remove(*s.client, id, s.priority);
  queue_.leave(*s.client);
  sequences_.erase(it);
}

/// What a sequence that ends has goes to the cache, and to those that wait for it.
void Scheduler::leave_cache(Sequence& s, bool faulty) {
  release_forks(s);
  if (s.fork_of != 0) std::erase(sequences_.at(s.fork_of).forks, s.id);
  const bool keep = s.leave && !faulty;
  if (s.state == SequenceState::kRunning && keep) store_end(s);
  drop_blocks(s);
  if (!keep && s.reuse) {
    const auto known = std::find(s.tokens.begin(), s.tokens.end(), kPendingToken);
    cache_.discard(s.scope, std::span(s.tokens.begin(), known), s.own_from);
  }
}

bool Scheduler::preempt(SequenceId id) {
  const Recovery recovery(*this);
  const auto it = sequences_.find(id);
  if (it == sequences_.end() || it->second.state != SequenceState::kRunning) return false;
  Sequence& s = it->second;
  store_end(s);
  drop_blocks(s);
  s.state = SequenceState::kWaiting;
  ++s.preemptions;
  ++stats_.preemptions;
  std::erase(running_, &s);
  queue_.add_preempted(id);
  return true;
}

const Sequence* Scheduler::find(SequenceId id) const {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : &it->second;
}

}  // namespace heddle
