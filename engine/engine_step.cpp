// A step, and what it owes to those who asked: tokens, texts, scores, ends.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <utility>

#include "base/log.h"
#include "engine/engine_impl.h"

namespace heddle {
namespace {

ReuseReport report_of(const Sequence& s) {
  if (s.run == 0) return {};  // it was never looked up
  return {.cached_tokens = s.found.n_cached,
          .replayed_tokens = s.found.n_replayed(s.n_prompt),
          .reason = name(s.found.miss),
          .known_tokens = s.found.n_known};
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

/// True: a request has ended.
bool Engine::Impl::end_overdue() {
  bool any = false;
  for (const auto& [id, queue] : deadlines.due(now())) {
    const auto it = choices_of.find(id);
    if (it == choices_of.end()) continue;  // a sink has cancelled it meanwhile
    const std::vector<SequenceId> choices = it->second;
    const bool begun = std::ranges::any_of(
        choices, [&](SequenceId choice) { return scheduler.find(choice)->run > 0; });
    if (queue && begun) continue;
    any = true;
    for (const SequenceId choice : choices) {
      Live* entry = by_sequence(choice);
      if (entry == nullptr) continue;
      try {
        finish(*entry, {.finish = FinishReason::kDeadline,
                        .error = describe_overdue(*entry->request, queue)});
      } catch (const std::bad_alloc& e) {
        doom(choice, e.what());
      }
    }
  }
  return any;
}

bool Engine::Impl::step() {
  bool ended = end_doomed();
  ended = end_overdue() || ended;
  if (live.empty() && checks.waiting()) begin_check();
  const std::optional<BatchPlan> plan = next_plan();
  if (!plan) return end_doomed() || ended;
  stepping = true;
  try {
    compute(*plan);
  } catch (const std::exception& e) {
    fail_plan(*plan, e.what());
  }
  stepping = false;
  end_doomed();
  end_cancelled();
  return true;
}

void Engine::Impl::compute(const BatchPlan& plan) {
  cache.copy(plan.copies_before);
  const ForwardBatch& batch = builder.fill(plan);
  auto start = Clock::now();
  const TensorView logits = decoder.forward(batch, cache.mixers());
  const double forward = seconds_since(start);
  cache.copy(plan.copies_after);
  const std::vector<SampleRow> rows = observe(plan, logits);
  start = Clock::now();
  const std::vector<std::int32_t> tokens = sampler.sample(logits, rows);
  forward_s = forward + seconds_since(start);
  scheduler.commit(plan, tokens);
  emit(plan, tokens);
  start_masks(plan);
}

std::optional<BatchPlan> Engine::Impl::next_plan() {
  try {
    std::vector<SequenceId> late = late_masks();
    std::optional<BatchPlan> plan = scheduler.plan(late);
    while (!plan && !late.empty()) {
      wait_for_mask(late);
      late = late_masks();
      plan = scheduler.plan(late);
    }
    if (!plan) cache.copy(scheduler.take_copies());
    return plan;
  } catch (const std::bad_alloc& e) {
    // It computes all again; the youngest makes room.
    if (!live.empty()) doom(live.rbegin()->first, e.what());
  } catch (const std::exception& e) {
    // A scheduler that cannot go on is a defect: every request ends with what it said.
    for (const auto& [sequence, entry] : live) doom(sequence, e.what());
  }
  return std::nullopt;
}

/// What went wrong concerns the requests of this step; the others go on. Does not throw.
void Engine::Impl::fail_plan(const BatchPlan& plan, std::string_view what) {
  scheduler.abandon(plan);
  for (const BatchPlan::Item& item : plan.items) doom(item.sequence, what);
  for (const BatchPlan::Fork& fork : plan.forks) doom(fork.sequence, what);
}

/// It ends with this error, in end_doomed(): there may be no memory to say so now. Does not throw.
void Engine::Impl::doom(SequenceId sequence, std::string_view what) {
  Live* entry = by_sequence(sequence);
  if (entry == nullptr || entry->doomed) return;
  entry->doomed = any_doomed = true;
  try {
    entry->doom = what;
  } catch (const std::bad_alloc&) {
    entry->doom = "out of memory";  // so short that it needs none
  }
}

/// Whether there were any. One that cannot be told for want of memory is tried again later.
bool Engine::Impl::end_doomed() {
  if (!any_doomed) return false;
  for (;;) {  // a sink may change what there is
    const auto it =
        std::ranges::find_if(live, [](const auto& entry) { return entry.second.doomed; });
    if (it == live.end()) break;
    finish(it->second, {.finish = FinishReason::kError, .error = it->second.doom});
  }
  any_doomed = false;
  return true;
}

/// A callback may throw: that ends its own request, without further events.
void Engine::Impl::notify(Live& entry, const RequestEvent& event) {
  try {
    if (*entry.sink) (*entry.sink)(event);
  } catch (const std::exception& e) {
    give_up(entry, e.what());
  }
}

void Engine::Impl::give_up(Live& entry, std::string_view what) {
  *entry.sink = nullptr;
  entry.observed = false;
  try {
    cancelled.push_back(entry.id);
    log_warning(
        fmt::format("request {}: its callback failed, the request ends: {}", entry.id, what));
  } catch (const std::bad_alloc& e) {
    doom(entry.sequence, e.what());
  }
}

void Engine::Impl::show_logits(Live& entry, std::int64_t position, std::span<const float> logits) {
  try {
    if (entry.observed) entry.request->on_logits(position, logits);
  } catch (const std::exception& e) {
    give_up(entry, e.what());
  }
}

void Engine::Impl::end_cancelled() {
  while (!cancelled.empty()) {
    const RequestId id = cancelled.back();
    // What finish() cannot do for want of memory is left to the next call.
    for (auto it = choices_of.find(id); it != choices_of.end(); it = choices_of.find(id)) {
      finish(live.at(it->second.front()), {.finish = FinishReason::kCancelled});
    }
    std::erase(cancelled, id);
  }
}

Live* Engine::Impl::by_sequence(SequenceId id) {
  const auto it = live.find(id);
  return it == live.end() ? nullptr : &it->second;
}

std::vector<SampleRow> Engine::Impl::observe(const BatchPlan& plan, const TensorView& logits) {
  backend->synchronize();
  step_raw.clear();
  std::vector<SampleRow> rows;
  std::vector<std::int64_t> last_row;  // of each item
  std::int64_t next = 0;
  for (const BatchPlan::Item& item : plan.items) {
    const std::int64_t first = next;
    next += item.n_outputs;
    last_row.push_back(next - 1);
    Live* entry = by_sequence(item.sequence);
    HEDDLE_CHECK(entry != nullptr);
    const std::int64_t end = item.end();
    if (entry->observed) {  // not once it has thrown
      for (std::int64_t i = 0; i < item.n_outputs; ++i) {
        show_logits(*entry, end - item.n_outputs + i, row(logits, first + i));
      }
    }
    if (scores_prompt(*entry->request) && !entry->internal && entry->choice == 0) {
      emit_scores(*entry, item, first, logits);
    }
    if (!item.sample) continue;
    record_hit(*entry, end - 1, row(logits, next - 1));
    rows.push_back(sample_row(*entry, logits, next - 1, end));
  }
  for (const BatchPlan::Fork& fork : plan.forks) {
    // Penalties change a row, so each has its own: the decoder's buffer has room for it.
    const auto item = static_cast<std::size_t>(fork.item);
    std::ranges::copy(row(logits, last_row[item]), logits.as<float>() + next * config.vocab);
    Live* entry = by_sequence(fork.sequence);
    HEDDLE_CHECK(entry != nullptr);
    rows.push_back(sample_row(*entry, logits, next++, plan.items[item].end()));
  }
  return rows;
}

/// How a row is sampled; its logits are kept if their log probabilities are wanted.
SampleRow Engine::Impl::sample_row(Live& entry,
                                   const TensorView& logits,
                                   std::int64_t index,
                                   std::int64_t position) {
  if (entry.request->n_logprobs >= 0) {
    const std::span<const float> raw = row(logits, index);
    step_raw[entry.sequence].assign(raw.begin(), raw.end());
  }
  SampleRow sampled{.logits_row = index,
                    .params = &entry.request->sampling,
                    .counts = &entry.counts,
                    .choice = entry.request->choice + entry.choice,
                    .position = position};
  exclude_tokens(entry, sampled);
  return sampled;
}

void Engine::Impl::emit_scores(Live& entry,
                               const BatchPlan::Item& item,
                               std::int64_t first_row,
                               const TensorView& logits) {
  RequestEvent event;
  event.request = entry.id;
  const std::int64_t end = item.end();
  for (std::int64_t i = 0; i < item.n_outputs; ++i) {
    const auto predicted = static_cast<std::size_t>(end - item.n_outputs + i + 1);
    if (predicted >= entry.request->prompt.size()) break;
    const std::span<const float> values = row(logits, first_row + i);
    const double logit = values[static_cast<std::size_t>(entry.request->prompt[predicted])];
    const double lse = log_sum_exp(values);
    if (!std::isfinite(lse)) {
      entry.faulty = true;
      return doom(entry.sequence, describe_not_finite(predicted));
    }
    event.scores.push_back(static_cast<float>(logit - lse));
    if (entry.request->prompt_logprobs >= 0) {
      event.top_scores.push_back(top_logprobs(values, lse, entry.request->prompt_logprobs));
    }
  }
  if (!event.scores.empty()) notify(entry, event);
}

void Engine::Impl::emit(const BatchPlan& plan, const std::vector<std::int32_t>& tokens) {
  std::size_t next = 0;
  const auto is_over = [this](const Live& entry) {
    return entry.doomed ||
           std::find(cancelled.begin(), cancelled.end(), entry.id) != cancelled.end();
  };
  for (const BatchPlan::Item& item : plan.items) {
    const std::int32_t token = item.sample ? tokens[next++] : -1;
    Live* entry = by_sequence(item.sequence);
    if (entry == nullptr) continue;  // cancelled by a sink during this step
    if (item.sample && token < 0) entry->faulty = true;
    // One that a callback has ended gets no more tokens, nor one whose grammar failed.
    if (is_over(*entry)) continue;
    if (!entry->faulty) emit_progress(*entry, item);
    if (is_over(*entry)) continue;
    if (item.sample) {
      emit_token(*entry, token);
    } else if (entry->request->score &&
               item.end() == static_cast<std::int64_t>(entry->request->prompt.size())) {
      finish(*entry, {.finish = FinishReason::kLength});
    }
  }
  for (const BatchPlan::Fork& fork : plan.forks) {
    const std::int32_t token = tokens[next++];
    Live* entry = by_sequence(fork.sequence);
    if (entry == nullptr) continue;
    if (token < 0) entry->faulty = true;
    if (!is_over(*entry)) emit_token(*entry, token);
  }
}

/// What is computed again after a preemption is no news, nor is the answer.
void Engine::Impl::emit_progress(Live& entry, const BatchPlan::Item& item) {
  const auto n_prompt = static_cast<std::int64_t>(entry.request->prompt.size());
  if (!entry.request->report_progress || item.end() > n_prompt || item.end() <= entry.progress) {
    return;
  }
  entry.progress = item.end();
  notify(entry, {.request = entry.id,
                 .choice = entry.choice,
                 .prompt_computed = item.end(),
                 .reuse = report_of(*scheduler.find(item.sequence))});
}

bool Engine::Impl::ends_answer(const Request& request, std::int32_t token) const {
  const auto among = [token](const std::vector<std::int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  const bool at_end_ids = !request.ignore_eos || request.grammar;
  return (at_end_ids && among(end_ids)) || among(request.stop_ids);
}

void Engine::Impl::emit_token(Live& entry, std::int32_t token) {
  RequestEvent event;
  event.request = entry.id;
  event.choice = entry.choice;
  if (token < 0) {
    event.finish = FinishReason::kError;
    event.error = describe_no_token(entry, token);
    finish(entry, std::move(event));
    return;
  }
  ++entry.n_generated;
  if (needs_counts(entry.request->sampling)) ++entry.counts[token].generated;
  event.token = token;
  if (const auto raw = step_raw.find(entry.sequence); raw != step_raw.end()) {
    const double lse = log_sum_exp(raw->second);
    const double logit = raw->second[static_cast<std::size_t>(token)];
    event.logprob = TokenLogprob{token, static_cast<float>(logit - lse)};
    event.top_logprobs = top_logprobs(raw->second, lse, entry.request->n_logprobs);
  }
  const bool ended = ends_answer(*entry.request, token);
  bool finished = false;
  try {
    finished = !ended && advance_grammar(entry, token);
  } catch (const std::exception& e) {  // of this request only
    return doom(entry.sequence, e.what());
  }
  if (!ended) {
    event.text = entry.text.push(tokenizer->token_bytes(token, entry.request->control_text));
  }
  const Sequence* sequence = scheduler.find(entry.sequence);
  HEDDLE_CHECK(sequence != nullptr);
  if (ended || finished || entry.text.stopped()) {
    event.finish = FinishReason::kStop;
    event.stop_text = entry.text.stopped();
  } else if (entry.n_generated >= sequence->max_new_tokens) {
    event.finish = FinishReason::kLength;
  }
  if (event.finish == FinishReason::kNone) {
    notify(entry, event);
  } else {
    finish(entry, std::move(event));
  }
}

void Engine::Impl::finish(Live& entry, RequestEvent event) {
  event.request = entry.id;
  event.choice = entry.choice;
  if (!entry.text.stopped()) event.text += entry.text.finish();
  if (const Sequence* s = scheduler.find(entry.sequence)) {
    event.reuse = report_of(*s);
    end_hit(entry, *s, event.finish);
  }
  // Nothing has changed yet, and nothing throws from here on.
  scheduler.remove(entry.sequence, entry.faulty || event.finish == FinishReason::kError);
  // The sink may submit and cancel: take the entry out first.
  const std::shared_ptr<EventSink> sink = entry.sink;
  const RequestId id = entry.id;
  std::vector<SequenceId>& choices = choices_of.at(id);
  std::erase(choices, entry.sequence);
  if (choices.empty()) {
    choices_of.erase(id);
    deadlines.remove(id);
  }
  live.erase(entry.sequence);
  if (!*sink) return;
  try {
    (*sink)(event);
  } catch (const std::exception& e) {
    try {
      log_warning(fmt::format("request {}: its callback failed at the end: {}", id, e.what()));
    } catch (const std::bad_alloc&) {  // it has ended all the same
    }
  }
}

void Engine::Impl::record_hit(const Live& entry,
                              std::int64_t position,
                              std::span<const float> logits) {
  if (!entry.verified) return;
  const Sequence* s = scheduler.find(entry.sequence);
  if (s->found.n_cached == 0) return;
  try {
    checks.record(entry.id, position - s->n_prompt + 1, logits);
  } catch (const std::bad_alloc&) {
    checks.forget(entry.id);
  }
}

void Engine::Impl::end_hit(const Live& entry, const Sequence& sequence, FinishReason finish) {
  if (!entry.verified) return;
  if (entry.faulty || finish == FinishReason::kError) {
    checks.forget(entry.id);
    return;
  }
  const auto known = std::find(sequence.tokens.begin(), sequence.tokens.end(), kPendingToken);
  try {
    checks.end(entry.id, std::span(sequence.tokens.begin(), known), sequence.n_prompt,
               sequence.found.n_cached);
  } catch (const std::bad_alloc&) {
    checks.forget(entry.id);
  }
}

/// Only when nothing else is to be done: the cold run never takes a step from a request, nor room.
void Engine::Impl::begin_check() {
  Request request = checks.begin();
  request.on_logits = [this](std::int64_t position, std::span<const float> logits) {
    checks.compare(position, logits);
  };
  try {
    check_id = submit(
        std::move(request), [this](const RequestEvent& event) { end_check(event); }, true);
  } catch (const std::exception& e) {
    checks.fail(e.what());
  }
}

void Engine::Impl::end_check(const RequestEvent& event) {
  if (event.finish == FinishReason::kNone) return;
  check_id = 0;
  if (event.finish == FinishReason::kCancelled) return checks.put_back();
  if (event.finish == FinishReason::kError) return checks.fail(event.error);
  if (const std::optional<std::string> difference = checks.complete()) {
    log(LogLevel::kError, "verify_cache: " + *difference + "; the prefix cache is emptied");
    scheduler.clear_cache();
  }
}

}  // namespace heddle
