#pragma once
// The engine: load a checkpoint, submit requests, step. See docs/architecture.md, "seven stops".

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/chat_prompt.h"
#include "engine/engine_options.h"
#include "engine/engine_stats.h"
#include "engine/memory_plan.h"
#include "engine/request.h"
#include "engine/session_file.h"
#include "models/checkpoint.h"
#include "models/layer_step.h"
#include "models/model_config.h"
#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// The checkpoint, or the plan of one, that the options name, with their attention mode. Throws
/// kBadInput.
Checkpoint open_model(const EngineOptions& options);

/// Owned and driven by one thread.
class Engine {
 public:
  /// Opens, checks and loads the checkpoint. Throws kBadInput (file, options), kMemory, kDevice.
  static std::unique_ptr<Engine> load(const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Queues a request; progress arrives at `sink` during step(). Throws kBadInput for a request
  /// that cannot be (fields out of range, longer than the context); nothing is queued then.
  RequestId submit(Request request, EventSink sink);
  /// Ends a request, all its choices, in any state with finish kCancelled; unknown ids are ignored.
  /// Called from a callback it takes effect when the step is over, without another token.
  void cancel(RequestId id);
  /// Forgets the prefixes that finished requests have left.
  void clear_cache();
  /// Saves what the prefix cache has of `tokens` (a request's prompt and answer), with its
  /// recurrent states, in place of an older file. Not from a callback. Throws as engine/session.h
  /// says. `client` is that of the requests (those with a cache_scope are not found).
  SessionReport save_session(const std::string& path,
                             std::span<const std::int32_t> tokens,
                             const std::string& client = {});
  /// Puts a saved text into the prefix cache, as if it had been computed here for this client.
  SessionReport restore_session(const SessionFile& file, const std::string& client = {});
  /// Of all bytes of the weights, which sessions belong to: read, with all threads, when first
  /// asked for or when the first session is saved or restored. Whoever wants to save one and does
  /// not trust the checkpoint's files to stay as they are asks right after load().
  Hash128 weights_hash();
  /// Hits that wait to be verified (EngineOptions::verify_cache) will not be: counted as skipped.
  /// Not from a callback.
  void skip_checks();
  /// Drops the cache of a running request so that it is computed again (tests, selftest).
  bool preempt(RequestId id);

  /// One step of the batch. False: nothing to do. An error becomes the last event of the requests
  /// it concerns; the others go on. A callback that throws ends its own request. Throws
  /// std::bad_alloc where memory lacks even to tell one: nothing is lost, the next step tells it.
  bool step();
  /// Steps until nothing is left.
  void run() {
    while (step()) {
    }
  }

  /// Sees intermediate results of every step (models/layer_step.h); empty: none.
  void set_tap(Tap tap);

  const ModelConfig& config() const;
  const Tokenizer& tokenizer() const;
  /// nullptr if the checkpoint ships no template.
  const ChatTemplate* chat_template() const;
  /// Renders messages with the checkpoint's template and encodes them; special tokens written
  /// inside a message stay plain text. Throws kBadInput without a template.
  std::vector<TokenId> encode_chat(const std::vector<ChatMessage>& messages,
                                   bool add_generation_prompt = true) const;
  /// The same, and where other conversations are likely to depart from it; of a model without
  /// recurrent states, which needs no snapshots, no such positions.
  ChatPrompt encode_conversation(const std::vector<ChatMessage>& messages,
                                 bool add_generation_prompt = true) const;
  const EngineOptions& options() const;  // with every derived value filled in
  const MemoryPlan& memory() const;
  Backend& backend();
  EngineStats stats() const;
  /// Sampling defaults of the checkpoint over neutral ones.
  SamplingParams default_sampling() const;
  /// Short hash of what decides the bits: checkpoint, dtypes, KV dtype, kernel variants, block
  /// sizes.
  std::string numerics_id() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace heddle
