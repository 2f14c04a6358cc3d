#pragma once
// An engine that computes nothing, for tests of the server and for load runs: every running request
// gets a token a tick, up to so many at a time; the rest waits in order.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/stop.h"
#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/tokenizer.h"
#include "tools/serve/driver.h"

namespace heddle::serve {

/// One token a byte (id = byte), and two control tokens: 256 begins, 257 ends a text. Neither is
/// put around texts.
class ByteTokenizer : public Tokenizer {
 public:
  static constexpr TokenId kBegin = 256;
  static constexpr TokenId kEnd = 257;

  ByteTokenizer();
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string token_bytes(TokenId id, bool special) const override;
  std::int32_t vocab_size() const override { return 258; }
  bool is_control(TokenId id) const override { return id >= kBegin; }
  std::optional<TokenId> find(std::string_view token) const override;
  const TokenizerFacts& facts() const override { return facts_; }
  std::string describe() const override { return "bytes, 258 tokens"; }

 private:
  TokenizerFacts facts_;
};

struct FakeDriverOptions {
  std::string id = "fake";
  std::vector<std::string> aliases = {};
  std::int64_t max_running = 16;   // sequences (choices) at a time
  double tokens_per_second = 0.0;  // of each sequence; 0: a token a step
  std::int64_t context = 32768;
  std::int64_t natural_length = 0;  // > 0: answers end by themselves after so many tokens
  bool stamps =
      false;  // a token's text is the time that it was due, in us of steady_clock, and " "
  std::string text = {};  // answers are this, a token a byte, if it is not empty
  std::function<void()> before_step =
      {};  // on the engine's thread; what it throws kills the engine
};

/// Answers are letters that follow from the prompt, the choice and the place alone.
class FakeDriver : public Driver {
 public:
  explicit FakeDriver(FakeDriverOptions options);

  const ModelFacts& facts() const override { return facts_; }
  RequestId submit(Request request, EventSink sink) override;
  void cancel(RequestId id) override;
  /// Waits for the tick, a few milliseconds at most: orders may come between.
  bool step() override;
  EngineStats stats() const override;
  SessionReport save_session(const std::string& path,
                             std::span<const std::int32_t> tokens,
                             const std::string& client) override;
  SessionReport restore_session(const std::string& path, const std::string& client) override;

  /// The answer to a prompt, for tests.
  static std::string answer(std::span<const std::int32_t> prompt,
                            std::uint32_t choice,
                            std::int64_t n_tokens);

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Request request;
    EventSink sink;
    std::uint64_t key = 0;    // of its text
    std::int64_t n_done = 0;  // tokens of each choice
    std::int64_t n_wanted = 0;
    StopMatcher stop = StopMatcher({});  // of FakeDriverOptions::text
    FinishReason finish = FinishReason::kLength;
  };
  using Entries = std::map<RequestId, Entry>;  // in order of submission

  bool wait_for_tick();
  void admit();
  void begin(RequestId id, Entry& entry);
  bool advance(RequestId id, Entry& entry);  // true: it has ended
  std::int64_t blocks_of(const Entry& entry) const;

  FakeDriverOptions options_;
  ByteTokenizer tokenizer_;
  ChatTemplate template_;
  ModelFacts facts_;
  Entries waiting_;
  Entries running_;
  std::int64_t n_running_ = 0;  // choices
  std::int64_t n_blocks_ = 0;   // of the running
  RequestId next_ = 1;
  Clock::time_point due_ = {};
  EngineStats counts_;
};

}  // namespace heddle::serve
