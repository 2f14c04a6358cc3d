#pragma once
// What is known of one grammar over one vocabulary. Internal to engine/grammar/.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/grammar/grammar_lattice.h"
#include "engine/grammar/token_mask.h"
#include "engine/grammar/token_trie.h"

namespace heddle {

/// A lattice, the masks of its configurations, and the places of those who use them. When it has
/// grown to its limit it forgets all but where its users stand. Threads may share it: other calls
/// do not wait until a mask is done. Throws kRuntime where what must be kept has no room, or a mask
/// takes more than kMostWork.
class GrammarCache {
 public:
  using ConfigId = GrammarLattice::ConfigId;
  /// Items visited for one mask: about a tenth of a second.
  static constexpr std::uint64_t kMostWork = 4'000'000;

  /// The grammar's program and the trie must outlive it.
  GrammarCache(const GrammarProgram& program, const TokenTrie& trie, std::size_t most_bytes);

  struct Place {
    bool complete = false;
    bool open = false;
  };
  /// A place at the begin of the text; its number is the caller's until leave().
  std::uint32_t enter();
  void leave(std::uint32_t slot);
  Place place(std::uint32_t slot) const;
  /// False: the text cannot go on so, and the place is as before.
  bool advance(std::uint32_t slot, std::string_view text);
  /// The tokens whose texts can follow.
  void fill(std::uint32_t slot, TokenMask& mask);

 private:
  /// Of a local configuration: what holds whoever called.
  struct LocalMask {
    TokenMask certain;
    std::vector<std::uint32_t> escapes = {};  // nodes: below them it depends on the callers
    std::uint32_t depth = 0;                  // of calls, on the way
  };
  /// A call that makes steps. Configurations change their numbers where room is made and where it
  /// gives way to others: those of `path` are kept, and no other may be held there.
  struct Walk {
    explicit Walk(GrammarCache& owner);
    ~Walk();
    Walk(const Walk&) = delete;
    Walk& operator=(const Walk&) = delete;

    GrammarCache& cache;
    std::unique_lock<std::mutex> lock;
    std::vector<ConfigId> path = {};  // by depth
    std::uint64_t work = 0;
    std::uint32_t n_nodes = 0;
  };
  static constexpr std::uint32_t kPauseEvery = 64;  // nodes

  std::unique_lock<std::mutex> locked() const;
  void begin_path(Walk& walk, ConfigId from) const;
  ConfigId step(Walk& walk, ConfigId from, std::uint8_t byte);
  LocalMask local_mask(Walk& walk, std::uint32_t slot);
  void walk_local(Walk& walk, LocalMask& mask);
  void walk_below(Walk& walk, std::uint32_t node, std::uint32_t end, TokenMask& mask);
  void walk_escapes(Walk& walk, const LocalMask& local, TokenMask& mask);
  void pause(Walk& walk);
  void make_room();
  std::size_t memory_bytes() const;
  void allow(const TokenTrie::Node& node, TokenMask& mask) const;

  mutable std::mutex mutex_;
  mutable std::atomic<int> n_waiting_ = 0;  // for mutex_
  GrammarLattice lattice_;
  const TokenTrie& trie_;
  std::size_t most_bytes_;
  std::uint32_t most_depth_;  // calls that no rule refuses
  std::vector<ConfigId> slots_;
  std::vector<std::uint8_t> used_;  // of slots_
  std::unordered_map<ConfigId, TokenMask> masks_;
  std::unordered_map<ConfigId, LocalMask> local_masks_;
  std::size_t mask_bytes_ = 0;
  std::vector<Walk*> walks_;
};

}  // namespace heddle
