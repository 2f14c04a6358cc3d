#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "tests/scheduler/model/require.h"
#include "tests/scheduler/model/scheduler_model.h"

namespace heddle::test {
namespace {

std::int64_t end_of(const BatchPlan::Item& item) {
  return item.start + static_cast<std::int64_t>(item.tokens.size());
}

}  // namespace

bool SchedulerModel::tainted(SequenceId id, int run) const {
  return run <= live_.at(id).void_run;
}

SchedulerModel::Befores SchedulerModel::look() const {
  Befores before;
  for (const auto& [id, t] : live_) {
    const Sequence* s = scheduler_.find(id);
    require(s != nullptr, "I3 one end", "sequence {} is gone", id);
    before[id] = {.running = s->state == SequenceState::kRunning,
                  .fork_of = s->fork_of,
                  .run = s->run,
                  .n_tokens = static_cast<std::int64_t>(s->tokens.size()),
                  .n_computed = s->n_computed};
  }
  return before;
}

void SchedulerModel::check_plan(const BatchPlan& plan, const Befores& before, int free_blocks) {
  const SchedulerOptions& o = options_.scheduler;
  std::int64_t n_tokens = 0;
  std::int64_t n_outputs = 0;
  std::set<SequenceId> seen;
  check_victims(before);
  check_order(plan, before);
  for (const BatchPlan::Item& item : plan.items) {
    require(live_.contains(item.sequence), "I3 one end", "{} is planned", item.sequence);
    require(seen.insert(item.sequence).second, "plan", "{} is in it twice", item.sequence);
    check_item(item, before.at(item.sequence));
    n_tokens += static_cast<std::int64_t>(item.tokens.size());
    n_outputs += item.n_outputs;
  }
  require(n_tokens > 0, "I5 progress", "step {} computes nothing", plan.step);
  require(plan.step > last_step_, "plan", "step {} after {}", plan.step, last_step_);
  last_step_ = plan.step;
  require(n_tokens == plan.n_tokens && n_tokens <= o.max_step_tokens, "plan budget",
          "{} tokens, said {}, allowed {}", n_tokens, plan.n_tokens, o.max_step_tokens);
  require(n_outputs == plan.n_outputs && n_outputs <= o.max_step_outputs, "plan budget",
          "{} outputs, said {}, allowed {}", n_outputs, plan.n_outputs, o.max_step_outputs);
  computed_ += n_tokens;
  check_forks(plan, before);
  check_writes(plan);
  check_slots(plan);
  check_decoding(plan, before);
  check_share(plan, before, free_blocks);
  count_moves(plan.copies_before);
  trace(plan);
  const PrefixCacheStats cache = scheduler_.stats().cache;
  lossless_ = lossless_ && cache.evicted_blocks == 0;
  slots_lossless_ =
      slots_lossless_ && cache.evicted_snapshots == 0 && scheduler_.stats().free_state_slots > 0;
  for (const BatchPlan::Item& item : plan.items) {
    Tracked& t = live_.at(item.sequence);
    if (t.ran) continue;
    t.ran = true;
    const Sequence& s = *scheduler_.find(item.sequence);
    check_hit(t, s);
    begun(t, s);
  }
  check_stats();
}

void SchedulerModel::begun(const Tracked& t, const Sequence& s) {
  told_.cached_tokens += s.found.n_cached;
  told_.replayed_tokens += s.found.n_replayed(t.n_prompt);
  if (!t.counted) return;
  told_.prompt_tokens += t.n_prompt;
  ++told_.misses.at(static_cast<std::size_t>(s.found.miss));
}

void SchedulerModel::count_moves(std::span<const BatchPlan::Copy> copies) {
  for (const BatchPlan::Copy& copy : copies) {
    const bool block = copy.what == BatchPlan::Copy::What::kBlock;
    if (copy.to.on_host) ++(block ? told_.cache.moved_blocks : told_.cache.moved_snapshots);
    if (!copy.from.on_host) continue;
    ++outcome_.from_host;
    ++(block ? told_.returned_blocks : told_.returned_snapshots);
  }
  const SchedulerStats stats = scheduler_.stats();
  const PrefixCacheStats& cache = stats.cache;
  require(stats.returned_blocks == told_.returned_blocks &&
              stats.returned_snapshots == told_.returned_snapshots,
          "stats", "{} blocks and {} states came back, copied were {} and {}",
          stats.returned_blocks, stats.returned_snapshots, told_.returned_blocks,
          told_.returned_snapshots);
  require(cache.moved_blocks == told_.cache.moved_blocks &&
              cache.moved_snapshots == told_.cache.moved_snapshots,
          "stats", "{} blocks and {} states moved, copied were {} and {}", cache.moved_blocks,
          cache.moved_snapshots, told_.cache.moved_blocks, told_.cache.moved_snapshots);
}

void SchedulerModel::check_stats() const {
  const SchedulerStats s = scheduler_.stats();
  require(s.computed_tokens == computed_, "stats", "{} computed, planned {}", s.computed_tokens,
          computed_);
  require(s.prompt_tokens == told_.prompt_tokens && s.misses == told_.misses, "stats",
          "{} tokens of prompts, begun were {}; misses {}, {}", s.prompt_tokens,
          told_.prompt_tokens, fmt::join(s.misses, " "), fmt::join(told_.misses, " "));
  require(s.cached_tokens == told_.cached_tokens && s.replayed_tokens == told_.replayed_tokens,
          "stats", "{} cached, {} replayed, found were {} and {}", s.cached_tokens,
          s.replayed_tokens, told_.cached_tokens, told_.replayed_tokens);
}

void SchedulerModel::check_item(const BatchPlan::Item& item, const Before& before) {
  const SchedulerOptions& o = options_.scheduler;
  Tracked& t = live_.at(item.sequence);
  const auto n = static_cast<std::int64_t>(item.tokens.size());
  require(n >= 1 && n <= o.max_chunk, "plan budget", "{} tokens, a chunk has {}", n, o.max_chunk);
  if (item.run != t.run) {
    check_admission(item, before);
  } else {
    require(before.running && before.run == item.run, "plan", "run {} of {} did not begin",
            item.run, item.sequence);
    require(item.start == t.planned, "plan", "sequence {} is at {}, the item at {}", item.sequence,
            t.planned, item.start);
  }
  check_tokens(item, before);
  check_outputs(item, before);
  t.planned = end_of(item);
}

/// A sequence gets blocks: for the first time or again.
void SchedulerModel::check_admission(const BatchPlan::Item& item, const Before& before) {
  Tracked& t = live_.at(item.sequence);
  require(item.run > t.run, "plan", "run {} after run {}", item.run, t.run);
  require(!before.running || before.run < item.run, "plan", "{} began twice", item.sequence);
  require(item.start < before.n_tokens, "plan", "a hit of {} tokens", item.start);
  require(t.shares || item.start == 0, "I8 scope", "{} reuses {}", item.sequence, item.start);
  t.run = item.run;
  t.begin = t.planned = t.valid = item.start;
}

void SchedulerModel::check_tokens(const BatchPlan::Item& item, const Before& before) const {
  const Tracked& t = live_.at(item.sequence);
  require(end_of(item) <= before.n_tokens, "plan", "{} has {} tokens, computes {}", item.sequence,
          before.n_tokens, end_of(item));
  for (std::size_t i = 0; i < item.tokens.size(); ++i) {
    const std::int64_t position = item.start + static_cast<std::int64_t>(i);
    const Token token = item.tokens[i];
    if (position < t.known) {
      require(token == t.text.tokens[static_cast<std::size_t>(position)], "I7 stream",
              "sequence {}: token {} is {}", item.sequence, position, token);
      continue;
    }
    require(token == kPendingToken && i + 1 == item.tokens.size(), "plan",
            "sequence {}: token {} is {}, nobody has sampled it", item.sequence, position, token);
    const auto row = static_cast<std::size_t>(item.pending_row);
    require(!flights_.empty() && item.pending_row >= 0 && row < flights_.back().sampled_by.size() &&
                flights_.back().sampled_by[row] == item.sequence,
            "plan", "sequence {}: pending row {}", item.sequence, item.pending_row);
  }
  if (item.tokens.back() != kPendingToken) {
    require(item.pending_row == -1, "plan", "sequence {}: a pending row", item.sequence);
  }
}

void SchedulerModel::check_outputs(const BatchPlan::Item& item, const Before& before) {
  Tracked& t = live_.at(item.sequence);
  const std::int64_t end = end_of(item);
  const bool last = end == before.n_tokens;
  const bool sample = last && end < t.text.size();
  std::int64_t wanted = sample || (last && !t.all_outputs) ? 1 : 0;
  if (t.all_outputs && t.scored < t.n_prompt) {
    wanted = std::max(wanted, end - std::max(item.start, t.scored));
    t.scored = std::max(t.scored, end);
  }
  require(item.n_outputs == wanted, "plan outputs", "sequence {}, {} .. {}: {}, wanted {}",
          item.sequence, item.start, end, item.n_outputs, wanted);
  require(item.sample == sample, "plan outputs", "sequence {}, {} .. {}: sample {}", item.sequence,
          item.start, end, item.sample);
}

/// I2: what is shared is read only.
void SchedulerModel::check_writes(const BatchPlan& plan) const {
  const std::int64_t width = options_.scheduler.block_tokens;
  std::map<BlockId, int> owners;  // sequences that have it
  for (const auto& [id, t] : live_) {
    const std::vector<BlockId>& blocks = scheduler_.find(id)->blocks;
    const std::set<BlockId> distinct(blocks.begin(), blocks.end());
    require(distinct.size() == blocks.size(), "I2 owners", "sequence {} has a block twice", id);
    for (const BlockId block : distinct) ++owners[block];
  }
  std::set<BlockId> copied;
  const auto check_copies = [&](const std::vector<BatchPlan::Copy>& copies) {
    for (const BatchPlan::Copy& copy : copies) {
      if (copy.what != BatchPlan::Copy::What::kBlock || copy.to.on_host) continue;
      const BlockId to = copy.to.id;
      require(copied.insert(to).second, "I2 owners", "block {} is copied to twice", to);
      require(owners[to] == 1, "I2 owners", "block {} is copied to, of {} sequences", to,
              owners[to]);
    }
  };
  check_copies(plan.copies_after);
  // Those that begin with what an item of this plan writes have it too.
  for (const BatchPlan::Fork& fork : plan.forks) {
    for (const BlockId block : scheduler_.find(fork.sequence)->blocks) --owners[block];
  }
  check_copies(plan.copies_before);
  for (const BatchPlan::Item& item : plan.items) {
    require(std::ssize(item.block_table) >= (end_of(item) + width - 1) / width, "plan ids",
            "sequence {}: {} blocks for {} rows", item.sequence, item.block_table.size(),
            end_of(item));
    for (std::int64_t i = item.start / width; i * width < end_of(item); ++i) {
      const BlockId block = item.block_table[static_cast<std::size_t>(i)];
      require(owners[block] == 1, "I2 owners", "sequence {} writes block {} of {} sequences",
              item.sequence, block, owners[block]);
    }
  }
}

void SchedulerModel::check_slots(const BatchPlan& plan) const {
  const bool states = options_.scheduler.n_state_slots > 0;
  std::set<BlockId> slots;
  for (const auto& [id, t] : live_) {
    const Sequence& s = *scheduler_.find(id);
    require((s.state_slot >= 0) == (states && s.state == SequenceState::kRunning), "plan ids",
            "sequence {}: state slot {}", id, s.state_slot);
    require(s.state_slot < 0 || slots.insert(s.state_slot).second, "I2 owners",
            "slot {} has two sequences", s.state_slot);
  }
  for (const BatchPlan::Copy& copy : plan.copies_before) {
    if (copy.what != BatchPlan::Copy::What::kState || copy.to.on_host) continue;
    require(slots.contains(copy.to.id), "plan ids", "state copied to slot {}", copy.to.id);
  }
  for (const BatchPlan::Item& item : plan.items) {
    const Sequence& s = *scheduler_.find(item.sequence);
    require(item.state_slot == s.state_slot, "plan ids", "sequence {}: slot {}", item.sequence,
            item.state_slot);
    require(item.snapshot < 0 || (states && slots.insert(item.snapshot).second), "I2 owners",
            "sequence {}: snapshot into slot {}", item.sequence, item.snapshot);
  }
  for (const BatchPlan::Copy& copy : plan.copies_after) {
    if (copy.what != BatchPlan::Copy::What::kState) continue;
    require(!copy.to.on_host && slots.contains(copy.to.id), "plan ids",
            "state copied to slot {} at the end", copy.to.id);
  }
}

/// They begin where their prompt ends, in the step that ends it, and are sampled once.
void SchedulerModel::check_forks(const BatchPlan& plan, const Befores& before) {
  std::int64_t samples = std::ssize(plan.forks);
  for (const BatchPlan::Item& item : plan.items) samples += item.sample ? 1 : 0;
  require(samples == plan.n_samples, "plan", "{} samples, said {}", samples, plan.n_samples);
  require(plan.n_outputs + std::ssize(plan.forks) <= options_.scheduler.max_step_outputs,
          "plan budget", "{} outputs and {} forks", plan.n_outputs, plan.forks.size());
  for (const BatchPlan::Fork& fork : plan.forks) {
    require(live_.contains(fork.sequence), "I3 one end", "{} is begun", fork.sequence);
    require(fork.item >= 0 && fork.item < std::ssize(plan.items), "plan", "item {}", fork.item);
    const BatchPlan::Item& item = plan.items[static_cast<std::size_t>(fork.item)];
    Tracked& t = live_.at(fork.sequence);
    const Tracked& parent = live_.at(item.sequence);
    require(!before.at(fork.sequence).running && fork.run > t.run, "plan", "{} began twice",
            fork.sequence);
    require(item.sample && end_of(item) == t.n_prompt && t.n_prompt == parent.n_prompt &&
                common_prefix(t.text, parent.text) >= t.n_prompt && t.max_new > 0 &&
                t.text.scope == parent.text.scope && t.shares == parent.shares,
            "plan", "fork {} of {}", fork.sequence, item.sequence);
    t.run = fork.run;
    t.begin = t.planned = t.n_prompt;
    t.valid = 0;
    t.ran = true;
    ++outcome_.forks;
    begun(t, *scheduler_.find(fork.sequence));
  }
}

/// A decoding sequence is certain of its row, unless it is the youngest and there is no block.
void SchedulerModel::check_decoding(const BatchPlan& plan, const Befores& before) const {
  SequenceId youngest = 0;
  for (const auto& [id, b] : before) {
    if (scheduler_.find(id)->state == SequenceState::kRunning && b.running) youngest = id;
  }
  for (const auto& [id, b] : before) {
    if (!b.running || b.n_tokens - b.n_computed != 1) continue;
    const Tracked& t = live_.at(id);
    if (t.max_new > 0 && b.n_tokens == t.text.size()) continue;  // the last token needs no row
    const Sequence& s = *scheduler_.find(id);
    if (s.state != SequenceState::kRunning || s.run != b.run) continue;
    // The youngest may wait for a block, if it needs one.
    if (id == youngest && b.n_computed % options_.scheduler.block_tokens == 0) continue;
    const bool in = std::ranges::any_of(
        plan.items, [id = id](const auto& item) { return item.sequence == id; });
    require(in, "S5 decode row", "sequence {} has none", id);
  }
}

/// I1.
void SchedulerModel::check_memory() const {
  scheduler_.check();
  const SchedulerOptions& o = options_.scheduler;
  const SchedulerStats s = scheduler_.stats();
  std::set<BlockId> used;
  int running = 0;
  for (const auto& [id, t] : live_) {
    const Sequence* sequence = scheduler_.find(id);
    require(sequence != nullptr, "I3 one end", "sequence {} is gone", id);
    used.insert(sequence->blocks.begin(), sequence->blocks.end());
    running += sequence->state == SequenceState::kRunning ? 1 : 0;
  }
  const auto n_used = static_cast<std::int64_t>(used.size());
  require(s.running == running && s.waiting == std::ssize(live_) - running, "stats",
          "{} running, {} waiting of {}", s.running, s.waiting, live_.size());
  require(s.used_blocks == n_used, "stats", "{} blocks used, by sequences {}", s.used_blocks,
          n_used);
  require(running <= options_.places(), "plan budget", "{} running", running);
  require(
      s.free_blocks + n_used <= o.n_blocks && s.free_blocks + n_used + s.cache.blocks >= o.n_blocks,
      "I1 blocks", "{} free, {} used, {} cached of {}", s.free_blocks, n_used, s.cache.blocks,
      o.n_blocks);
  const int slots = o.n_state_slots > 0 ? running : 0;
  const std::int64_t kept = s.free_state_slots + slots + s.cache.snapshots;
  // Snapshots of steps in flight are in slots, too.
  require(flights_.empty() ? kept == o.n_state_slots : kept <= o.n_state_slots, "I1 slots",
          "{} free, {} used, {} cached of {}", s.free_state_slots, slots, s.cache.snapshots,
          o.n_state_slots);
}

/// I7: everything that a sequence counts as computed, wherever it lies, and its tokens.
void SchedulerModel::audit() const {
  for (const auto& [id, t] : live_) {
    const Sequence& s = *scheduler_.find(id);
    const std::string who = fmt::format("sequence {}", id);
    require(std::ssize(s.tokens) <= t.text.size(), "I7 stream", "{}: {} tokens", who,
            s.tokens.size());
    for (std::size_t i = 0; i < s.tokens.size(); ++i) {
      const bool pending = s.tokens[i] == kPendingToken && static_cast<std::int64_t>(i) >= t.known;
      require(pending || s.tokens[i] == t.text.tokens[i], "I7 stream", "{}: token {} is {}", who, i,
              s.tokens[i]);
    }
    if (t.awaiting > 0 && s.run <= t.void_run) continue;
    if (s.state != SequenceState::kRunning) continue;
    const std::int64_t n = t.sick_from < 0 ? s.n_computed : std::min(s.n_computed, t.sick_from);
    decoder_.require_content(s.blocks, n, t.text, who);
    if (s.state_slot < 0 || n < s.n_computed || n == 0) continue;
    decoder_.require_state({.id = s.state_slot}, n, t.text, who);
  }
}

void SchedulerModel::trace(const BatchPlan& plan) {
  const auto add = [this](std::int64_t value) {
    outcome_.trace = mix(outcome_.trace, static_cast<std::uint64_t>(value));
  };
  for (const auto* copies : {&plan.copies_before, &plan.copies_after}) {
    for (const BatchPlan::Copy& copy : *copies) {
      add(copy.from.id), add(copy.from.on_host ? 1 : 0);
      add(copy.to.id), add(copy.to.on_host ? 1 : 0);
    }
  }
  for (const BatchPlan::Fork& fork : plan.forks) add(fork.sequence), add(fork.item);
  for (const BatchPlan::Item& item : plan.items) {
    add(item.sequence), add(item.start), add(item.state_slot), add(item.snapshot);
    add(item.n_outputs), add(item.run), add(item.pending_row);
    for (const Token token : item.tokens) add(token);
    for (const BlockId block : item.block_table) add(block);
  }
}

}  // namespace heddle::test
