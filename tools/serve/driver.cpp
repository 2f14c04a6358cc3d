#include "tools/serve/driver.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"

namespace heddle::serve {
namespace {

constexpr double kStepTokens[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

class EngineDriver : public Driver {
 public:
  EngineDriver(std::unique_ptr<Engine> engine, ModelFacts facts)
      : engine_(std::move(engine)), facts_(std::move(facts)) {
    const EngineOptions& options = engine_->options();
    facts_.tokenizer = &engine_->tokenizer();
    facts_.chat_template = engine_->chat_template();
    facts_.context = options.context;
    facts_.vocab = engine_->config().vocab;
    for (TokenId id = 0; id < facts_.tokenizer->vocab_size(); ++id) {
      facts_.max_token_bytes =
          std::max(facts_.max_token_bytes,
                   static_cast<std::int64_t>(facts_.tokenizer->token_bytes(id, true).size()));
    }
    facts_.recurrent = options.prefix_cache && engine_->stats().state_slots > 0;
    facts_.sampling = engine_->default_sampling();
    // What the API's clients expect where the checkpoint says nothing.
    if (!engine_->config().generation.temperature) facts_.sampling.temperature = 1.0F;
    facts_.numerics_id = engine_->numerics_id();
    facts_.family = engine_->config().family;
    facts_.max_sequences = options.max_sequences;
    facts_.kv_tokens = options.kv_tokens;
    facts_.block_tokens = options.block_tokens;
    facts_.snapshot_bytes = engine_->memory().state_bytes_per_sequence;
    facts_.step_tokens = make_step_tokens();
    n_computed_ = engine_->stats().computed_tokens;
  }

  const ModelFacts& facts() const override { return facts_; }
  RequestId submit(Request request, EventSink sink) override {
    return engine_->submit(std::move(request),
                           [this, sink = std::move(sink)](const RequestEvent& event) {
                             if (event.prompt_computed < 0) return sink(event);
                             RequestEvent timed = event;
                             timed.step_begun = step_begun_;
                             sink(timed);
                           });
  }
  void cancel(RequestId id) override { engine_->cancel(id); }
  bool step() override {
    step_begun_ = std::chrono::steady_clock::now();
    const bool stepped = engine_->step();
    const std::int64_t n_computed = engine_->stats().computed_tokens;
    if (n_computed > n_computed_) {
      facts_.step_tokens->observe(static_cast<double>(n_computed - n_computed_));
    }
    n_computed_ = n_computed;
    return stepped;
  }
  EngineStats stats() const override { return engine_->stats(); }
  SessionReport save_session(const std::string& path,
                             std::span<const std::int32_t> tokens,
                             const std::string& client) override {
    return engine_->save_session(path, tokens, client);
  }
  SessionReport restore_session(const std::string& path, const std::string& client) override {
    const std::optional<SessionFile> file = SessionFile::open(path);
    if (!file) throw bad_input("session: there is no file of that name");
    return engine_->restore_session(*file, client);
  }

 private:
  std::unique_ptr<Engine> engine_;
  ModelFacts facts_;
  std::chrono::steady_clock::time_point step_begun_ = {};
  std::int64_t n_computed_ = 0;
};

}  // namespace

std::shared_ptr<Histogram> make_step_tokens() {
  return std::make_shared<Histogram>(kStepTokens);
}

std::unique_ptr<Driver> make_driver(std::unique_ptr<Engine> engine, ModelFacts facts) {
  return std::make_unique<EngineDriver>(std::move(engine), std::move(facts));
}

}  // namespace heddle::serve
