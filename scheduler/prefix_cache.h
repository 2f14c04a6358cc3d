#pragma once
// Which prefixes need not be computed again: a tree of KV blocks over token ids, with snapshots of
// recurrent states at exact positions.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/sip_hash.h"
#include "scheduler/batch_plan.h"
#include "scheduler/block_pool.h"
#include "scheduler/lost_prefixes.h"
#include "scheduler/node_table.h"
#include "scheduler/prefix_cache_options.h"
#include "scheduler/reuse.h"

namespace heddle {

using PrefixNode = std::int32_t;
inline constexpr PrefixNode kNoNode = -1;

/// Each node is a block: full ones have children; a node with fewer tokens is what a sequence ended
/// in. The tree is one owner of its blocks and slots (BlockPool::share), sequences that use them
/// are others; only what the tree alone owns is evicted, leaves first. Positions of a block that a
/// node does not claim may still be written by the sequence it came from. Scopes see nothing of
/// each other. Hits compare token ids, not hashes alone. Owned by the Scheduler; one thread.
///
/// With room in host memory, what is evicted moves there first, and goes when others that are worth
/// more need that room too. A node on the host has children on the host only. A hit copies from it;
/// it is back when the sequence that uses it has computed.
class PrefixCache {
 public:
  PrefixCache(const PrefixCacheOptions& options, BlockPool& blocks, BlockPool& states);

  struct Match {
    Reuse reuse;
    std::vector<PrefixNode> path;  // of the full blocks below reuse.n_cached
    CachePlace partial;  // if n_cached ends inside a block: where its tokens lie, to be copied
    CachePlace state;    // slot with the state at n_cached, to be copied; may hold later tokens of
                         // the same block of state_block_tokens
  };
  /// The longest reusable prefix of `tokens`, at most tokens.size() - 1; refreshes what it finds.
  /// What it names is safe until the next allocation from a pool.
  Match match(std::string_view scope, std::span<const Token> tokens);
  /// The text of the last match() could find more now: of tokens or states, or on the device what
  /// was on the host.
  bool has_more() const { return has_more_; }

  /// All that is there of a text, whether or not it could be reused.
  CachedPath path(std::string_view scope, std::span<const Token> tokens) const;

  PrefixNode root(std::string_view scope);
  /// The child of `parent` (root() or a full node) with `tokens`, which lie in `block` from its
  /// begin on. A new node shares the block; one that is there already keeps its own.
  PrefixNode insert(PrefixNode parent, std::span<const Token> tokens, BlockId block);
  /// The state after `position` tokens is in `slot`, whose reference becomes the tree's. `node`
  /// covers position - 1. False, and nothing taken: there is one already.
  bool add_snapshot(PrefixNode node, std::int64_t position, BlockId slot);

  CachePlace place(PrefixNode node) const;
  /// Keeps what lies on the host from being overwritten until it is released.
  void hold(const BatchPlan::Copy& copy);
  void release(const BatchPlan::Copy& copy);

  /// A sequence has released the block: to be told of each, else it may never be evicted.
  void released(BlockId block);

  /// Frees a block, or a slot: the one that is cheapest to compute again for what it holds, and was
  /// not used for long. False: there is none. With `moves` it may move to the host: the copy is
  /// appended, to be done before anything is written there.
  bool evict_block(std::vector<BatchPlan::Copy>* moves = nullptr);
  bool evict_snapshot(std::vector<BatchPlan::Copy>* moves = nullptr);
  /// What a sequence with these tokens has computed from position `from` on is not to be trusted,
  /// or of no use to others: takes out its snapshots, and its blocks as far as nothing goes on from
  /// them.
  void discard(std::string_view scope, std::span<const Token> tokens, std::int64_t from);
  void clear();       // all but what sequences compute with
  void clear_host();  // what was moved may not have arrived
  /// Forgets everything whatever state it is in; the pools are the caller's to reset. Allocates
  /// nothing.
  void reset();

  PrefixCacheStats stats() const;
  /// Adds 1 at each block and slot that the tree owns.
  void count_owned(std::vector<int>& blocks, std::vector<int>& states) const;
  void check() const;  // invariants; throws kRuntime

 private:
  using LeafKey = std::tuple<double, std::uint64_t, PrefixNode>;  // credit + worth, used
  using SnapshotKey = std::tuple<double, std::uint64_t, PrefixNode>;
  enum Tier : std::uint8_t { kDevice, kHost };
  static constexpr int kTiers = 2;
  struct Snapshot {
    std::int64_t position = 0;
    CachePlace slot;
    double credit = 0.0;     // eviction: what the last one evicted was worth, when this was used
    std::uint64_t used = 0;  // and when that was
    SnapshotKey key = {};    // in snapshots; of the worth that it had then
    Tier tier() const { return slot.on_host ? kHost : kDevice; }
  };
  struct Node {
    PrefixNode parent = kNoNode;
    PrefixNode first_child = kNoNode;
    PrefixNode next = kNoNode;  // siblings
    PrefixNode previous = kNoNode;
    std::int64_t begin = 0;  // position of its first token
    int n_tokens = 0;
    BlockId block = -1;  // one of both
    BlockId host = -1;
    int n_on_device = 0;  // children
    Hash128 hash;         // the last that lookups read
    int n_children = 0;
    bool wide = false;            // they are in wide_
    PrefixNode skip = kNoNode;    // above; none between has snapshots
    std::uint64_t skip_from = 0;  // void once skips_ is another
    double credit = 0.0;
    std::uint64_t used = 0;
    std::optional<LeafKey> key;  // in leaves; a leaf in use may have none
    std::string scope;           // of a root
    std::vector<Snapshot> snapshots;
    std::int64_t end() const { return begin + n_tokens; }
    Tier tier() const { return host >= 0 ? kHost : kDevice; }
  };
  /// Of nodes that are one's children: those that agree longest with a text lie side by side,
  /// around its own place. None is the begin of another.
  struct ByTokens {
    using is_transparent = void;
    const PrefixCache* cache = nullptr;
    bool operator()(PrefixNode a, PrefixNode b) const;
    bool operator()(PrefixNode a, std::span<const Token> b) const;
    bool operator()(std::span<const Token> a, PrefixNode b) const;
  };
  using InOrder = std::set<PrefixNode, ByTokens>;
  struct Children {
    InOrder all;
    InOrder with_states;
  };
  /// What can be evicted from a tier, the first before the others: nodes without children in it,
  /// and states.
  struct Evictable {
    std::set<LeafKey> leaves;
    std::set<SnapshotKey> snapshots;
    double block_credit = 0.0;  // rises to what was evicted: what is not used ages
    double state_credit = 0.0;
  };

  const Node& at(PrefixNode node) const { return nodes_[static_cast<std::size_t>(node)]; }
  Node& at(PrefixNode node) { return nodes_[static_cast<std::size_t>(node)]; }
  /// No sequence computes with its block.
  bool idle(PrefixNode node) const {
    return at(node).host >= 0 || blocks_.references(at(node).block) == 1;
  }
  bool is_leaf(PrefixNode node) const;
  bool is_full(PrefixNode node) const { return at(node).n_tokens == options_.block_tokens; }
  std::span<const Token> tokens_of(PrefixNode node) const {
    const auto block = static_cast<std::size_t>(options_.block_tokens);
    return std::span(tokens_).subspan(static_cast<std::size_t>(node) * block,
                                      static_cast<std::size_t>(at(node).n_tokens));
  }
  /// For full_.
  auto hashes() const {
    return [this](PrefixNode node) -> const Hash128& { return at(node).hash; };
  }
  Hash128 hash_of(const Hash128& parent, std::span<const Token> tokens) const;
  Hash128 root_hash(std::string_view scope) const;
  PrefixNode full_child(PrefixNode parent, std::span<const Token> tokens, Hash128 hash) const;
  std::int64_t common(PrefixNode node, std::span<const Token> tokens) const;
  // prefix_children.cpp
  void link(PrefixNode node, PrefixNode parent);
  void detach(PrefixNode node);
  void make_wide(PrefixNode parent);
  void note_states(PrefixNode node);
  PrefixNode longest_child(PrefixNode parent, std::span<const Token> tokens) const;
  PrefixNode child_from(PrefixNode parent, std::span<const Token> tokens) const;
  PrefixNode child_within(PrefixNode parent,
                          std::span<const Token> tokens,
                          PrefixNode except = kNoNode) const;
  template <typename Visit>
  void with_states(PrefixNode parent, std::span<const Token> tokens, const Visit& visit) const;
  void check_children(PrefixNode parent) const;
  std::int64_t served(const Snapshot& snapshot, std::int64_t most) const;
  ReuseMiss why(std::string_view scope,
                std::span<const Token> tokens,
                const Reuse& reuse,
                std::span<const PrefixNode> path) const;
  bool was_evicted(const Hash128& before,
                   std::int64_t begin,
                   std::span<const Token> tokens,
                   const Reuse& reuse) const;
  void remember_lost(PrefixNode node, const Snapshot& snapshot);
  double worth(PrefixNode node);
  double worth(PrefixNode node, const Snapshot& snapshot);
  void list(PrefixNode node);
  void list_if_idle(PrefixNode node);
  void unlist(PrefixNode node);
  void list(PrefixNode node, Snapshot& snapshot);
  void drop_snapshot(PrefixNode node, std::size_t index);
  void drop_snapshots(PrefixNode node, std::int64_t from, std::int64_t to);
  void refresh(PrefixNode node);
  void refresh_states(PrefixNode node);
  PrefixNode skip(PrefixNode node) const;
  PrefixNode states_above(PrefixNode node);
  void shorten_skips(PrefixNode node);
  void absorb(PrefixNode node);
  PrefixNode make(PrefixNode parent, std::span<const Token> tokens, BlockId block);
  void set_block(PrefixNode node, BlockId block);
  void leave_device(PrefixNode node);
  void erase(PrefixNode node);
  void lose(PrefixNode node);
  bool move_block(PrefixNode node, std::vector<BatchPlan::Copy>& moves);
  Snapshot& find(const SnapshotKey& key);
  void lose_snapshot(const SnapshotKey& key);
  bool move_snapshot(const SnapshotKey& key, std::vector<BatchPlan::Copy>& moves);
  bool evict_snapshot(Tier tier, double below, std::vector<BatchPlan::Copy>* moves);
  void release_slot(const CachePlace& slot);
  bool on_last_path(PrefixNode node) const;
  void check_node(PrefixNode node) const;
  void check_skips() const;

  PrefixCacheOptions options_;
  BlockPool& blocks_;
  BlockPool& states_;
  std::vector<Node> nodes_;
  std::vector<Token> tokens_;  // block_tokens for each node
  std::vector<PrefixNode> unused_;
  std::map<std::string, PrefixNode, std::less<>> roots_;
  NodeTable full_;
  std::array<Evictable, kTiers> evictable_;
  BlockPool host_blocks_;
  BlockPool host_slots_;
  std::vector<PrefixNode> node_of_;                // of each block
  std::unordered_map<PrefixNode, Children> wide_;  // of nodes that have many
  std::vector<PrefixNode> last_path_;  // of the last match: the root, and full nodes that agree
  std::int64_t last_cached_ = 0;
  bool has_more_ = true;
  LostPrefixes lost_;
  std::uint64_t skips_ = 1;  // counts how often all skips became void
  std::uint64_t clock_ = 0;
  PrefixCacheStats stats_;
};

}  // namespace heddle
