#pragma once
// What the server asks of an engine: tests and load runs put another one in its place.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tools/serve/histogram.h"

namespace heddle::serve {

/// What does not change while a model is served; read by all threads.
struct ModelFacts {
  std::string id;                         // in answers
  std::vector<std::string> aliases = {};  // other names that requests may use
  const Tokenizer* tokenizer = nullptr;
  const ChatTemplate* chat_template = nullptr;  // nullptr: none
  std::int64_t context = 0;
  std::int64_t vocab = 0;
  std::int64_t max_token_bytes = 0;  // of the longest token; 0: not known
  bool recurrent = false;            // states are worth snapshots where conversations may depart
  SamplingParams sampling = {};      // where a request says nothing
  std::string numerics_id = {};
  std::string family = {};
  std::int64_t max_sequences = 1;  // that run at one time
  std::int64_t kv_tokens = 0;
  int block_tokens = 16;
  std::int64_t created = 0;                     // seconds since 1970
  std::uint64_t snapshot_bytes = 0;             // of one
  std::shared_ptr<Histogram> step_tokens = {};  // that steps have computed; the driver counts
};

std::shared_ptr<Histogram> make_step_tokens();

/// Owned and driven by one thread; facts() is for all. Events with prompt_computed have step_begun.
class Driver {
 public:
  virtual ~Driver() = default;
  virtual const ModelFacts& facts() const = 0;
  virtual RequestId submit(Request request, EventSink sink) = 0;
  virtual void cancel(RequestId id) = 0;
  /// False: there was nothing to do.
  virtual bool step() = 0;
  virtual EngineStats stats() const = 0;
  virtual SessionReport save_session(const std::string& path,
                                     std::span<const std::int32_t> tokens,
                                     const std::string& client) = 0;
  virtual SessionReport restore_session(const std::string& path, const std::string& client) = 0;
};

/// A loaded model. `facts`: id, aliases and created are the caller's, the rest is the engine's.
std::unique_ptr<Driver> make_driver(std::unique_ptr<Engine> engine, ModelFacts facts);

}  // namespace heddle::serve
