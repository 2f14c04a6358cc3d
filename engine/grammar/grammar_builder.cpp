#include "engine/grammar/grammar_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "base/error.h"
#include "engine/grammar/grammar_compiler.h"
#include "engine/grammar/utf8_states.h"

namespace heddle {
namespace {

std::uint64_t add_sizes(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t sum = a + b;
  return sum < a ? std::numeric_limits<std::uint64_t>::max() : sum;
}

}  // namespace

GrammarBuilder::GrammarBuilder(const GrammarLimits& limits)
    : limits_(limits), start_(std::chrono::steady_clock::now()) {}

void GrammarBuilder::check_time() const {
  const std::chrono::duration<double> used = std::chrono::steady_clock::now() - start_;
  if (used.count() > limits_.seconds) {
    throw bad_input(fmt::format("grammar: compiling takes longer than {} s", limits_.seconds));
  }
}

void GrammarBuilder::check_source(std::string_view what, std::size_t bytes) const {
  if (bytes > limits_.source_bytes) {
    throw bad_input(fmt::format("{} has {} bytes, allowed: {}", what, bytes, limits_.source_bytes));
  }
}

GrammarNode GrammarBuilder::add(NodeData data) {
  if (data.depth > kMostDepth) {
    throw bad_input(fmt::format("grammar: nested deeper than {}", kMostDepth));
  }
  // Each node stands for a state at least, but for pieces that are never used.
  const std::size_t bytes =
      nodes_.size() * sizeof(NodeData) + parts_.size() * sizeof(Node) + graph_bytes_;
  if (bytes > limits_.memory_bytes) {
    throw bad_input(fmt::format("grammar: needs more than {} MiB, the limit of memory",
                                limits_.memory_bytes >> 20U));
  }
  if (nodes_.size() % 4096 == 0) check_time();
  nodes_.push_back(data);
  return {static_cast<std::uint32_t>(nodes_.size() - 1)};
}

GrammarNode GrammarBuilder::empty() {
  return add({.kind = Kind::kEmpty});
}

GrammarNode GrammarBuilder::never() {
  return add({.kind = Kind::kNever});
}

GrammarNode GrammarBuilder::literal(std::string_view bytes) {
  if (bytes.empty()) return empty();
  const auto first = static_cast<std::uint32_t>(text_.size());
  text_ += bytes;
  return add({.kind = Kind::kLiteral,
              .first = first,
              .count = static_cast<std::uint32_t>(bytes.size()),
              .size = bytes.size()});
}

GrammarNode GrammarBuilder::byte_range(std::uint8_t low, std::uint8_t high) {
  return add({.kind = Kind::kBytes, .low = low, .high = high});
}

GrammarNode GrammarBuilder::code_points(const CodePointSet& set) {
  std::vector<Node> ways;
  for (const auto& [low, high] : set.ranges()) {
    for (const ByteSequence& s : utf8_sequences(low, high)) {
      std::vector<Node> bytes;
      for (int i = 0; i < s.length; ++i) bytes.push_back(byte_range(s.low[i], s.high[i]));
      ways.push_back(sequence(bytes));
    }
  }
  return alternatives(ways);
}

GrammarNode GrammarBuilder::add_list(Kind kind, std::span<const Node> parts) {
  NodeData list{.kind = kind,
                .first = static_cast<std::uint32_t>(parts_.size()),
                .count = static_cast<std::uint32_t>(parts.size())};
  for (const Node part : parts) {
    list.size = add_sizes(list.size, data(part).size);
    list.depth = std::max(list.depth, data(part).depth + 1);
  }
  parts_.insert(parts_.end(), parts.begin(), parts.end());
  return add(list);
}

GrammarNode GrammarBuilder::sequence(std::span<const Node> parts) {
  if (parts.empty()) return empty();
  return parts.size() == 1 ? parts[0] : add_list(Kind::kSequence, parts);
}

GrammarNode GrammarBuilder::alternatives(std::span<const Node> parts) {
  if (parts.empty()) return never();
  return parts.size() == 1 ? parts[0] : add_list(Kind::kAlternatives, parts);
}

GrammarNode GrammarBuilder::repeat(Node part, std::uint32_t least, std::uint32_t most) {
  if (least > most) return never();
  if (most == 0) return empty();
  if (least == 1 && most == 1) return part;
  const std::uint64_t count = most == kNoEnd ? std::max(least, 1U) : most;
  if (count > limits_.states) {
    throw bad_input(
        fmt::format("grammar: {} repetitions, the limit of states is {}", count, limits_.states));
  }
  // What is large is a rule, called so often: nested repetitions add up, not multiply.
  constexpr std::uint64_t kSmall = 8;
  if (count > 1 && data(part).size > kSmall) part = shared(part);
  return add({.kind = Kind::kRepeat,
              .first = part.id,
              .least = least,
              .most = most,
              .depth = data(part).depth + 1,
              .size = count * data(part).size});
}

GrammarNode GrammarBuilder::graph(Graph graph) {
  NodeData data{.kind = Kind::kGraph,
                .first = static_cast<std::uint32_t>(graphs_.size()),
                .size = graph.n_states};
  for (const Graph::Edge& edge : graph.edges) {
    data.size = add_sizes(data.size, this->data(edge.label).size);
    data.depth = std::max(data.depth, this->data(edge.label).depth + 1);
  }
  graph_bytes_ += graph.edges.size() * sizeof(Graph::Edge);
  graphs_.push_back(std::move(graph));
  return add(data);
}

GrammarNode GrammarBuilder::one_of(std::span<const std::string> texts) {
  std::vector<std::string> sorted(texts.begin(), texts.end());
  std::ranges::sort(sorted);
  Graph trie;
  std::vector<std::uint32_t> path = {0};  // states of the last text's bytes
  std::string_view last;
  for (const std::string& text : sorted) {
    const auto common =
        static_cast<std::size_t>(std::ranges::mismatch(text, last).in1 - text.begin());
    path.resize(common + 1);
    for (std::size_t i = common; i < text.size(); ++i) {
      const auto byte = static_cast<std::uint8_t>(text[i]);
      path.push_back(trie.add_state());
      trie.edges.push_back({path[i], path[i + 1], byte_range(byte, byte)});
    }
    trie.accepting.push_back(path.back());
    last = text;
  }
  return graph(std::move(trie));
}

GrammarNode GrammarBuilder::text_without(std::string_view trigger) {
  HEDDLE_CHECK(!trigger.empty());
  const std::size_t n = trigger.size();
  // back[k]: how much of the trigger's begin the first k bytes end with, all of them excepted.
  std::vector<std::size_t> back(n + 1, 0);
  for (std::size_t k = 1, j = 0; k < n; ++k) {
    while (j > 0 && trigger[k] != trigger[j]) j = back[j];
    if (trigger[k] == trigger[j]) ++j;
    back[k + 1] = j;
  }
  // A state: bytes of the trigger that the text ends with, and where it is within a character.
  Graph graph;
  std::map<std::pair<std::size_t, int>, std::uint32_t> states = {{{0, 0}, 0}};
  std::vector<std::pair<std::size_t, int>> open = {{0, 0}};
  const auto state_of = [&](std::size_t k, int within) {
    const auto [it, added] = states.try_emplace({k, within}, graph.n_states);
    if (added) {
      graph.add_state();
      open.emplace_back(k, within);
    }
    return it->second;
  };
  while (!open.empty()) {
    const auto [matched, within] = open.back();
    open.pop_back();
    const std::uint32_t from = states.at({matched, within});
    if (within == 0) graph.accepting.push_back(from);
    for (const Utf8Edge& edge : utf8_edges(within)) {
      for (int b = edge.low; b <= edge.high; ++b) {
        std::size_t k = matched;
        while (k > 0 && b != static_cast<std::uint8_t>(trigger[k])) k = back[k];
        if (b == static_cast<std::uint8_t>(trigger[k])) ++k;
        if (k == n) continue;
        const auto byte = static_cast<std::uint8_t>(b);
        graph.edges.push_back({from, state_of(k, edge.target), byte_range(byte, byte)});
      }
    }
  }
  return this->graph(std::move(graph));
}

GrammarNode GrammarBuilder::shared(Node part) {
  if (data(part).kind == Kind::kCall) return part;
  const Rule rule = declare("");
  define(rule, part);
  return call(rule);
}

GrammarBuilder::Rule GrammarBuilder::declare(std::string name) {
  rules_.push_back({.name = std::move(name), .body = {}});
  return {static_cast<std::uint32_t>(rules_.size() - 1)};
}

void GrammarBuilder::define(Rule rule, Node body) {
  HEDDLE_CHECK(!rules_[rule.id].defined);
  rules_[rule.id].body = body;
  rules_[rule.id].defined = true;
}

GrammarNode GrammarBuilder::call(Rule rule) {
  return add({.kind = Kind::kCall, .first = rule.id});
}

GrammarPtr GrammarBuilder::build(Node root) {
  return std::make_shared<const Grammar>(GrammarCompiler(*this).compile(root));
}

}  // namespace heddle
