#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/log.h"
#include "engine/cache_rings.h"
#include "engine/complete_options.h"
#include "engine/engine_impl.h"
#include "engine/numerics_id.h"
#include "engine/weights_hash.h"
#include "models/attention_mode.h"
#include "models/checkpoint.h"
#include "models/planned.h"

namespace heddle {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Of logits, relative to the row's largest, where the device may sum in another order: keys and
/// values are rounded to 16 bits, so that a difference in the last bit of f32 may grow to one of
/// f16 or bf16.
constexpr double kAllowedOnDevices = 0.01;

}  // namespace

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
      cache(placed_needs(config, options),
            {.kv_dtype = *options.kv_dtype,
             .n_blocks = n_blocks(options),
             .block_tokens = options.block_tokens,
             .n_state_slots = options.max_sequences + options.snapshots,
             .n_host_blocks = host.n_blocks,
             .n_host_slots = host.n_slots},
            *backend),
      session_layout(placed_needs(config, options), *options.kv_dtype, options.block_tokens),
      scheduler(scheduler_options(options, cache.slot_bytes() > 0, host)),
      builder({.max_tokens = options.max_step_tokens,
               .max_sequences = std::min(options.max_sequences, options.max_step_tokens),
               .max_outputs = decoder_limits(options).max_outputs,
               .max_blocks = (options.context + options.block_tokens - 1) / options.block_tokens,
               .block_tokens = options.block_tokens,
               .rings = ring_sizes(placed_needs(config, options))},
              *backend),
      sampler(*backend, decoder_limits(options).max_outputs, config.vocab),
      checks({.fraction = options.verify_cache,
              .seed = options.verify_seed,
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
  weights = std::move(checkpoint.weights);
  weights->drop_made();
}

double Engine::Impl::now() const {
  if (options.clock) return options.clock();
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
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
      .all_outputs = scores_prompt(request) || request.all_logits,
      .outputs_from = request.logits_from,
      .scope = prefix_scope(request),
      .counted = !internal,
      .reuse = request.reuse,
      .leave = request.leave,
      .snapshot_at = snapshot_positions(request.snapshot_at, n_prompt, kLinearBlock),
      .priority = request.priority,
      .client = request.client};
  const auto shared = std::make_shared<const Request>(std::move(request));
  const auto shared_sink = std::make_shared<EventSink>(std::move(sink));
  if (check_id != 0) {  // gives way, and begins anew when there is nothing else to do
    cancelled.push_back(check_id);
    if (!stepping) end_cancelled();
  }
  const RequestId id = internal ? --last_check_id : next_id++;
  std::vector<SequenceId>& choices = choices_of[id];
  try {
    choices.reserve(static_cast<std::size_t>(shared->n));
    // The first may be refused, the others are like it.
    for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(shared->n); ++i) {
      choices.push_back(scheduler.add(wanted));
      wanted.fork_of = choices.front();
      if (scores_prompt(*shared)) {  // the first one does, and the others begin with what it has
        wanted.all_outputs = shared->all_logits;
        wanted.reuse = false;
      }
      Live entry{.id = id,
                 .choice = i,
                 .request = shared,
                 .sink = shared_sink,
                 .sequence = choices.back(),
                 .text = TextAssembler(shared->stop),
                 .grammar = grammar_job(*shared),
                 .observed = shared->on_logits != nullptr,
                 .internal = internal,
                 .verified = !internal && shared->n == 1 && checks.chooses(shared->prompt)};
      if (needs_counts(shared->sampling)) {
        for (const std::int32_t token : shared->prompt) ++entry.counts[token].in_prompt;
      }
      if (shared->min_new_tokens > 0) {
        entry.ends = end_ids;
        entry.ends.insert(entry.ends.end(), shared->stop_ids.begin(), shared->stop_ids.end());
      }
      if (entry.grammar) mask_worker.start(entry.grammar);
      live.emplace(choices.back(), std::move(entry));
    }
    if (!internal) deadlines.add(id, *shared, now());
  } catch (...) {
    forget(id, choices);
    throw;
  }
  return id;
}

/// A request that was only half submitted: nobody knows of it.
void Engine::Impl::forget(RequestId id, const std::vector<SequenceId>& choices) {
  for (const SequenceId choice : choices) {
    scheduler.remove(choice);
    live.erase(choice);
  }
  deadlines.remove(id);
  choices_of.erase(id);
}

SessionEnds Engine::Impl::session_ends() {
  HEDDLE_CHECK(!stepping);
  return {scheduler, cache, session_layout, numerics, config.vocab, hash_weights()};
}

Hash128 Engine::Impl::hash_weights() {
  if (weights_hash) return *weights_hash;
  const auto start = std::chrono::steady_clock::now();
  weights_hash = heddle::weights_hash(*weights, options.backend.threads);
  log_info(fmt::format("{}: weights hashed in {:.3f} s", weights->source(), seconds_since(start)));
  weights.reset();
  return *weights_hash;
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
  if (options.snapshot_memory > 0 && impl->options.snapshots == 0) {
    log_info("--snapshot-memory is not used: this model has no states, and no windows kept apart");
  }
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
                                   std::span<const std::int32_t> tokens,
                                   const std::string& client) {
  return heddle::save_session(impl_->session_ends(), path, prefix_scope({.client = client}),
                              tokens);
}

SessionReport Engine::restore_session(const SessionFile& file, const std::string& client) {
  return heddle::restore_session(impl_->session_ends(), file.view(),
                                 prefix_scope({.client = client}), session_source(file.path()));
}

Hash128 Engine::weights_hash() {
  return impl_->hash_weights();
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
