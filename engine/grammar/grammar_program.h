#pragma once
// The compiled form of a grammar: a pushdown automaton over bytes.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace heddle {

/// Rules are nondeterministic automata whose edges read a byte, read nothing, or call a rule and go
/// on behind it. Every state can be left towards the end of its rule, and no rule can call itself
/// before a byte is read: so closures are finite, and a text that has begun can be finished.
/// A value; GrammarCompiler makes it.
struct GrammarProgram {
  struct ByteEdge {
    std::uint8_t low = 0;
    std::uint8_t high = 0;
    std::uint32_t target = 0;
  };
  struct CallEdge {
    std::uint32_t rule = 0;
    std::uint32_t back = 0;  // where to go on
  };
  struct Rule {
    std::uint32_t start = 0;
    std::uint32_t rank = 0;  // below that of all rules that it can call before a byte is read
    bool nullable = false;   // the empty text is one of its texts
    bool nesting = false;    // not called deeper than kMostNesting calls
  };

  // Edges of state s: [first_x[s], first_x[s + 1]).
  std::vector<std::uint32_t> first_byte, first_silent, first_call;
  std::vector<ByteEdge> byte_edges;  // of a state by ascending `low`
  std::vector<std::uint32_t> silent_edges;
  std::vector<CallEdge> call_edges;
  std::vector<std::uint8_t> accepting;     // 1: its rule may end here
  std::vector<std::uint8_t> only_returns;  // 1: nothing but the end of its rule follows
  std::vector<Rule> rules;                 // the first is the text
  // Bytes that no edge tells apart have one class.
  std::array<std::uint8_t, 256> byte_class = {};
  std::uint32_t n_classes = 1;

  std::size_t n_states() const { return accepting.size(); }
  std::span<const ByteEdge> bytes_of(std::uint32_t s) const {
    return std::span(byte_edges).subspan(first_byte[s], first_byte[s + 1] - first_byte[s]);
  }
  std::span<const std::uint32_t> silent_of(std::uint32_t s) const {
    return std::span(silent_edges).subspan(first_silent[s], first_silent[s + 1] - first_silent[s]);
  }
  std::span<const CallEdge> calls_of(std::uint32_t s) const {
    return std::span(call_edges).subspan(first_call[s], first_call[s + 1] - first_call[s]);
  }
  std::size_t memory_bytes() const {
    return (first_byte.size() + first_silent.size() + first_call.size()) * sizeof(std::uint32_t) +
           byte_edges.size() * sizeof(ByteEdge) + silent_edges.size() * sizeof(std::uint32_t) +
           call_edges.size() * sizeof(CallEdge) + 2 * accepting.size() +
           rules.size() * sizeof(Rule);
  }
};

/// Calls that may be open at once: a text that goes deeper cannot go on. Rules of nested values of
/// any kind (Rule::nesting) give way to others long before.
inline constexpr std::uint32_t kMostCalls = 4096;
inline constexpr std::uint32_t kMostNesting = 64;

}  // namespace heddle
