// Decimal numbers between bounds, as a graph over their digits.

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"
#include "engine/grammar/json_nodes.h"

namespace heddle {
namespace {

/// A bound of numbers from 0, or none.
struct Side {
  bool there = false;
  std::string digits;  // whole part without leading zeros ("" for 0), then the fraction
  std::size_t n_whole = 0;
  bool open = false;

  char digit(std::size_t i) const { return i < digits.size() ? digits[i] : '0'; }
  bool only_zeros_from(std::size_t i) const {
    return digits.find_first_not_of('0', std::min(i, digits.size())) == std::string::npos;
  }
};

Side side_of(const std::optional<DecimalBound>& bound) {
  if (!bound) return {};
  const std::string whole = bound->value.whole == "0" ? "" : bound->value.whole;
  return {.there = true,
          .digits = whole + bound->value.fraction,
          .n_whole = whole.size(),
          .open = bound->open};
}

/// Numbers from 0 with a whole part of so many digits (0: the digit 0).
class DecimalGraph {
 public:
  DecimalGraph(GrammarBuilder& builder, const Side& low, const Side& high, bool whole)
      : builder_(builder), low_(low), high_(high), whole_(whole) {}

  GrammarNode build(std::size_t most_digits) {
    for (std::size_t n = 0; n <= most_digits; ++n) begin(n);
    while (!open_.empty()) {
      const State state = open_.back();
      open_.pop_back();
      expand(state);
    }
    return builder_.graph(std::move(graph_));
  }

 private:
  /// `n` digits of n_whole are written, then those of the fraction. An end is tight while the
  /// digits so far are its own.
  struct State {
    std::size_t n_whole = 0;
    std::size_t n = 0;
    std::size_t n_most = 0;
    bool tight_low = false, tight_high = false;
    bool point = false;  // was just written
    auto key() const { return std::tuple(n_whole, n, tight_low, tight_high, point); }
  };

  std::uint32_t state_of(const State& state) {
    const auto [it, added] = states_.try_emplace(state.key(), graph_.n_states);
    if (added) {
      graph_.add_state();
      open_.push_back(state);
    }
    return it->second;
  }
  void edge(std::uint32_t from, char byte, const State& to) {
    const auto b = static_cast<std::uint8_t>(byte);
    graph_.edges.push_back({from, state_of(to), builder_.byte_range(b, b)});
  }

  void begin(std::size_t n_whole) {
    if (low_.there && n_whole < low_.n_whole) return;
    if (high_.there && n_whole > high_.n_whole) return;
    const State first{.n_whole = n_whole,
                      .n = 0,
                      .n_most = whole_ ? n_whole : std::max(JsonNodes::kMostBoundedDigits, n_whole),
                      .tight_low = low_.there && n_whole == low_.n_whole,
                      .tight_high = high_.there && n_whole == high_.n_whole};
    if (n_whole == 0) {
      edge(0, '0', first);
    } else {
      digits(0, first, '1');
    }
  }

  /// Edges for the next digit.
  void digits(std::uint32_t from, const State& state, char least) {
    for (char d = least; d <= '9'; ++d) {
      if (state.tight_low && d < low_.digit(state.n)) continue;
      if (state.tight_high && d > high_.digit(state.n)) continue;
      State next = state;
      next.point = false;
      next.tight_low = state.tight_low && d == low_.digit(state.n);
      next.tight_high = state.tight_high && d == high_.digit(state.n);
      ++next.n;
      edge(from, d, next);
    }
  }

  /// Whether the number may end here.
  bool may_end(const State& state) const {
    if (state.n < state.n_whole || state.point) return false;
    if (state.tight_low) {
      if (!low_.only_zeros_from(state.n)) return false;
      if (low_.open) return false;
    }
    return !(state.tight_high && high_.open && high_.only_zeros_from(state.n));
  }

  void expand(const State& state) {
    const std::uint32_t from = states_.at(state.key());
    if (may_end(state)) graph_.accepting.push_back(from);
    if (state.n < state.n_whole) return digits(from, state, '0');
    if (state.n == state.n_whole && !state.point) {
      if (state.n_most == state.n_whole) return;
      State point = state;
      point.point = true;
      return edge(from, '.', point);
    }
    if (state.n < state.n_most) digits(from, state, '0');
  }

  GrammarBuilder& builder_;
  const Side& low_;
  const Side& high_;
  bool whole_;
  GrammarBuilder::Graph graph_;
  std::map<std::tuple<std::size_t, std::size_t, bool, bool, bool>, std::uint32_t> states_;
  std::vector<State> open_;
};

bool is_zero(const Decimal& d) {
  return d.whole == "0" && d.fraction.empty();
}

}  // namespace

GrammarNode JsonNodes::number_between(const std::optional<DecimalBound>& low,
                                      const std::optional<DecimalBound>& high,
                                      bool whole) {
  GrammarBuilder& b = builder_;
  const auto n_digits = [](const std::optional<DecimalBound>& bound) {
    return bound ? bound->value.whole.size() : std::size_t{0};
  };
  const std::size_t usual = whole ? kMostIntegerDigits : kMostBoundedDigits;
  const std::size_t most = std::max({usual, n_digits(low), n_digits(high)});
  std::vector<GrammarNode> ways;
  // From 0: what is below is no bound.
  if (!high || !high->value.negative) {
    const Side from = low && !low->value.negative ? side_of(low) : Side{};
    const Side to = side_of(high);
    ways.push_back(DecimalGraph(b, from, to, whole).build(most));
  }
  // Below 0: the bounds change places. "-0" is left out.
  if (!low || low->value.negative) {
    const std::optional<DecimalBound> zero = DecimalBound{.value = {}, .open = true};
    const bool below = high && (high->value.negative || is_zero(high->value));
    const Side from = below && !is_zero(high->value) ? side_of(high) : side_of(zero);
    const Side to = side_of(low);
    ways.push_back(b.sequence({b.literal("-"), DecimalGraph(b, from, to, whole).build(most)}));
  }
  return b.alternatives(ways);
}

}  // namespace heddle
