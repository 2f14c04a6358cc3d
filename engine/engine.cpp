#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "base/log.h"
#include "engine/batch_builder.h"
#include "engine/cache_check.h"
#include "engine/cache_storage.h"
#include "engine/complete_options.h"
#include "engine/deadlines.h"
#include "engine/host_tier.h"
#include "engine/numerics_id.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "engine/session_layout.h"
#include "engine/stop.h"
#include "models/attention_mode.h"
#include "models/checkpoint.h"
#include "models/decoder.h"
#include "models/planned.h"
#include "scheduler/scheduler.h"

namespace heddle {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Of logits, relative to the row's largest, where the device may sum in another order: keys and
/// values are rounded to 16 bits, so that a difference in the last bit of f32 may grow to one of
/// f16 or bf16.
constexpr double kAllowedOnDevices = 0.01;

/// One choice of a request on its way; the scheduler has the tokens, this has what its caller is
/// owed.
struct Live {
  RequestId id = 0;
  std::uint32_t choice = 0;  // of the request's n
  std::shared_ptr<const Request> request;
  std::shared_ptr<EventSink> sink;  // of all choices; empty: its callback failed
  SequenceId sequence = 0;
  TextAssembler text;
  TokenCounts counts = {};
  std::int64_t n_generated = 0;
  bool observed = false;  // by request->on_logits
  bool faulty = false;    // logits were not finite
  bool internal = false;  // a check of our own: no caller knows of it
};

ReuseReport report_of(const Sequence& s) {
  return {.cached_tokens = s.found.n_cached,
          .replayed_tokens = s.found.n_replayed(s.n_prompt),
          .reason = name(s.found.miss),
          .known_tokens = s.found.n_known};
}

}  // namespace

struct Engine::Impl {
  Impl(EngineOptions o, Checkpoint checkpoint, std::unique_ptr<Backend> b);

  bool step();
  std::optional<BatchPlan> next_plan();
  RequestId submit(Request request, EventSink sink, bool internal = false);
  std::int64_t room_for_answer(const Request& request) const;
  std::vector<SampleRow> observe(const BatchPlan& plan, const TensorView& logits);
  void emit(const BatchPlan& plan, const std::vector<std::int32_t>& tokens);
  void emit_token(Live& live, std::int32_t token);
  void emit_scores(Live& live,
                   const BatchPlan::Item& item,
                   std::int64_t first_row,
                   const TensorView& logits);
  void finish(Live& live, RequestEvent event);
  void end_with_error(const std::vector<SequenceId>& sequences, const std::string& what);
  void fail_plan(const BatchPlan& plan, const std::string& what);
  void notify(Live& entry, const RequestEvent& event);
  void show_logits(Live& entry, std::int64_t position, std::span<const float> logits);
  void give_up(Live& entry, std::string_view what);
  void end_cancelled();
  void record_hit(const Live& entry, std::int64_t position, std::span<const float> logits);
  void end_hit(const Live& entry, const Sequence& sequence, FinishReason finish);
  bool end_overdue();
  void begin_check();
  void end_check(const RequestEvent& event);
  double now() const;  // seconds
  Live* by_sequence(SequenceId id);
  SampleRow sample_row(const Live& entry,
                       const TensorView& logits,
                       std::int64_t index,
                       std::int64_t position);
  bool ends_answer(const Request& request, std::int32_t token) const;
  SessionEnds session_ends();
  std::span<const float> row(const TensorView& logits, std::int64_t index) const {
    return {logits.as<float>() + index * config.vocab, static_cast<std::size_t>(config.vocab)};
  }

  EngineOptions options;
  ModelConfig config;
  std::unique_ptr<const Tokenizer> tokenizer;
  std::vector<TokenId> end_ids;  // of the checkpoint
  std::optional<ChatTemplate> chat_template;
  MemoryPlan memory;  // made and checked before the members that read weights
  std::string numerics;
  HostTier host;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
  CacheStorage cache;
  SessionLayout session_layout;
  Scheduler scheduler;
  BatchBuilder builder;
  Sampler sampler;
  std::map<SequenceId, Live> live;
  std::map<RequestId, std::vector<SequenceId>> choices_of;
  std::map<SequenceId, std::vector<float>>
      step_raw;  // raw rows of requests that asked for logprobs
  /// Requests to end when the step is over: callbacks run while the step still refers to them.
  std::vector<RequestId> cancelled;
  bool stepping = false;
  RequestId next_id = 1;
  Deadlines deadlines;
  CacheCheck checks;
  RequestId check_id = 0;  // of the check that runs, below 0; 0: none
  RequestId last_check_id = 0;
  double load_s = 0.0;
};

Engine::Impl::Impl(EngineOptions o, Checkpoint checkpoint, std::unique_ptr<Backend> b)
    : options(std::move(o)),
      config(checkpoint.config),
      tokenizer(std::move(checkpoint.tokenizer)),
      end_ids(checkpoint.stop_ids),
      memory(plan_memory(config, *checkpoint.weights, options)),
      numerics((check_memory(memory, options), heddle::numerics_id(checkpoint, options, *b))),
      host(host_tier(config, *checkpoint.weights, options)),
      backend(std::move(b)),
      decoder(checkpoint, *backend, decoder_limits(options), options.allow_nonfinite),
      cache(cache_needs(config),
            {.kv_dtype = *options.kv_dtype,
             .n_blocks = n_blocks(options),
             .block_tokens = options.block_tokens,
             .n_state_slots = options.max_sequences + options.snapshots,
             .n_host_blocks = host.n_blocks,
             .n_host_slots = host.n_slots},
            *backend),
      session_layout(cache_needs(config), *options.kv_dtype, options.block_tokens),
      scheduler(scheduler_options(options, memory.state > 0, host)),
      builder({.max_tokens = options.max_step_tokens,
               .max_sequences = std::min(options.max_sequences, options.max_step_tokens),
               .max_outputs = decoder_limits(options).max_outputs,
               .max_blocks = (options.context + options.block_tokens - 1) / options.block_tokens,
               .block_tokens = options.block_tokens},
              *backend),
      sampler(*backend, decoder_limits(options).max_outputs, config.vocab),
      checks({.fraction = options.verify_cache,
              .allowed = backend->kind() == DeviceKind::kCpu ? 0.0 : kAllowedOnDevices}) {
  if (tokenizer->vocab_size() != config.vocab) {
    throw bad_input(
        fmt::format("{}: tokenizer: tokens, got {}, allowed {}, one per row of the embedding",
                    checkpoint.weights->source(), tokenizer->vocab_size(), config.vocab));
  }
  for (const std::string& warning : decoder.warnings()) log_warning(warning);
  if (!checkpoint.chat_template.empty()) {
    chat_template.emplace(checkpoint.chat_template, TemplateLimits{},
                          checkpoint.chat_template_source);
  }
}

double Engine::Impl::now() const {
  if (options.clock) return options.clock();
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

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
      finish(*entry, {.finish = FinishReason::kDeadline,
                      .error = describe_overdue(*entry->request, queue)});
    }
  }
  return any;
}

bool Engine::Impl::step() {
  const bool ended = end_overdue();
  if (live.empty() && checks.waiting()) begin_check();
  const std::optional<BatchPlan> plan = next_plan();
  if (!plan) return ended;
  stepping = true;
  try {
    cache.copy(plan->copies_before);
    const ForwardBatch& batch = builder.fill(*plan);
    const TensorView logits = decoder.forward(batch, cache.mixers());
    cache.copy(plan->copies_after);
    const std::vector<SampleRow> rows = observe(*plan, logits);
    const std::vector<std::int32_t> tokens = sampler.sample(logits, rows);
    scheduler.commit(*plan, tokens);
    emit(*plan, tokens);
  } catch (const std::exception& e) {
    fail_plan(*plan, e.what());
  }
  stepping = false;
  end_cancelled();
  return true;
}

/// A scheduler that cannot go on is a defect: every request ends with what it said.
std::optional<BatchPlan> Engine::Impl::next_plan() {
  try {
    std::optional<BatchPlan> plan = scheduler.plan();
    if (!plan) cache.copy(scheduler.take_copies());
    return plan;
  } catch (const std::exception& e) {
    log_warning(fmt::format("the scheduler failed, all requests end: {}", e.what()));
    std::vector<SequenceId> all;
    for (const auto& [sequence, entry] : live) all.push_back(sequence);
    end_with_error(all, e.what());
    return std::nullopt;
  }
}

/// What went wrong concerns the requests of this step; the others go on.
void Engine::Impl::fail_plan(const BatchPlan& plan, const std::string& what) {
  scheduler.abandon(plan);
  std::vector<SequenceId> concerned;
  for (const BatchPlan::Item& item : plan.items) concerned.push_back(item.sequence);
  for (const BatchPlan::Fork& fork : plan.forks) concerned.push_back(fork.sequence);
  end_with_error(concerned, what);
}

void Engine::Impl::end_with_error(const std::vector<SequenceId>& sequences,
                                  const std::string& what) {
  for (const SequenceId sequence : sequences) {
    Live* entry = by_sequence(sequence);
    if (entry != nullptr) finish(*entry, {.finish = FinishReason::kError, .error = what});
  }
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
  log_warning(fmt::format("request {}: its callback failed, the request ends: {}", entry.id, what));
  *entry.sink = nullptr;
  entry.observed = false;
  cancelled.push_back(entry.id);
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
    const auto it = choices_of.find(cancelled.back());
    cancelled.pop_back();
    if (it == choices_of.end()) continue;
    for (const SequenceId sequence : std::vector(it->second)) {
      if (Live* entry = by_sequence(sequence)) {
        finish(*entry, {.finish = FinishReason::kCancelled});
      }
    }
  }
}

std::int64_t Engine::Impl::room_for_answer(const Request& request) const {
  if (request.score) return 0;
  if (request.max_new_tokens > 0) return request.max_new_tokens;
  const std::int64_t room = options.context - static_cast<std::int64_t>(request.prompt.size());
  if (room < 1) {
    throw bad_input(
        fmt::format("prompt of {} tokens leaves no room for an answer in a context of {}",
                    request.prompt.size(), options.context));
  }
  return room;
}

RequestId Engine::Impl::submit(Request request, EventSink sink, bool internal) {
  validate(request, config.vocab);
  const std::int64_t room = room_for_answer(request);
  const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
  SequenceRequest wanted{
      .prompt = request.prompt,
      .max_new_tokens = room,
      .all_outputs = request.score || request.all_logits,
      .outputs_from = request.logits_from,
      .scope = request.cache_scope,
      .counted = !internal,
      .reuse = request.reuse,
      .snapshot_at = snapshot_positions(request.snapshot_at, n_prompt, kLinearBlock),
      .priority = request.priority,
      .client = request.client};
  const auto shared = std::make_shared<const Request>(std::move(request));
  const auto shared_sink = std::make_shared<EventSink>(std::move(sink));
  // The first may be refused: nothing is queued then. The others are like it.
  std::vector<SequenceId> choices = {scheduler.add(wanted)};
  wanted.fork_of = choices.front();
  while (static_cast<int>(choices.size()) < shared->n) choices.push_back(scheduler.add(wanted));
  if (check_id != 0) {  // gives way, and begins anew when there is nothing else to do
    cancelled.push_back(check_id);
    if (!stepping) end_cancelled();
  }
  const RequestId id = internal ? --last_check_id : next_id++;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    Live entry{.id = id,
               .choice = static_cast<std::uint32_t>(i),
               .request = shared,
               .sink = shared_sink,
               .sequence = choices[i],
               .text = TextAssembler(shared->stop),
               .observed = shared->on_logits != nullptr,
               .internal = internal};
    if (needs_counts(shared->sampling)) {
      for (const std::int32_t token : shared->prompt) ++entry.counts[token].in_prompt;
    }
    live.emplace(choices[i], std::move(entry));
  }
  if (!internal) deadlines.add(id, *shared, now());
  choices_of.emplace(id, std::move(choices));
  return id;
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
    if (entry->request->score && !entry->internal) emit_scores(*entry, item, first, logits);
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
SampleRow Engine::Impl::sample_row(const Live& entry,
                                   const TensorView& logits,
                                   std::int64_t index,
                                   std::int64_t position) {
  if (entry.request->n_logprobs >= 0) {
    const std::span<const float> raw = row(logits, index);
    step_raw[entry.sequence].assign(raw.begin(), raw.end());
  }
  return {.logits_row = index,
          .params = &entry.request->sampling,
          .counts = &entry.counts,
          .choice = entry.request->choice + entry.choice,
          .position = position};
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
    event.scores.push_back(static_cast<float>(logit - log_sum_exp(values)));
  }
  if (!event.scores.empty()) notify(entry, event);
}

void Engine::Impl::emit(const BatchPlan& plan, const std::vector<std::int32_t>& tokens) {
  std::size_t next = 0;
  const auto is_cancelled = [this](const Live& entry) {
    return std::find(cancelled.begin(), cancelled.end(), entry.id) != cancelled.end();
  };
  for (const BatchPlan::Item& item : plan.items) {
    const std::int32_t token = item.sample ? tokens[next++] : -1;
    Live* entry = by_sequence(item.sequence);
    if (entry == nullptr) continue;  // cancelled by a sink during this step
    if (item.sample && token < 0) entry->faulty = true;
    // One that a callback has ended gets no more tokens.
    if (is_cancelled(*entry)) continue;
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
    if (!is_cancelled(*entry)) emit_token(*entry, token);
  }
}

bool Engine::Impl::ends_answer(const Request& request, std::int32_t token) const {
  const auto among = [token](const std::vector<std::int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  return (!request.ignore_eos && among(end_ids)) || among(request.stop_ids);
}

void Engine::Impl::emit_token(Live& entry, std::int32_t token) {
  RequestEvent event;
  event.request = entry.id;
  event.choice = entry.choice;
  if (token < 0) {
    event.finish = FinishReason::kError;
    event.error =
        fmt::format("numeric_error: the logits after token {} are not finite",
                    entry.request->prompt.size() + static_cast<std::size_t>(entry.n_generated));
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
  if (!ended) event.text = entry.text.push(tokenizer->token_bytes(token));
  const Sequence* sequence = scheduler.find(entry.sequence);
  HEDDLE_CHECK(sequence != nullptr);
  if (ended || entry.text.stopped()) {
    event.finish = FinishReason::kStop;
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
    log_warning(fmt::format("request {}: its callback failed at the end: {}", id, e.what()));
  }
}

SessionEnds Engine::Impl::session_ends() {
  HEDDLE_CHECK(!stepping);
  return {scheduler, cache, session_layout, numerics, config.vocab};
}

void Engine::Impl::record_hit(const Live& entry,
                              std::int64_t position,
                              std::span<const float> logits) {
  if (entry.request->n > 1 || !checks.chooses(entry.id)) return;
  const Sequence* s = scheduler.find(entry.sequence);
  if (s->found.n_cached > 0) checks.record(entry.id, position - s->n_prompt + 1, logits);
}

void Engine::Impl::end_hit(const Live& entry, const Sequence& sequence, FinishReason finish) {
  if (entry.request->n > 1) return;
  if (entry.faulty || finish == FinishReason::kError) {
    checks.forget(entry.id);
    return;
  }
  const auto known = std::find(sequence.tokens.begin(), sequence.tokens.end(), kPendingToken);
  checks.end(entry.id, std::span(sequence.tokens.begin(), known), sequence.n_prompt,
             sequence.found.n_cached);
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
  } catch (const Error& e) {
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

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Checkpoint open_model(const EngineOptions& options) {
  Checkpoint checkpoint = options.model_config.empty()
                              ? open_checkpoint(options.model)
                              : planned_checkpoint(options.model_config, options.layers);
  if (!options.attention.empty()) apply_attention_mode(options.attention, checkpoint.config);
  return checkpoint;
}

std::unique_ptr<Engine> Engine::load(const EngineOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Checkpoint checkpoint = open_model(options);
  EngineOptions full = completed(options, checkpoint.config);
  checkpoint.config = for_context(std::move(checkpoint.config), full.context);
  std::unique_ptr<Backend> backend = make_backend(full.backend);
  full.backend.threads = backend->threads();
  auto impl = std::make_unique<Impl>(std::move(full), std::move(checkpoint), std::move(backend));
  impl->load_s = seconds_since(start);
  log_info(fmt::format("{}: loaded in {:.3f} s; {}",
                       options.model_config.empty() ? options.model : options.model_config,
                       impl->load_s, impl->memory.describe()));
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

RequestId Engine::submit(Request request, EventSink sink) {
  return impl_->submit(std::move(request), std::move(sink));
}

void Engine::cancel(RequestId id) {
  if (id <= 0 || !impl_->choices_of.contains(id)) return;
  impl_->cancelled.push_back(id);
  if (!impl_->stepping) impl_->end_cancelled();
}

void Engine::clear_cache() {
  impl_->scheduler.clear_cache();
}

SessionReport Engine::save_session(const std::string& path,
                                   std::span<const std::int32_t> tokens) const {
  return heddle::save_session(impl_->session_ends(), path, tokens);
}

SessionReport Engine::restore_session(const SessionFile& file) {
  return heddle::restore_session(impl_->session_ends(), file.view(), session_source(file.path()));
}

void Engine::skip_checks() {
  if (impl_->check_id != 0) impl_->cancelled.push_back(impl_->check_id);
  if (impl_->stepping) return;
  impl_->end_cancelled();
  impl_->checks.skip_all();
}

bool Engine::preempt(RequestId id) {
  const auto it = impl_->choices_of.find(id);
  if (it == impl_->choices_of.end()) return false;
  bool any = false;
  for (const SequenceId sequence : it->second) any = impl_->scheduler.preempt(sequence) || any;
  return any;
}

bool Engine::step() {
  return impl_->step();
}

std::vector<TokenId> Engine::encode_chat(const std::vector<ChatMessage>& messages,
                                         bool add_generation_prompt) const {
  if (!impl_->chat_template) throw bad_input("the checkpoint has no chat template");
  return encode_messages(*impl_->chat_template, *impl_->tokenizer, messages, add_generation_prompt);
}

ChatPrompt Engine::encode_conversation(const std::vector<ChatMessage>& messages,
                                       bool add_generation_prompt) const {
  ChatPrompt prompt{.tokens = encode_chat(messages, add_generation_prompt)};
  if (impl_->scheduler.stats().state_slots > 0 && impl_->options.prefix_cache) {
    prompt.departures =
        chat_departures(*impl_->chat_template, *impl_->tokenizer, messages, prompt.tokens);
  }
  return prompt;
}

const ModelConfig& Engine::config() const {
  return impl_->config;
}
void Engine::set_tap(Tap tap) {
  impl_->decoder.set_tap(std::move(tap));
}

const Tokenizer& Engine::tokenizer() const {
  return *impl_->tokenizer;
}
const ChatTemplate* Engine::chat_template() const {
  return impl_->chat_template ? &*impl_->chat_template : nullptr;
}
const EngineOptions& Engine::options() const {
  return impl_->options;
}
const MemoryPlan& Engine::memory() const {
  return impl_->memory;
}
Backend& Engine::backend() {
  return *impl_->backend;
}
std::string Engine::numerics_id() const {
  return impl_->numerics;
}

EngineStats Engine::stats() const {
  EngineStats stats = engine_stats(impl_->scheduler.stats());
  stats.load_s = impl_->load_s;
  stats.verify = impl_->checks.stats();
  return stats;
}

SamplingParams Engine::default_sampling() const {
  SamplingParams p;
  const GenerationDefaults& d = impl_->config.generation;
  p.temperature = d.temperature.value_or(p.temperature);
  p.top_k = d.top_k.value_or(p.top_k);
  p.top_p = d.top_p.value_or(p.top_p);
  p.min_p = d.min_p.value_or(p.min_p);
  p.repetition_penalty = d.repetition_penalty.value_or(p.repetition_penalty);
  return p;
}

}  // namespace heddle
