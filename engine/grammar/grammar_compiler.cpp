#include "engine/grammar/grammar_compiler.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/error.h"

namespace heddle {

using Node = GrammarBuilder::Node;

std::uint32_t GrammarCompiler::new_state() {
  const GrammarLimits& limits = builder_.limits();
  if (accepting_.size() >= limits.states) {
    throw bad_input(fmt::format("grammar: needs more than {} states, the limit", limits.states));
  }
  if (accepting_.size() % 4096 == 0) builder_.check_time();
  accepting_.push_back(0);
  return static_cast<std::uint32_t>(accepting_.size() - 1);
}

void GrammarCompiler::add_edge(Edge edge) {
  const GrammarLimits& limits = builder_.limits();
  if (edges_.size() * sizeof(Edge) > limits.memory_bytes) {
    throw bad_input(fmt::format("grammar: needs more than {} MiB, the limit of memory",
                                limits.memory_bytes >> 20U));
  }
  if (edges_.size() % 4096 == 0) builder_.check_time();
  edges_.push_back(edge);
}

/// The program's rule for one of the builder's; those that are not called do not come along.
std::uint32_t GrammarCompiler::rule_of(std::uint32_t builder_rule) {
  const auto [it, added] =
      rule_ids_.try_emplace(builder_rule, static_cast<std::uint32_t>(rules_.size()));
  if (added) {
    HEDDLE_CHECK(builder_.rules_[builder_rule].defined);
    rules_.push_back({.nesting = builder_.rules_[builder_rule].nesting});
    sources_.push_back(builder_rule);
  }
  return it->second;
}

void GrammarCompiler::connect(Node node, std::uint32_t from, std::uint32_t to) {
  using Kind = GrammarBuilder::Kind;
  const GrammarBuilder::NodeData& data = builder_.data(node);
  const auto part = [&](std::uint32_t i) { return builder_.parts_[data.first + i]; };
  switch (data.kind) {
    case Kind::kNever:
      break;
    case Kind::kEmpty:
      silent(from, to);
      break;
    case Kind::kBytes:
      add_edge(
          {.from = from, .target = to, .reads = Reads::kByte, .low = data.low, .high = data.high});
      break;
    case Kind::kCall:
      add_edge({.from = from, .target = to, .rule = rule_of(data.first), .reads = Reads::kCall});
      break;
    case Kind::kLiteral:
      for (std::uint32_t i = 0; i < data.count; ++i) {
        const auto byte = static_cast<std::uint8_t>(builder_.text_[data.first + i]);
        const std::uint32_t next = i + 1 == data.count ? to : new_state();
        add_edge({.from = from, .target = next, .reads = Reads::kByte, .low = byte, .high = byte});
        from = next;
      }
      break;
    case Kind::kSequence:
      for (std::uint32_t i = 0; i < data.count; ++i) {
        const std::uint32_t next = i + 1 == data.count ? to : new_state();
        connect(part(i), from, next);
        from = next;
      }
      break;
    case Kind::kAlternatives:
      for (std::uint32_t i = 0; i < data.count; ++i) connect(part(i), from, to);
      break;
    case Kind::kRepeat:
      connect_repeat(data, from, to);
      break;
    case Kind::kGraph:
      connect_graph(builder_.graphs_[data.first], from, to);
      break;
  }
}

void GrammarCompiler::connect_repeat(const GrammarBuilder::NodeData& data,
                                     std::uint32_t from,
                                     std::uint32_t to) {
  const Node body{data.first};
  const bool endless = data.most == GrammarBuilder::kNoEnd;
  const std::uint32_t n_copies = endless ? std::max(data.least, 1U) : data.most;
  std::uint32_t at = new_state();
  silent(from, at);
  for (std::uint32_t i = 0; i < n_copies; ++i) {
    if (i >= data.least) silent(at, to);
    const std::uint32_t next = new_state();
    connect(body, at, next);
    if (endless && i + 1 == n_copies) silent(next, at);  // the last is repeated
    at = next;
  }
  silent(at, to);
}

void GrammarCompiler::connect_graph(const GrammarBuilder::Graph& graph,
                                    std::uint32_t from,
                                    std::uint32_t to) {
  std::vector<std::uint32_t> states;
  for (std::uint32_t i = 0; i < graph.n_states; ++i) states.push_back(new_state());
  silent(from, states[0]);
  for (const GrammarBuilder::Graph::Edge& edge : graph.edges) {
    connect(edge.label, states[edge.from], states[edge.to]);
  }
  for (const std::uint32_t state : graph.accepting) silent(states[state], to);
}

GrammarProgram GrammarCompiler::compile(Node root) {
  rules_.push_back({});
  sources_.push_back(-1);
  for (std::size_t i = 0; i < rules_.size(); ++i) {  // grows as rules are called
    const std::uint32_t start = new_state();
    const std::uint32_t end = new_state();
    accepting_[end] = 1;
    rules_[i].start = start;
    ends_.push_back(end);
    const auto source = sources_[i];
    connect(source < 0 ? root : builder_.rules_[static_cast<std::size_t>(source)].body, start, end);
  }
  drop_dead_ends();
  const Index out = index(false);
  find_nullable(out);
  rank_rules(out);
  return pack(out);
}

GrammarCompiler::Index GrammarCompiler::index(bool by_target) const {
  Index index{.first = std::vector<std::uint32_t>(accepting_.size() + 1, 0),
              .edges = std::vector<std::uint32_t>(edges_.size())};
  const auto key = [&](const Edge& e) { return by_target ? e.target : e.from; };
  for (const Edge& edge : edges_) ++index.first[key(edge) + 1];
  for (std::size_t i = 1; i < index.first.size(); ++i) index.first[i] += index.first[i - 1];
  std::vector<std::uint32_t> next(index.first.begin(), index.first.end() - 1);
  for (std::uint32_t i = 0; i < edges_.size(); ++i) index.edges[next[key(edges_[i])]++] = i;
  return index;
}

/// Keeps the edges from which the end of their rule can be reached.
void GrammarCompiler::drop_dead_ends() {
  const Index in = index(true);
  std::vector<std::uint8_t> live(accepting_.size(), 0);
  std::vector<std::uint8_t> rule_live(rules_.size(), 0);
  std::vector<std::vector<std::uint32_t>> waiting(rules_.size());  // calls whose rule is not yet
  std::vector<std::uint32_t> rule_at(accepting_.size(), ~0U);      // that begins at a state
  for (std::uint32_t r = 0; r < rules_.size(); ++r) rule_at[rules_[r].start] = r;
  std::vector<std::uint32_t> open(ends_.begin(), ends_.end());
  const auto reach = [&](std::uint32_t state) {
    if (live[state] == 0) open.push_back(state);
    live[state] = 1;
  };
  for (const std::uint32_t end : ends_) live[end] = 1;
  while (!open.empty()) {
    const std::uint32_t state = open.back();
    open.pop_back();
    if (const std::uint32_t rule = rule_at[state]; rule != ~0U) {
      rule_live[rule] = 1;
      for (const std::uint32_t call : waiting[rule]) reach(edges_[call].from);
    }
    for (std::uint32_t i = in.first[state]; i < in.first[state + 1]; ++i) {
      const Edge& edge = edges_[in.edges[i]];
      if (edge.reads == Reads::kCall && rule_live[edge.rule] == 0) {
        waiting[edge.rule].push_back(in.edges[i]);
      } else {
        reach(edge.from);
      }
    }
  }
  if (rule_live[0] == 0) throw bad_input("grammar: there is no text that it allows");
  std::erase_if(edges_, [&](const Edge& edge) {
    return live[edge.target] == 0 || (edge.reads == Reads::kCall && rule_live[edge.rule] == 0);
  });
}

/// Which rules have the empty text: their ends are reached by silent edges and calls of such rules.
void GrammarCompiler::find_nullable(const Index& out) {
  // A state is reached for the rule that it belongs to: rules share no states.
  std::vector<std::uint8_t> reached(accepting_.size(), 0);
  std::vector<std::uint32_t> rule_at_end(accepting_.size(), ~0U);
  for (std::uint32_t r = 0; r < rules_.size(); ++r) rule_at_end[ends_[r]] = r;
  std::vector<std::vector<std::uint32_t>> waiting(rules_.size());
  std::vector<std::uint32_t> open;
  const auto reach = [&](std::uint32_t state) {
    if (reached[state] == 0) open.push_back(state);
    reached[state] = 1;
  };
  for (const GrammarProgram::Rule& rule : rules_) reach(rule.start);
  while (!open.empty()) {
    const std::uint32_t state = open.back();
    open.pop_back();
    if (const std::uint32_t rule = rule_at_end[state]; rule != ~0U) {
      rules_[rule].nullable = true;
      for (const std::uint32_t back : waiting[rule]) reach(back);
    }
    for (std::uint32_t i = out.first[state]; i < out.first[state + 1]; ++i) {
      const Edge& edge = edges_[out.edges[i]];
      if (edge.reads == Reads::kByte) continue;
      if (edge.reads == Reads::kCall && !rules_[edge.rule].nullable) {
        waiting[edge.rule].push_back(edge.target);
      } else {
        reach(edge.target);
      }
    }
  }
}

/// Of each rule, those that it can call before a byte is read.
std::vector<std::vector<std::uint32_t>> GrammarCompiler::first_calls(const Index& out) const {
  std::vector<std::vector<std::uint32_t>> calls(rules_.size());
  std::vector<std::uint8_t> seen(accepting_.size(), 0);
  for (std::size_t r = 0; r < rules_.size(); ++r) {
    std::vector<std::uint32_t> open = {rules_[r].start};
    seen[rules_[r].start] = 1;
    while (!open.empty()) {
      const std::uint32_t state = open.back();
      open.pop_back();
      for (std::uint32_t i = out.first[state]; i < out.first[state + 1]; ++i) {
        const Edge& edge = edges_[out.edges[i]];
        if (edge.reads == Reads::kByte) continue;
        if (edge.reads == Reads::kCall) calls[r].push_back(edge.rule);
        const bool through = edge.reads == Reads::kNothing || rules_[edge.rule].nullable;
        if (!through || seen[edge.target] != 0) continue;
        seen[edge.target] = 1;
        open.push_back(edge.target);
      }
    }
    std::ranges::sort(calls[r]);
    calls[r].erase(std::unique(calls[r].begin(), calls[r].end()), calls[r].end());
  }
  return calls;
}

std::string GrammarCompiler::name_of(std::uint32_t rule) const {
  const std::string name =
      sources_[rule] < 0 ? "" : builder_.rules_[static_cast<std::size_t>(sources_[rule])].name;
  return name.empty() ? "a part" : "'" + name + "'";
}

/// Depth-first, on a list of ours: chains of rules are as long as the input says.
void GrammarCompiler::rank_rules(const Index& out) {
  const std::vector<std::vector<std::uint32_t>> calls = first_calls(out);
  enum : std::uint8_t { kNew, kOpen, kDone };
  std::vector<std::uint8_t> mark(rules_.size(), kNew);
  struct Frame {
    std::uint32_t rule = 0;
    std::size_t next = 0;
  };
  auto rank = static_cast<std::uint32_t>(rules_.size());
  for (std::uint32_t r = 0; r < rules_.size(); ++r) {
    if (mark[r] != kNew) continue;
    std::vector<Frame> path = {{r}};
    mark[r] = kOpen;
    while (!path.empty()) {
      Frame& top = path.back();
      if (top.next == calls[top.rule].size()) {
        mark[top.rule] = kDone;
        rules_[top.rule].rank = --rank;
        path.pop_back();
        continue;
      }
      const std::uint32_t callee = calls[top.rule][top.next++];
      if (mark[callee] == kOpen) {
        throw bad_input(
            fmt::format("grammar: {} begins with itself, before anything is read (left recursion)",
                        name_of(callee)));
      }
      if (mark[callee] == kNew) {
        mark[callee] = kOpen;
        path.push_back({callee});
      }
    }
  }
  check_first_calls(calls);
}

/// Chains of calls at one place of the text take calls of those that may be open at once.
void GrammarCompiler::check_first_calls(
    const std::vector<std::vector<std::uint32_t>>& calls) const {
  constexpr std::uint32_t kMost = kMostCalls / 4;
  std::vector<std::uint32_t> by_rank(rules_.size());
  for (std::uint32_t r = 0; r < rules_.size(); ++r) by_rank[rules_[r].rank] = r;
  std::vector<std::uint32_t> chain(rules_.size(), 0);  // calls before the rule begins
  for (const std::uint32_t rule : by_rank) {
    for (const std::uint32_t callee : calls[rule]) {
      chain[callee] = std::max(chain[callee], chain[rule] + 1);
      if (chain[callee] <= kMost) continue;
      throw bad_input(fmt::format(
          "grammar: {} is called by a chain of more than {} rules before anything is read",
          name_of(callee), kMost));
    }
  }
}

/// States behind which a rule only ends: calls there need not come back (GrammarLattice::expand).
std::vector<std::uint8_t> GrammarCompiler::find_returns(const Index& out) const {
  const Index in = index(true);
  std::vector<std::uint8_t> returns(accepting_.size(), 0);
  std::vector<std::uint32_t> n_others(accepting_.size());  // edges that may lead elsewhere
  for (std::size_t s = 0; s < n_others.size(); ++s) n_others[s] = out.first[s + 1] - out.first[s];
  std::vector<std::uint32_t> open(ends_.begin(), ends_.end());
  while (!open.empty()) {
    const std::uint32_t state = open.back();
    open.pop_back();
    returns[state] = 1;
    for (std::uint32_t i = in.first[state]; i < in.first[state + 1]; ++i) {
      const Edge& edge = edges_[in.edges[i]];
      if (edge.reads == Reads::kNothing && --n_others[edge.from] == 0) open.push_back(edge.from);
    }
  }
  return returns;
}

void GrammarCompiler::classify_bytes(GrammarProgram& program) const {
  std::array<bool, 257> begins = {true};
  for (const Edge& edge : edges_) {
    if (edge.reads != Reads::kByte) continue;
    begins[edge.low] = true;
    begins[std::size_t{edge.high} + 1] = true;
  }
  std::uint32_t id = 0;
  for (std::size_t b = 0; b < 256; ++b) {
    if (b > 0 && begins[b]) ++id;
    program.byte_class[b] = static_cast<std::uint8_t>(id);
  }
  program.n_classes = id + 1;
}

GrammarProgram GrammarCompiler::pack(const Index& out) {
  GrammarProgram program;
  program.only_returns = find_returns(out);
  classify_bytes(program);
  std::ranges::sort(edges_, [](const Edge& a, const Edge& b) {
    return std::tuple(a.from, a.low, a.high, a.target) <
           std::tuple(b.from, b.low, b.high, b.target);
  });
  const std::size_t n = accepting_.size();
  auto next = edges_.begin();
  for (std::uint32_t s = 0; s <= n; ++s) {
    program.first_byte.push_back(static_cast<std::uint32_t>(program.byte_edges.size()));
    program.first_silent.push_back(static_cast<std::uint32_t>(program.silent_edges.size()));
    program.first_call.push_back(static_cast<std::uint32_t>(program.call_edges.size()));
    for (; next != edges_.end() && next->from == s; ++next) {
      switch (next->reads) {
        case Reads::kByte:
          program.byte_edges.push_back({next->low, next->high, next->target});
          break;
        case Reads::kNothing:
          program.silent_edges.push_back(next->target);
          break;
        case Reads::kCall:
          program.call_edges.push_back({next->rule, next->target});
          break;
      }
    }
  }
  program.accepting = std::move(accepting_);
  program.rules = std::move(rules_);
  if (program.memory_bytes() > builder_.limits().memory_bytes) {
    throw bad_input(fmt::format("grammar: needs {} MiB, the limit of memory is {}",
                                program.memory_bytes() >> 20U,
                                builder_.limits().memory_bytes >> 20U));
  }
  return program;
}

}  // namespace heddle
