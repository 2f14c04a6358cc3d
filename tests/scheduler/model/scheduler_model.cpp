#include "tests/scheduler/model/scheduler_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace heddle::test {
namespace {

constexpr std::size_t kMostLive = 12;
constexpr Token kWrong = 1 << 20;  // what a failed or sick step samples

template <std::size_t kSize>
int choose(std::uint8_t byte, const std::array<int, kSize>& from) {
  return from[byte % kSize];
}

std::string scope_name(int which) {
  return which == 0 ? "" : std::string(1, static_cast<char>('a' + which));
}

int scope_of(const Op& op) {
  return op.args[4] % 8 < 5 ? 0 : op.args[4] % 8 - 5;
}

}  // namespace

Outcome replay(const OpStream& stream, std::int64_t broken_copy) {
  SchedulerModel model(options_of(stream), broken_copy);
  std::size_t at = 0;
  const auto broken = [&](std::string rule, std::string seen) {
    Outcome outcome = model.outcome();
    outcome.rule = std::move(rule);
    outcome.seen = std::move(seen);
    outcome.op = at;
    return outcome;
  };
  try {
    for (; at < stream.ops.size(); ++at) model.apply(stream.ops[at]);
    if (stream.header[19] % 4 == 0) model.flood();
    model.drain();
  } catch (const Violation& v) {
    return broken(v.rule, v.what());
  } catch (const std::exception& e) {
    return broken("no throw", e.what());
  }
  return model.outcome();
}

SchedulerModel::SchedulerModel(const StreamOptions& options, std::int64_t broken_copy)
    : options_(options), scheduler_(options.scheduler), decoder_(options.scheduler, broken_copy) {}

void SchedulerModel::apply(const Op& op) {
  switch (op.kind) {
    case Op::kAdd:
      add(op);
      break;
    case Op::kRun:
      for (int i = 0; i < 1 + op.args[0] % 12; ++i) step();
      break;
    case Op::kPlan:
      if (!plan_step(false, op)) commit_oldest();
      break;
    case Op::kCommit:
      commit_oldest();
      break;
    case Op::kFail:
      plan_step(true, op);
      // What only a step behind it can show: it is planned, and the next one before its commit.
      if (op.args[3] % 2 == 0) break;
      plan_step(false, op);
      commit_oldest();
      plan_step(false, op);
      commit_oldest();
      break;
    case Op::kLate:
      late_failure();
      break;
    case Op::kRemove:
      if (const SequenceId id = pick(op.args[0]); id != 0) end(id, op.args[1] % 4 == 0);
      break;
    case Op::kPreempt:
      if (const SequenceId id = pick(op.args[0]); id != 0) preempt(id);
      break;
    case Op::kSicken:
      if (const SequenceId id = pick(op.args[0]); id != 0) sicken(id);
      break;
    case Op::kClear:
      scheduler_.clear_cache();
      lossless_ = false;
      watched_.clear();
      perhaps_lost_.clear();
      break;
    case Op::kAdopt:
      adopt(op);
      break;
    default:
      stray(op);
  }
  check_memory();
  audit();
  if (!texts_.empty()) check_found(texts_[op.args[0] % texts_.size()]);
}

/// A text that begins as an older one does, or a new one.
Text SchedulerModel::continued(const Op& op) const {
  const auto& a = op.args;
  Text text{.scope = scope_name(scope_of(op))};
  if (!texts_.empty() && a[0] % 5 != 0) {
    const Text& older = texts_[(a[0] / 5) % texts_.size()];
    const std::int64_t cut = a[1] % 4 == 0 ? older.size() : (a[1] / 4) % (older.size() + 1);
    for (std::int64_t i = 0; i < cut; ++i) text.push(older.tokens[static_cast<std::size_t>(i)]);
  }
  std::uint64_t salt = a[0] % 5 != 0 ? 1 : a[1] % 3;
  const std::int64_t fresh = a[2] % 4 == 0 ? a[2] / 4 : a[2] % 16;
  for (std::int64_t i = 0; i < fresh || text.size() == 0; ++i) {
    salt = mix(salt, a[6]);
    text.push(static_cast<Token>(salt % static_cast<std::uint64_t>(options_.vocab)));
  }
  return text;
}

void SchedulerModel::add(const Op& op) {
  if (live_.size() >= kMostLive) return;
  const auto& a = op.args;
  const Text text = continued(op);
  SequenceRequest request;
  request.prompt = text.tokens;
  request.max_new_tokens = a[3] % 6 == 0 ? 0 : a[3] % 20;
  request.all_outputs = a[4] % 11 == 10;
  request.scope = text.scope;
  request.reuse = a[4] / 8 % 12 != 11;
  for (int i = 0; i < a[5] % 4; ++i) {
    request.snapshot_at.push_back((a[5] / 4 * (i + 1)) % (text.size() + 2));
  }
  std::ranges::sort(request.snapshot_at);
  request.priority = choose(a[7], std::array{0, 0, 0, 0, 0, 1, -1, 2, -100, 100});
  request.client = scope_name(choose(a[8], std::array{0, 0, 0, 1, 2, 3}));
  if (a[8] >= 208) request.client = fmt::format("visitor {}", n_names_++);
  request.counted = a[8] % 16 != 15;
  const SequenceId id = submit(request, a[6] % 3);
  // Others that begin with the same prompt.
  for (int i = 0; id != 0 && a[6] >= 160 && i <= a[6] % 4 && live_.size() < kMostLive; ++i) {
    request.fork_of = id;
    request.all_outputs = a[6] % 16 == 15;
    request.max_new_tokens = (request.max_new_tokens + i) % 20;
    // Those that may not begin with what that one has.
    if (a[7] / 16 == 13) request.reuse = !request.reuse;
    if (a[7] / 16 == 14) request.scope = scope_name(1 + scope_of(op) % 2);
    if (a[7] / 16 == 15) request.prompt.back() = (request.prompt.back() + 1) % options_.vocab;
    submit(request, static_cast<std::uint64_t>(a[6] % 3 + 1 + i));
  }
}

SequenceId SchedulerModel::submit(SequenceRequest request, std::uint64_t choice) {
  Tracked t{.text = {.scope = request.scope, .choice = choice},
            .n_prompt = static_cast<std::int64_t>(request.prompt.size()),
            .max_new = request.max_new_tokens,
            .all_outputs = request.all_outputs,
            .shares = request.reuse && !request.all_outputs && options_.scheduler.prefix_cache,
            .counted = request.counted,
            .priority = request.priority,
            .client = request.client};
  for (const Token token : request.prompt) t.text.push(token);
  for (std::int64_t i = 0; i < t.max_new; ++i) t.text.push(t.text.next(options_.vocab));
  t.known = t.n_prompt;
  if (t.shares && meets_sick(t.text)) return 0;
  const SchedulerOptions& o = options_.scheduler;
  const std::int64_t pool = std::int64_t{o.n_blocks} * o.block_tokens;
  const bool too_long = t.text.size() > o.max_sequence_tokens;
  SequenceId id = 0;
  try {
    id = scheduler_.add(std::move(request));
  } catch (const Error& e) {
    ++outcome_.refused;
    if (e.kind() != ErrorKind::kBadInput) throw Violation("S1 refusal", e.what());
    if (!too_long && t.text.size() <= pool) throw Violation("S1 refusal of what fits", e.what());
    return 0;
  }
  // The last token of an answer needs no row.
  if (too_long || t.text.size() - (t.max_new > 0 ? 1 : 0) > pool) {
    throw Violation("S1 refusal", fmt::format("{} tokens were accepted", t.text.size()));
  }
  if (!gone_.empty() && id <= gone_.back() && std::ranges::count(gone_, id) > 0) {
    throw Violation("I3 one end", fmt::format("id {} is given again", id));
  }
  if (std::ranges::none_of(texts_, [&](const Text& x) { return x.rows == t.text.rows; })) {
    texts_.push_back(t.text);
  }
  enter(t.client);
  least_priority_ = std::min(least_priority_, t.priority);
  most_priority_ = std::max(most_priority_, t.priority);
  std::set<SequenceId> others = waiting();
  live_.emplace(id, std::move(t));
  if (scheduler_.find(id)->fork_of == 0) asks(id, others);
  return id;
}

bool SchedulerModel::plan_step(bool fails, const Op& op) {
  if (static_cast<int>(flights_.size()) >= options_.flight) return false;
  const Befores before = look();
  const int free_blocks = scheduler_.stats().free_blocks;
  watch(false);
  std::optional<BatchPlan> plan = scheduler_.plan();
  watch(true);
  for (const auto& [id, b] : before) {
    const bool runs = scheduler_.find(id)->state == SequenceState::kRunning;
    if (b.running && !runs) perhaps_lost_.push_back({live_.at(id).text, live_.at(id).planned, 0});
  }
  if (!plan) {
    take_copies();
    check_victims(before);
    if (flights_.empty() && !live_.empty()) {
      throw Violation("I5 progress", fmt::format("{} sequences, and no plan", live_.size()));
    }
    return false;
  }
  check_plan(*plan, before, free_blocks);
  Flight flight{.plan = std::move(*plan),
                .failed = fails,
                .end_them = op.args[1] % 2 == 0,
                .all_fail = op.args[2] % 2 == 0};
  execute(flight, fails ? op.args[0] % 4 : 4, op);
  flights_.push_back(std::move(flight));
  ++outcome_.steps;
  audit();
  return true;
}

void SchedulerModel::take_copies() {
  const std::vector<BatchPlan::Copy> copies = scheduler_.take_copies();
  count_moves(copies);
  decoder_.run_copies(copies);
}

/// `mode`: a failed step did nothing (0), its copies (1), its items wrongly (2), half of them
/// rightly (3). 4: all is well.
void SchedulerModel::execute(Flight& flight, int mode, const Op& op) {
  // Of a failed step: some copies less, the last ones; none where an item rightly reads them.
  const auto done = [mode](std::span<const BatchPlan::Copy> copies, std::uint8_t missing) {
    return copies.first(mode == 4 ? copies.size() : copies.size() - missing % (copies.size() + 1));
  };
  if (mode > 0)
    decoder_.run_copies(mode < 3 ? done(flight.plan.copies_before, op.args[7])
                                 : flight.plan.copies_before);
  const std::size_t n = flight.plan.items.size();
  for (std::size_t i = 0; i < n; ++i) {
    const BatchPlan::Item& item = flight.plan.items[i];
    if (moves_lost()) drag(item.sequence, item.run);
    Tracked& t = live_.at(item.sequence);
    const std::int64_t end = item.start + static_cast<std::int64_t>(item.tokens.size());
    const bool sick = t.sick_from >= 0 && end > t.sick_from;
    const bool sound = !tainted(item.sequence, item.run);
    flight.sound.push_back(sound ? 1 : 0);
    const bool wrong = !sound || sick;
    if (mode == 4 || (mode == 3 && i < n / 2)) {
      if (wrong) {
        decoder_.spoil_item(item, sick && sound ? &t.text : nullptr, t.sick_from);
      } else {
        decoder_.run_item(item, t.text);
      }
    } else if (mode >= 2) {
      decoder_.spoil_item(item, nullptr, 0);
    }
    if (item.sample) {
      flight.sampled.push_back(wrong ? (sick ? kPendingToken : kWrong)
                                     : t.text.tokens[static_cast<std::size_t>(end)]);
      flight.sampled_by.push_back(item.sequence);
    }
  }
  if (mode >= 2) decoder_.run_copies(done(flight.plan.copies_after, op.args[8]));
  execute_forks(flight);
  if (mode == 4) return;
  ++outcome_.failed;
  const auto fails = [this](SequenceId id, int run) {
    Tracked& t = live_.at(id);
    t.void_run = std::max(t.void_run, run);
    ++t.awaiting;
  };
  for (const BatchPlan::Item& item : flight.plan.items) fails(item.sequence, item.run);
  for (const BatchPlan::Fork& fork : flight.plan.forks) fails(fork.sequence, fork.run);
}

/// A step that failed was to move something to the host: who reads it from there is misled, so the
/// scheduler trusts nobody then.
bool SchedulerModel::moves_lost() const {
  return !flights_.empty() && flights_.front().failed &&
         std::ranges::any_of(flights_.front().plan.copies_before,
                             [](const BatchPlan::Copy& copy) { return copy.to.on_host; });
}

void SchedulerModel::drag(SequenceId id, int run) {
  Tracked& t = live_.at(id);
  t.void_run = std::max(t.void_run, run);
  ++t.awaiting;
  flights_.front().dragged.push_back(id);
}

/// The first token of each, from the row that its item has.
void SchedulerModel::execute_forks(Flight& flight) {
  for (const BatchPlan::Fork& fork : flight.plan.forks) {
    const Tracked& t = live_.at(fork.sequence);
    const auto item = static_cast<std::size_t>(fork.item);
    if (flight.sound.at(item) == 0) drag(fork.sequence, fork.run);
    const bool sound = flight.sound.at(item) != 0 && !tainted(fork.sequence, fork.run);
    flight.sampled.push_back(sound ? t.text.tokens[static_cast<std::size_t>(t.n_prompt)] : kWrong);
    flight.sampled_by.push_back(fork.sequence);
    flight.sound.push_back(sound ? 1 : 0);
  }
}

void SchedulerModel::commit_oldest() {
  if (flights_.empty()) return;
  const Flight flight = std::move(flights_.front());
  flights_.pop_front();
  if (flight.failed) {
    failed(flight);
    while (flight.all_fail && !flights_.empty()) {
      const Flight behind = std::move(flights_.front());
      flights_.pop_front();
      if (!behind.failed) {  // its rows may be right, but nobody may count on them
        const auto fails = [this](SequenceId id, int run) {
          const auto it = live_.find(id);
          if (it == live_.end()) return;
          it->second.void_run = std::max(it->second.void_run, run);
          ++it->second.awaiting;
        };
        for (const BatchPlan::Item& item : behind.plan.items) fails(item.sequence, item.run);
        for (const BatchPlan::Fork& fork : behind.plan.forks) fails(fork.sequence, fork.run);
      }
      failed(behind);
    }
  } else {
    scheduler_.commit(flight.plan, flight.sampled);
    for (const bool sick : {false, true}) {
      for (std::size_t i = 0; i < flight.plan.items.size(); ++i) {
        if (flight.sound[i] != 0) committed(flight.plan.items[i], sick);
      }
    }
    for (std::size_t i = 0; i < flight.plan.forks.size(); ++i) {
      if (flight.sound[flight.plan.items.size() + i] != 0) committed(flight.plan.forks[i]);
    }
    end_complete();
  }
  check_memory();
  audit();
}

/// First all that are well, then those that are found to be sick: they end.
void SchedulerModel::committed(const BatchPlan::Item& item, bool sick) {
  const auto it = live_.find(item.sequence);
  if (it == live_.end()) return;
  Tracked& t = it->second;
  const std::int64_t end_row = item.start + static_cast<std::int64_t>(item.tokens.size());
  const bool wrong = t.sick_from >= 0 && end_row > t.sick_from;
  if (wrong != sick) return;
  if (wrong && item.sample) {
    ++outcome_.sick;
    return end(item.sequence, true);
  }
  const Sequence& s = *scheduler_.find(item.sequence);
  const bool same_run = s.state == SequenceState::kRunning && s.run == item.run;
  if (same_run) t.valid = end_row;
  if (wrong) return;
  if (t.max_new == 0 && end_row == t.n_prompt) t.complete = true;
  if (!item.sample) return;
  const auto at = static_cast<std::size_t>(end_row);
  if (s.tokens.size() > at && s.tokens[at] != kPendingToken) {
    t.known = std::max(t.known, end_row + 1);  // audit() compares them
  } else if (same_run) {
    throw Violation("I7 stream", fmt::format("sequence {}: token {} is lost", item.sequence, at));
  }
}

void SchedulerModel::committed(const BatchPlan::Fork& fork) {
  const auto it = live_.find(fork.sequence);
  if (it == live_.end()) return;
  Tracked& t = it->second;
  const Sequence& s = *scheduler_.find(fork.sequence);
  const bool same_run = s.state == SequenceState::kRunning && s.run == fork.run;
  if (same_run) t.valid = std::max(t.valid, t.n_prompt);
  const auto at = static_cast<std::size_t>(t.n_prompt);
  if (s.tokens.size() > at && s.tokens[at] != kPendingToken) {
    t.known = std::max(t.known, t.n_prompt + 1);
  } else if (same_run) {
    throw Violation("I7 stream", fmt::format("fork {}: its first token is lost", fork.sequence));
  }
}

void SchedulerModel::step() {
  plan_step(false, {});
  if (static_cast<int>(flights_.size()) >= options_.flight || scheduler_.idle()) commit_oldest();
  if (!flights_.empty() && !plan_step(false, {})) commit_oldest();
}

void SchedulerModel::end(SequenceId id, bool faulty) {
  const Tracked t = live_.at(id);
  faulty = faulty || t.sick_from >= 0;
  if (faulty) {
    lossless_ = false;
    perhaps_lost_.push_back({t.text, t.planned, 0});
  } else {
    remember(t, true, id);
  }
  const Befores before = look();
  std::set<SequenceId> others = waiting();
  scheduler_.remove(id, faulty);
  for (const auto& [fork, b] : before) {  // the first of them waits for a place now
    if (b.fork_of == id && scheduler_.find(fork)->fork_of == 0) asks(fork, others);
  }
  leave(t.client);
  live_.erase(id);
  gone_.push_back(id);
  ++outcome_.ended;
  if (scheduler_.find(id) != nullptr) throw Violation("I3 one end", fmt::format("{} lives on", id));
}

void SchedulerModel::end_complete() {
  std::vector<SequenceId> complete;
  for (const auto& [id, t] : live_) {
    const bool all = t.max_new == 0 ? t.complete : t.known == t.text.size();
    if (all) complete.push_back(id);
  }
  for (const SequenceId id : complete) end(id, false);
}

void SchedulerModel::preempt(SequenceId id) {
  const bool running = scheduler_.find(id)->state == SequenceState::kRunning;
  const Tracked& t = live_.at(id);
  if (running && t.sick_from < 0) remember(t, false, id);
  if (scheduler_.preempt(id) != running) throw Violation("I4 preempt", "what it said is not so");
  const Sequence* s = scheduler_.find(id);
  if (s->state != SequenceState::kWaiting || !s->blocks.empty() || s->state_slot >= 0) {
    throw Violation("I4 preempt", fmt::format("sequence {} has kept something", id));
  }
}

void SchedulerModel::remember(const Tracked& t, bool ends, SequenceId id) {
  if (!t.shares || t.sick_from >= 0) return;
  const Sequence* s = scheduler_.find(id);
  if (s->state != SequenceState::kRunning || s->run <= t.void_run || s->run != t.run) return;
  // The snapshot at its end is certain where the slot holds no more than what was committed.
  const bool snapshot = ends && t.planned == t.valid;
  remembered_.push_back({t.text, t.valid, snapshot ? t.valid : 0});
}

void SchedulerModel::stray(const Op& op) {
  std::vector<SequenceId> ids = {0, -1, SequenceId{1} << 40};
  if (!gone_.empty()) ids.push_back(gone_[op.args[0] % gone_.size()]);
  for (const SequenceId id : ids) {
    scheduler_.remove(id, op.args[1] % 2 == 0);
    if (scheduler_.preempt(id)) throw Violation("I4 stray", fmt::format("{} was preempted", id));
    if (scheduler_.find(id) != nullptr) throw Violation("I4 stray", fmt::format("{} is known", id));
  }
}

/// A session that is restored: its caller fills what adopt() gives.
void SchedulerModel::adopt(const Op& op) {
  const Text text = continued(op);
  if (meets_sick(text) || text.size() > options_.scheduler.max_sequence_tokens) return;
  std::vector<std::int64_t> states;
  for (int i = 1; i <= op.args[5] % 4; ++i) states.push_back(1 + op.args[5] / 4 * i % text.size());
  std::ranges::sort(states);
  states.erase(std::unique(states.begin(), states.end()), states.end());
  const SchedulerStats before = scheduler_.stats();
  const AdoptedPath adopted = scheduler_.adopt(text.scope, text.tokens, states);
  check_adopted(adopted, text, before);
  const std::int64_t width = options_.scheduler.block_tokens;
  for (std::int64_t i = 0; i < std::ssize(adopted.blocks); ++i) {
    const BlockId block = adopted.blocks[static_cast<std::size_t>(i)];
    const std::int64_t end = std::min(adopted.n_tokens, (i + 1) * width);
    if (block >= 0) decoder_.fill_rows(block, i * width, end, text);
  }
  for (const AdoptedPath::Snapshot& s : adopted.snapshots) {
    decoder_.fill_state(s.slot, states.at(s.index), text);
    remembered_.push_back({text, adopted.n_tokens, states.at(s.index)});
  }
  remembered_.push_back({text, adopted.n_tokens, 0});
  perhaps_lost_.push_back({text, adopted.n_tokens, 0});  // it is not among texts_
  outcome_.adopted += adopted.n_tokens;
  check_found(text);
}

SequenceId SchedulerModel::pick(std::uint8_t which) const {
  if (live_.empty()) return 0;
  return std::next(live_.begin(), static_cast<std::ptrdiff_t>(which % live_.size()))->first;
}

}  // namespace heddle::test
