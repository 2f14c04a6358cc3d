#pragma once
// A decoder without arithmetic for the scheduler's property test: memory whose every row says which
// tokens it was computed from, so that whatever a plan reads can be compared with what it should
// have read.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/batch_plan.h"
#include "scheduler/scheduler.h"

namespace heddle::test {

/// A property does not hold. `rule` names it ("I7 content"), the text says what was seen.
struct Violation : std::runtime_error {
  Violation(std::string name, const std::string& seen)
      : std::runtime_error(name + ": " + seen), rule(std::move(name)) {}
  std::string rule;
};

/// The tokens of a sequence, prompt and answer, and what each row of it must hold: a hash of the
/// scope and of all tokens up to it.
struct Text {
  std::string scope;
  std::uint64_t choice = 0;  // stands for the sampler's seed: one prompt has several answers
  std::vector<Token> tokens = {};
  std::vector<std::uint64_t> rows = {};

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
  std::uint64_t before(std::int64_t position) const;  // of tokens 0 .. position - 1
  void push(Token token);
  Token next(int vocab) const;  // what the decoder samples behind the last token
};

std::uint64_t mix(std::uint64_t hash, std::uint64_t value);
std::int64_t common_prefix(const Text& a, const Text& b);

/// Keys and values: a hash per row. Recurrent states: the hash of the tokens up to the last fold
/// and the tokens since, which alone can be taken back.
class FakeDecoder {
 public:
  /// `broken_copy`: the copy of this number (from 1) writes rubbish, to try the test itself; 0:
  /// none.
  FakeDecoder(const SchedulerOptions& options, std::int64_t broken_copy);

  void run_copies(std::span<const BatchPlan::Copy> copies);
  /// Checks that the rows before `item` are those of `text`, and its state too; writes its rows.
  void run_item(const BatchPlan::Item& item, const Text& text);
  /// What a failed or sick step leaves: rows and state that belong to no text, but for the rows
  /// before `from`.
  void spoil_item(const BatchPlan::Item& item, const Text* text, std::int64_t from);

  /// Rows 0 .. n - 1 of this table, and the state if `slot` is one, are those of `text`.
  void require_content(std::span<const BlockId> table,
                       std::int64_t n,
                       const Text& text,
                       std::string_view who) const;
  void require_state(const CachePlace& slot,
                     std::int64_t n,
                     const Text& text,
                     std::string_view who) const;
  /// Rows `begin` .. `end` - 1, which lie in one block from its begin on.
  void require_rows(const CachePlace& block,
                    std::int64_t begin,
                    std::int64_t end,
                    const Text& text,
                    std::string_view who) const;

  /// What comes from elsewhere: these rows of a text, the state after n of its tokens.
  void fill_rows(BlockId block, std::int64_t begin, std::int64_t end, const Text& text);
  void fill_state(BlockId slot, std::int64_t n, const Text& text);

 private:
  struct State {
    std::int64_t fold = 0;
    std::uint64_t folded = 0;
    std::vector<Token> tail;
    bool sound = false;
  };
  std::uint64_t& row(std::span<const BlockId> table, std::int64_t position);
  std::size_t block_at(const CachePlace& place) const;
  std::size_t state_at(const CachePlace& place) const;
  void advance(State& state, std::int64_t start, std::int64_t end, const Text& text) const;

  int block_tokens_;
  int state_block_tokens_;
  std::int64_t broken_copy_;
  std::int64_t n_copies_ = 0;
  std::uint64_t rubbish_ = 0x5eed;
  std::size_t n_blocks_;  // of the device; those of the host lie behind them
  std::size_t n_slots_;
  std::vector<std::uint64_t> rows_;
  std::vector<State> states_;
};

}  // namespace heddle::test
