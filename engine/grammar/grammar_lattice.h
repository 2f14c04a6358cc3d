#pragma once
// A grammar's automaton made deterministic as far as texts need it. Internal to engine/grammar/.

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "engine/grammar/grammar_program.h"
#include "engine/grammar/intern_index.h"

namespace heddle {

/// A configuration is all that a grammar may be doing after a text: pairs of a state and a frame,
/// which says to whom the state's rule returns. A frame is a set of (state to go on in, frame of
/// its rule); calls of one rule at one place of the text share it, so that ambiguity adds up and
/// does not multiply. Both exist once for the same content and are numbers, so that "the same
/// configuration" is an equality and steps can be remembered. Used by one thread at a time.
class GrammarLattice {
 public:
  using ConfigId = std::uint32_t;
  using FrameId = std::uint32_t;
  static constexpr ConfigId kDead = 0;  // no text goes on from here

  /// The program must outlive it.
  explicit GrammarLattice(const GrammarProgram& program);

  ConfigId start();
  /// After one more byte. Throws kRuntime where a configuration grows beyond kMostItems.
  ConfigId step(ConfigId config, std::uint8_t byte) {
    const Config& c = configs_[config];
    if (c.first_next == kUnknown) return slow_step(config, byte);
    const ConfigId next = next_[c.first_next + program_.byte_class[byte]];
    return next != kUnknown ? next : slow_step(config, byte);
  }
  /// The text may end here.
  bool complete(ConfigId config) const { return configs_[config].complete; }
  /// It may go on.
  bool open(ConfigId config) const { return configs_[config].n_items > 0; }
  /// The most calls that are open in it.
  std::uint32_t depth(ConfigId config) const { return configs_[config].depth; }

  /// The same states with callers that nobody knows: what is true of it is true of every
  /// configuration with these states, as long as nothing escaped() to the callers.
  ConfigId local(ConfigId config);
  /// In what follows a local configuration: one of the unknown callers may have been returned to.
  bool escaped(ConfigId config) const { return configs_[config].escaped; }

  std::size_t memory_bytes() const;
  /// Forgets all but these, which get new numbers.
  void collect(std::span<ConfigId* const> roots);

  /// Items visited so far: the work done, for limits.
  std::uint64_t work() const { return work_; }

  static constexpr std::size_t kMostItems = 16384;

 private:
  static constexpr std::uint32_t kUnknown = ~0U;
  static constexpr FrameId kBottom = 0;            // of the text itself
  static constexpr FrameId kNobody = 1;            // the unknown callers of local configurations
  using Item = std::pair<std::uint32_t, FrameId>;  // state, frame
  using Link = std::pair<std::uint32_t, FrameId>;  // state to go on in, frame

  struct Frame {
    std::uint32_t first = 0, n = 0;  // of links_
    std::uint32_t depth = 0;
  };
  struct Config {
    std::uint32_t first_item = 0, n_items = 0;  // of items_; states with byte edges only
    std::uint32_t first_next = kUnknown;        // of next_
    std::uint32_t depth = 0;
    bool complete = false;
    bool escaped = false;
  };

  ConfigId slow_step(ConfigId config, std::uint8_t byte);
  /// Of the items in open_: follows what reads nothing, and gives the configuration.
  ConfigId close();
  void visit(std::uint32_t state, FrameId frame);
  void expand(const Item& item);
  void add_call(std::uint32_t rule, const Link& link);
  void take_return(FrameId frame);
  void enter_calls();
  FrameId intern_frame(std::vector<Link> links);
  ConfigId intern_config(bool complete, bool escaped);

  const GrammarProgram& program_;
  std::vector<Frame> frames_;
  std::vector<Link> links_;
  InternIndex frame_index_;
  std::vector<Config> configs_;
  std::vector<Item> items_;
  InternIndex config_index_;
  std::vector<ConfigId> next_;  // n_classes for each configuration that was left
  std::uint64_t work_ = 0;

  // Of close(), kept for their memory.
  std::vector<Item> open_;
  std::vector<Item> found_;
  StampedSet visited_;
  StampedSet returned_;
  /// Calls by the rank of their rule, not yet entered.
  std::vector<std::pair<std::uint32_t, std::pair<std::uint32_t, Link>>> calls_;
  bool complete_ = false;
  bool escaped_ = false;
};

}  // namespace heddle
