#pragma once
// From the pieces of a GrammarBuilder to a GrammarProgram. Internal to engine/grammar/.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/grammar/grammar_builder.h"
#include "engine/grammar/grammar_program.h"

namespace heddle {

/// Used once.
class GrammarCompiler {
 public:
  explicit GrammarCompiler(const GrammarBuilder& builder) : builder_(builder) {}
  /// Throws kBadInput as GrammarBuilder::build says.
  GrammarProgram compile(GrammarBuilder::Node root);

 private:
  enum class Reads : std::uint8_t { kByte, kNothing, kCall };
  struct Edge {
    std::uint32_t from = 0;
    std::uint32_t target = 0;
    std::uint32_t rule = 0;  // kCall
    Reads reads = Reads::kNothing;
    std::uint8_t low = 0, high = 0;
  };
  /// Edges by the state that they come from (or lead to).
  struct Index {
    std::vector<std::uint32_t> first;
    std::vector<std::uint32_t> edges;
  };

  std::uint32_t new_state();
  void add_edge(Edge edge);
  void silent(std::uint32_t from, std::uint32_t to) { add_edge({.from = from, .target = to}); }
  /// Adds states and edges that lead from one state to another along the node's texts. Only edges
  /// out of `from`, into `to` and between new states: so pieces may share both.
  void connect(GrammarBuilder::Node node, std::uint32_t from, std::uint32_t to);
  void connect_repeat(const GrammarBuilder::NodeData& data, std::uint32_t from, std::uint32_t to);
  void connect_graph(const GrammarBuilder::Graph& graph, std::uint32_t from, std::uint32_t to);
  std::uint32_t rule_of(std::uint32_t builder_rule);

  Index index(bool by_target) const;
  void find_nullable(const Index& index);
  void drop_dead_ends();
  void rank_rules(const Index& index);
  void check_first_calls(const std::vector<std::vector<std::uint32_t>>& calls) const;
  std::vector<std::uint8_t> find_returns(const Index& out) const;
  std::vector<std::vector<std::uint32_t>> first_calls(const Index& index) const;
  std::string name_of(std::uint32_t rule) const;
  void classify_bytes(GrammarProgram& program) const;
  GrammarProgram pack(const Index& out);

  const GrammarBuilder& builder_;
  std::vector<Edge> edges_;
  std::vector<std::uint8_t> accepting_;  // per state
  std::vector<GrammarProgram::Rule> rules_;
  std::vector<std::uint32_t> ends_;    // of each rule, its accepting state
  std::vector<std::int64_t> sources_;  // of each rule, the builder's; -1: the root
  std::map<std::uint32_t, std::uint32_t> rule_ids_;
};

}  // namespace heddle
