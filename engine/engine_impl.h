#pragma once
// What is behind Engine: internal to engine/.

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/batch_builder.h"
#include "engine/cache_check.h"
#include "engine/cache_storage.h"
#include "engine/deadlines.h"
#include "engine/engine.h"
#include "engine/grammar/mask_worker.h"
#include "engine/grammar/token_masker.h"
#include "engine/host_tier.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "engine/session_layout.h"
#include "engine/stop.h"
#include "models/decoder.h"
#include "scheduler/scheduler.h"

namespace heddle {

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
  std::int64_t progress = 0;              // tokens of the prompt that were reported as computed
  std::shared_ptr<MaskJob> grammar = {};  // of the request, and where the answer stands in it
  std::vector<std::int32_t> ends = {};    // that min_new_tokens excludes
  bool observed = false;                  // by request->on_logits
  bool faulty = false;                    // logits were not finite
  bool internal = false;                  // a check of our own: no caller knows of it
  bool verified = false;                  // if its prefix is cached, it is computed again
  bool doomed = false;  // ends with `doom` as its error as soon as there is memory to tell
  std::string doom = {};
};

struct Engine::Impl {
  Impl(EngineOptions o, Checkpoint checkpoint, std::unique_ptr<Backend> b);

  bool step();
  std::optional<BatchPlan> next_plan();
  RequestId submit(Request request, EventSink sink, bool internal = false);
  std::int64_t room_for_answer(const Request& request) const;
  std::vector<SampleRow> observe(const BatchPlan& plan, const TensorView& logits);
  void emit(const BatchPlan& plan, const std::vector<std::int32_t>& tokens);
  void emit_token(Live& live, std::int32_t token);
  void emit_progress(Live& live, const BatchPlan::Item& item);
  void emit_scores(Live& live,
                   const BatchPlan::Item& item,
                   std::int64_t first_row,
                   const TensorView& logits);
  void finish(Live& live, RequestEvent event);
  void compute(const BatchPlan& plan);
  void doom(SequenceId sequence, std::string_view what);
  bool end_doomed();
  void fail_plan(const BatchPlan& plan, std::string_view what);
  void forget(RequestId id, const std::vector<SequenceId>& choices);
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
  SampleRow sample_row(Live& entry,
                       const TensorView& logits,
                       std::int64_t index,
                       std::int64_t position);
  bool ends_answer(const Request& request, std::int32_t token) const;
  std::shared_ptr<MaskJob> grammar_job(const Request& request);
  void start_masks(const BatchPlan& plan);
  std::vector<SequenceId> late_masks() const;
  void wait_for_mask(const std::vector<SequenceId>& late);
  void exclude_tokens(Live& entry, SampleRow& row);
  bool advance_grammar(Live& entry, std::int32_t token);
  static std::string describe_not_finite(std::size_t position);
  std::string describe_no_token(const Live& entry, std::int32_t token) const;
  SessionEnds session_ends();
  Hash128 hash_weights();
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
  std::unique_ptr<WeightStore> weights;  // mapped until their hash is known
  std::optional<Hash128> weights_hash;
  HostTier host;
  std::unique_ptr<Backend> backend;
  Decoder decoder;
  CacheStorage cache;
  SessionLayout session_layout;
  Scheduler scheduler;
  BatchBuilder builder;
  Sampler sampler;
  std::unique_ptr<const TokenMasker> masker;  // made for the first grammar
  std::map<SequenceId, Live> live;
  MaskWorker mask_worker;  // ends before what it works for
  double forward_s = 0.0;  // of the last step, without what it waited for masks
  std::map<RequestId, std::vector<SequenceId>> choices_of;
  std::map<SequenceId, std::vector<float>>
      step_raw;  // raw rows of requests that asked for logprobs
  /// Requests to end when the step is over: callbacks run while the step still refers to them.
  std::vector<RequestId> cancelled;
  bool stepping = false;
  bool any_doomed = false;
  RequestId next_id = 1;
  Deadlines deadlines;
  CacheCheck checks;
  RequestId check_id = 0;  // of the check that runs, below 0; 0: none
  RequestId last_check_id = 0;
  double load_s = 0.0;
};

}  // namespace heddle
