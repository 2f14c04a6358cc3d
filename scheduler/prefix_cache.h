#pragma once
// Which prefixes need not be computed again: a tree of KV blocks over token ids, with snapshots of
// recurrent states at exact positions.

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/sip_hash.h"
#include "scheduler/batch_plan.h"
#include "scheduler/block_pool.h"

namespace heddle {

/// Why a prompt was not reused further than it was.
enum class ReuseMiss : std::uint8_t {
  kNone,        // all of it was, but the last token, which gives the first logits
  kNoPrefix,    // nothing that was computed begins like it
  kDiverged,    // what was computed goes on otherwise from Reuse::n_known on, or ends there
  kNoSnapshot,  // keys and values are there up to n_known, a state only up to n_cached
  kEvicted,     // it was there and had to make room
  kScope,       // nothing was computed in this scope yet
  kTooShort,    // one token
  kDisabled,    // the cache is off, or the request wants logits of every token
};
std::string_view name(ReuseMiss miss);  // "none", "no_prefix", "diverged_at", "no_snapshot", ...

/// What a prompt finds. `n_cached` tokens need not be computed; `n_known` (at least n_cached) were
/// computed before: those between are replayed.
struct Reuse {
  std::int64_t n_cached = 0;
  std::int64_t n_known = 0;
  ReuseMiss miss = ReuseMiss::kNone;
  std::int64_t n_replayed(std::int64_t n_prompt) const {
    return std::max<std::int64_t>(0, std::min(n_known, n_prompt - 1) - n_cached);
  }
};

using PrefixNode = std::int32_t;
inline constexpr PrefixNode kNoNode = -1;

struct PrefixCacheOptions {
  int block_tokens = 16;
  bool states = false;         // the model has recurrent states
  int state_block_tokens = 1;  // a state of n tokens serves any position from n / this * this to n
  std::array<std::uint64_t, 2> key = {};  // of the hashes; random in production
  std::size_t remembered = 1 << 16;       // evicted blocks that are known as such
};

struct PrefixCacheStats {
  std::int64_t blocks = 0;
  std::int64_t snapshots = 0;
  std::int64_t evicted_blocks = 0;
  std::int64_t evicted_snapshots = 0;
};

/// Each node is a block: full ones have children; a node with fewer tokens is what a sequence ended
/// in. The tree is one owner of its blocks and slots (BlockPool::share), sequences that use them
/// are others; only what the tree alone owns is evicted, leaves first. Positions of a block that a
/// node does not claim may still be written by the sequence it came from. Scopes see nothing of
/// each other. Hits compare token ids, not hashes alone. Owned by the Scheduler; one thread.
class PrefixCache {
 public:
  PrefixCache(const PrefixCacheOptions& options, BlockPool& blocks, BlockPool& states);

  struct Match {
    Reuse reuse;
    std::vector<PrefixNode> path;  // of the full blocks below reuse.n_cached
    BlockId partial = -1;  // if n_cached ends inside a block: where its tokens lie, to be copied
    BlockId state = -1;    // slot with the state at n_cached, to be copied; may hold later tokens
                           // of the same block of state_block_tokens
  };
  /// The longest reusable prefix of `tokens`, at most tokens.size() - 1; refreshes what it finds.
  /// What it names is safe until the next allocation from a pool.
  Match match(std::string_view scope, std::span<const Token> tokens);

  PrefixNode root(std::string_view scope);
  /// The child of `parent` (root() or a full node) with `tokens`, which lie in `block` from its
  /// begin on. A new node shares the block; one that is there already keeps its own.
  PrefixNode insert(PrefixNode parent, std::span<const Token> tokens, BlockId block);
  /// The state after `position` tokens is in `slot`, whose reference becomes the tree's. `node`
  /// covers position - 1. False, and nothing taken: there is one already.
  bool add_snapshot(PrefixNode node, std::int64_t position, BlockId slot);

  BlockId block(PrefixNode node) const { return at(node).block; }

  /// A sequence has released the block: to be told of each, else it may never be evicted.
  void released(BlockId block);

  /// Frees a block, or a slot: the one that is cheapest to compute again for what it holds, and was
  /// not used for long. False: there is none.
  bool evict_block();
  bool evict_snapshot();
  /// What a sequence with these tokens has computed from position `from` on is not to be trusted:
  /// takes out its snapshots, and its blocks as far as nothing goes on from them.
  void discard(std::string_view scope, std::span<const Token> tokens, std::int64_t from);
  void clear();  // all but what sequences compute with

  PrefixCacheStats stats() const;
  /// Adds 1 at each block and slot that the tree owns.
  void count_owned(std::vector<int>& blocks, std::vector<int>& states) const;
  void check() const;  // invariants; throws kRuntime

 private:
  using LeafKey = std::tuple<double, std::uint64_t, PrefixNode>;  // credit + worth, used
  using SnapshotKey = std::tuple<double, std::uint64_t, PrefixNode, BlockId>;
  struct Snapshot {
    std::int64_t position = 0;
    BlockId slot = -1;
    double credit = 0.0;     // eviction: what the last one evicted was worth, when this was used
    std::uint64_t used = 0;  // and when that was
    SnapshotKey key = {};    // in snapshots_; of the worth that it had then
  };
  struct Node {
    PrefixNode parent = kNoNode;
    PrefixNode first_child = kNoNode;
    PrefixNode next = kNoNode;  // siblings
    PrefixNode previous = kNoNode;
    std::int64_t begin = 0;  // position of its first token
    std::vector<Token> tokens;
    BlockId block = -1;
    Hash128 hash;
    double credit = 0.0;
    std::uint64_t used = 0;
    std::optional<LeafKey> key;  // in leaves_; a leaf in use may have none
    std::string scope;           // of a root
    bool lost_snapshot = false;  // one was evicted
    std::vector<Snapshot> snapshots;
    std::int64_t end() const { return begin + static_cast<std::int64_t>(tokens.size()); }
  };

  const Node& at(PrefixNode node) const { return nodes_[static_cast<std::size_t>(node)]; }
  Node& at(PrefixNode node) { return nodes_[static_cast<std::size_t>(node)]; }
  /// No sequence computes with its block.
  bool idle(PrefixNode node) const { return blocks_.references(at(node).block) == 1; }
  Hash128 hash_of(const Hash128& parent, std::span<const Token> tokens) const;
  PrefixNode full_child(PrefixNode parent, std::span<const Token> tokens) const;
  std::int64_t common(PrefixNode node, std::span<const Token> tokens) const;
  bool has_snapshot(PrefixNode node, std::int64_t position) const;
  std::int64_t served(const Snapshot& snapshot, std::int64_t most) const;
  ReuseMiss why(std::string_view scope,
                std::span<const Token> tokens,
                const Reuse& reuse,
                std::span<const PrefixNode> path,
                PrefixNode tail) const;
  double worth(PrefixNode node) const;
  double worth(PrefixNode node, const Snapshot& snapshot) const;
  void list(PrefixNode node);
  void unlist(PrefixNode node);
  void list(PrefixNode node, Snapshot& snapshot);
  void drop_snapshot(PrefixNode node, std::size_t index);
  void refresh(PrefixNode node);
  void absorb(PrefixNode node);
  PrefixNode make(PrefixNode parent, std::span<const Token> tokens, BlockId block);
  void erase(PrefixNode node);

  PrefixCacheOptions options_;
  BlockPool& blocks_;
  BlockPool& states_;
  std::vector<Node> nodes_;
  std::vector<PrefixNode> unused_;
  std::map<std::string, PrefixNode, std::less<>> roots_;
  std::unordered_map<Hash128, PrefixNode, Hash128Hasher> full_;
  std::set<LeafKey> leaves_;  // the first is evicted first
  std::set<SnapshotKey> snapshots_;
  std::vector<PrefixNode> node_of_;  // of each block
  std::unordered_set<Hash128, Hash128Hasher> evicted_;
  std::deque<Hash128> evicted_order_;
  double block_credit_ = 0.0;  // rises to what was evicted: what is not used ages
  double state_credit_ = 0.0;
  std::uint64_t clock_ = 0;
  PrefixCacheStats stats_;
};

}  // namespace heddle
