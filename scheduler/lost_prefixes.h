#pragma once
// What the prefix cache had to evict, for as long as there is room to remember it.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <span>
#include <vector>

#include "base/sip_hash.h"
#include "scheduler/batch_plan.h"

namespace heddle {

/// Runs of tokens that begin where a block of the tree does: of an evicted block its tokens, of an
/// evicted state those before it. `before` is the hash of all tokens before the run. Takes at most
/// `most_bytes`; the oldest are forgotten first. Tokens are compared, not hashes of them.
class LostPrefixes {
 public:
  static constexpr std::int64_t kBlock = -1;  // `group`; a state's is its position in blocks of
                                              // state_block_tokens

  explicit LostPrefixes(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  void add(const Hash128& before, std::int64_t group, std::span<const Token> tokens);
  /// As far as `tokens` agree with the run that agrees longest; -1: there is none.
  std::int64_t common(const Hash128& before,
                      std::int64_t group,
                      std::span<const Token> tokens) const;
  void clear();  // allocates nothing
  std::size_t size() const { return runs_.size(); }

  /// What a run takes, its places in the set and in the queue included.
  static constexpr std::size_t bytes_of(std::size_t n_tokens) {
    return 128 + n_tokens * sizeof(Token);
  }

 private:
  struct Run {
    Hash128 before;
    std::int64_t group = kBlock;
    std::vector<Token> tokens;
    bool operator<(const Run& other) const;
    bool beside(const Run& other) const { return before == other.before && group == other.group; }
  };
  using Runs = std::set<Run>;

  std::size_t most_bytes_;
  std::size_t bytes_ = 0;
  Runs runs_;  // those with most tokens in common lie side by side
  std::deque<Runs::const_iterator> order_;
};

}  // namespace heddle
