#pragma once
// EngineOptions::verify_cache: some of the answers that began behind a cached prefix are computed
// again from their first token, and the logits compared.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine_stats.h"
#include "engine/request.h"

namespace heddle {

/// What the kept rows, tokens and hashes of all checks may take; the memory plan counts it.
inline constexpr std::uint64_t kCacheCheckBytes = std::uint64_t{16} << 20U;

struct CacheCheckOptions {
  double fraction = 0.0;   // of the hits, [0, 1]
  std::uint64_t seed = 0;  // of the draw
  /// Largest difference of a logit that is no mismatch, relative to the row's largest: 0 where
  /// results are equal bit for bit.
  double allowed = 0.0;
  std::uint64_t memory = kCacheCheckBytes;
};

/// Keeps of each chosen hit a hash of every row of logits and, as long as there is room, the rows:
/// a mismatch is then told with its size. Who computes again is the engine.
class CacheCheck {
 public:
  explicit CacheCheck(const CacheCheckOptions& options) : options_(options) {}

  /// The draw: depends on the prompt and the seed alone.
  bool chooses(std::span<const std::int32_t> prompt) const;
  /// Row `index` of the answer of a chosen hit: 0 is that of the prompt's last token.
  void record(RequestId id, std::int64_t index, std::span<const float> logits);
  /// The hit has ended: `tokens` are its prompt and what it generated.
  void end(RequestId id,
           std::span<const std::int32_t> tokens,
           std::int64_t n_prompt,
           std::int64_t cached_tokens);
  void forget(RequestId id);  // it failed: nothing to compare

  bool waiting() const { return !waiting_.empty(); }
  /// The oldest that waits is computed now: a request for all its rows.
  Request begin();
  bool computing() const { return computing_; }
  /// A row of the cold run.
  void compare(std::int64_t position, std::span<const float> logits);
  /// The cold run is over. What differs, for a log line; nullopt: nothing does.
  std::optional<std::string> complete();
  void put_back();                    // the cold run was interrupted: once more, later
  void fail(const std::string& why);  // it will not be done; logs
  void skip_all();                    // none of those that wait will be
  CacheCheckStats stats() const;

 private:
  struct Hit {
    RequestId id = 0;
    std::vector<std::int32_t> tokens = {};  // prompt, and generated ones but the last
    std::int64_t n_prompt = 0;
    std::int64_t cached_tokens = 0;
    std::vector<std::uint64_t> hashes = {};     // of each row
    std::vector<std::vector<float>> rows = {};  // the first ones
    bool incomplete = false;                    // there was no room for all hashes
  };
  struct Difference {
    std::int64_t rows = 0;   // compared
    std::int64_t wrong = 0;  // of these
    std::int64_t first = 0;  // position of the first that is wrong
    std::optional<double> largest = {};
  };
  void release(const Hit& hit);
  static std::uint64_t bookkeeping(const Hit& hit);
  bool wrong(const Hit& hit, std::size_t index, std::span<const float> logits);

  CacheCheckOptions options_;
  std::map<RequestId, Hit> running_;
  std::deque<Hit> waiting_;  // the first is computed, if `computing_`
  bool computing_ = false;
  Difference difference_;
  std::uint64_t kept_bytes_ = 0;  // of rows
  std::uint64_t used_bytes_ = 0;  // of tokens and hashes
  CacheCheckStats stats_;
};

/// FNV-1a over the bits of a row.
std::uint64_t hash_logits(std::span<const float> logits);

}  // namespace heddle
