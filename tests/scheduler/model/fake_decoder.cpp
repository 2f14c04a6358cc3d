#include "tests/scheduler/model/fake_decoder.h"

#include <fmt/format.h>

#include <algorithm>

namespace heddle::test {
namespace {

std::uint64_t root(std::string_view scope) {
  std::uint64_t hash = 77;
  for (const char c : scope) hash = mix(hash, static_cast<std::uint8_t>(c) + 1000U);
  return hash;
}

/// The id, if memory has such a place.
std::size_t checked(BlockId id, std::size_t n, std::string_view what) {
  if (id < 0 || static_cast<std::size_t>(id) >= n) {
    throw Violation("plan ids", fmt::format("{} {}, allowed: 0 .. {}", what, id, n - 1));
  }
  return static_cast<std::size_t>(id);
}

}  // namespace

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ (value + 0x9e3779b97f4a7c15U)) * 0xff51afd7ed558ccdU;
  return hash ^ hash >> 32;
}

std::uint64_t Text::before(std::int64_t position) const {
  return position == 0 ? root(scope) : rows[static_cast<std::size_t>(position - 1)];
}

void Text::push(Token token) {
  rows.push_back(mix(before(size()), static_cast<std::uint64_t>(token)));
  tokens.push_back(token);
}

Token Text::next(int vocab) const {
  return static_cast<Token>(mix(before(size()), choice) % static_cast<std::uint64_t>(vocab));
}

std::int64_t common_prefix(const Text& a, const Text& b) {
  const auto ends = std::ranges::mismatch(a.tokens, b.tokens);
  return ends.in1 - a.tokens.begin();
}

FakeDecoder::FakeDecoder(const SchedulerOptions& options, std::int64_t broken_copy)
    : block_tokens_(options.block_tokens),
      state_block_tokens_(options.state_block_tokens),
      broken_copy_(broken_copy),
      n_blocks_(static_cast<std::size_t>(options.n_blocks)),
      n_slots_(static_cast<std::size_t>(options.n_state_slots)),
      rows_((n_blocks_ + static_cast<std::size_t>(options.n_host_blocks)) *
            static_cast<std::size_t>(options.block_tokens)),
      states_(n_slots_ + static_cast<std::size_t>(options.n_host_slots)) {}

std::size_t FakeDecoder::block_at(const CachePlace& place) const {
  const std::size_t all = rows_.size() / static_cast<std::size_t>(block_tokens_);
  return place.on_host ? n_blocks_ + checked(place.id, all - n_blocks_, "block of the host")
                       : checked(place.id, n_blocks_, "block");
}

std::size_t FakeDecoder::state_at(const CachePlace& place) const {
  return place.on_host ? n_slots_ + checked(place.id, states_.size() - n_slots_, "slot of the host")
                       : checked(place.id, n_slots_, "state slot");
}

std::uint64_t& FakeDecoder::row(std::span<const BlockId> table, std::int64_t position) {
  const auto width = static_cast<std::size_t>(block_tokens_);
  const auto at = static_cast<std::size_t>(position);
  if (at / width >= table.size()) {
    throw Violation("plan ids",
                    fmt::format("a table of {} blocks has no row {}", table.size(), at));
  }
  return rows_[block_at({.id = table[at / width]}) * width + at % width];
}

void FakeDecoder::run_copies(std::span<const BatchPlan::Copy> copies) {
  const auto width = static_cast<std::size_t>(block_tokens_);
  for (const BatchPlan::Copy& copy : copies) {
    if (copy.from.on_host && copy.to.on_host) throw Violation("plan ids", "from host to host");
    if (copy.what == BatchPlan::Copy::What::kBlock) {
      const std::size_t to = block_at(copy.to) * width;
      if (copy.from != copy.to) {
        std::copy_n(rows_.data() + block_at(copy.from) * width, width, rows_.data() + to);
      }
      if (++n_copies_ == broken_copy_) rows_[to] = ++rubbish_;
    } else {
      State& to = states_[state_at(copy.to)];
      to = State(states_[state_at(copy.from)]);
      if (++n_copies_ == broken_copy_) to.folded = ++rubbish_;
    }
  }
}

/// Of tokens `start` .. `end` - 1.
void FakeDecoder::advance(State& state,
                          std::int64_t start,
                          std::int64_t end,
                          const Text& text) const {
  if (start == 0) state = {.folded = text.before(0), .tail = {}, .sound = true};
  state.tail.resize(static_cast<std::size_t>(start - state.fold));
  for (std::int64_t i = start; i < end; ++i) {
    state.tail.push_back(text.tokens[static_cast<std::size_t>(i)]);
    if (state.tail.size() < static_cast<std::size_t>(state_block_tokens_)) continue;
    for (const Token t : state.tail)
      state.folded = mix(state.folded, static_cast<std::uint64_t>(t));
    state.fold += state_block_tokens_;
    state.tail.clear();
  }
}

void FakeDecoder::run_item(const BatchPlan::Item& item, const Text& text) {
  const std::string who =
      fmt::format("sequence {} before its item at {}", item.sequence, item.start);
  require_content(item.block_table, item.start, text, who);
  for (std::size_t i = 0; i < item.tokens.size(); ++i) {
    const std::int64_t position = item.start + static_cast<std::int64_t>(i);
    row(item.block_table, position) = text.rows[static_cast<std::size_t>(position)];
  }
  if (states_.empty()) return;
  State& state = states_[state_at({.id = item.state_slot})];
  if (item.start > 0) require_state({.id = item.state_slot}, item.start, text, who);
  advance(state, item.start, item.end(), text);
}

void FakeDecoder::spoil_item(const BatchPlan::Item& item, const Text* text, std::int64_t from) {
  for (std::size_t i = 0; i < item.tokens.size(); ++i) {
    const std::int64_t position = item.start + static_cast<std::int64_t>(i);
    const bool sound = text != nullptr && position < from;
    row(item.block_table, position) =
        sound ? text->rows[static_cast<std::size_t>(position)] : ++rubbish_;
  }
  if (states_.empty()) return;
  State& state = states_[state_at({.id = item.state_slot})];
  state = {.fold = item.start, .folded = ++rubbish_, .tail = {}, .sound = false};
}

void FakeDecoder::require_content(std::span<const BlockId> table,
                                  std::int64_t n,
                                  const Text& text,
                                  std::string_view who) const {
  const auto width = static_cast<std::size_t>(block_tokens_);
  const auto rows = static_cast<std::size_t>(n);
  if (table.size() * width < rows) {
    throw Violation("plan ids", fmt::format("{}: {} blocks for {} rows", who, table.size(), n));
  }
  for (std::int64_t at = 0; at < n; at += block_tokens_) {
    const std::int64_t end = std::min<std::int64_t>(at + block_tokens_, n);
    require_rows({.id = table[static_cast<std::size_t>(at) / width]}, at, end, text, who);
  }
}

void FakeDecoder::require_rows(const CachePlace& block,
                               std::int64_t begin,
                               std::int64_t end,
                               const Text& text,
                               std::string_view who) const {
  const std::uint64_t* rows =
      rows_.data() + block_at(block) * static_cast<std::size_t>(block_tokens_);
  for (std::int64_t i = begin; i < end; ++i, ++rows) {
    if (*rows == text.rows[static_cast<std::size_t>(i)]) continue;
    throw Violation("content of a block",
                    fmt::format("{}: row {} in block {}{} is another text's", who, i, block.id,
                                block.on_host ? " of the host" : ""));
  }
}

void FakeDecoder::fill_rows(BlockId block, std::int64_t begin, std::int64_t end, const Text& text) {
  const auto first = text.rows.begin() + begin;
  std::copy(first, first + (end - begin),
            rows_.begin() + static_cast<std::ptrdiff_t>(block_at({.id = block})) * block_tokens_);
}

void FakeDecoder::fill_state(BlockId slot, std::int64_t n, const Text& text) {
  advance(states_[state_at({.id = slot})], 0, n, text);
}

void FakeDecoder::require_state(const CachePlace& slot,
                                std::int64_t n,
                                const Text& text,
                                std::string_view who) const {
  const State& state = states_[state_at(slot)];
  const std::int64_t end = state.fold + static_cast<std::int64_t>(state.tail.size());
  if (!state.sound || n < state.fold || n > end) {
    throw Violation("content of a state",
                    fmt::format("{}: slot {}{} serves {} .. {} ({}), wanted is {}", who, slot.id,
                                slot.on_host ? " of the host" : "", state.fold, end,
                                state.sound ? "sound" : "rubbish", n));
  }
  std::uint64_t hash = state.folded;
  for (std::int64_t i = state.fold; i < n; ++i) {
    hash =
        mix(hash, static_cast<std::uint64_t>(state.tail[static_cast<std::size_t>(i - state.fold)]));
  }
  if (hash != text.before(n)) {
    throw Violation("content of a state",
                    fmt::format("{}: slot {}{} at {} is another text's", who, slot.id,
                                slot.on_host ? " of the host" : "", n));
  }
}

}  // namespace heddle::test
