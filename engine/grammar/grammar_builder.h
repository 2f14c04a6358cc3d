#pragma once
// Puts grammars together from pieces.

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar/code_points.h"
#include "engine/grammar/grammar.h"

namespace heddle {

/// Pieces are made once and may be used in several places; they belong to their builder. Every
/// method may throw kBadInput where a limit is reached. Used by one thread.
///
///   GrammarBuilder b;
///   const auto call = b.sequence({b.literal("<tool_call>\n"), json_schema_node(b, schema),
///                                 b.literal("\n</tool_call>")});
///   const GrammarPtr grammar = b.build(call);
class GrammarBuilder {
 public:
  struct Node {
    std::uint32_t id = 0;
  };
  struct Rule {
    std::uint32_t id = 0;
  };
  static constexpr std::uint32_t kNoEnd = ~0U;  // of repeat()
  static constexpr int kMostDepth = 400;        // of pieces within pieces

  /// States 0 .. n_states - 1, the first is the start; edges are pieces. What has several ways
  /// through, each cheap to write down, where sequences and alternatives would repeat themselves.
  struct Graph {
    struct Edge {
      std::uint32_t from = 0;
      std::uint32_t to = 0;
      Node label = {};
    };
    std::uint32_t n_states = 1;
    std::vector<Edge> edges;
    std::vector<std::uint32_t> accepting;
    std::uint32_t add_state() { return n_states++; }
  };

  explicit GrammarBuilder(const GrammarLimits& limits = {});

  Node empty();                          // the empty text
  Node never();                          // no text at all
  Node literal(std::string_view bytes);  // as it stands
  Node byte_range(std::uint8_t low, std::uint8_t high);
  Node code_points(const CodePointSet& set);  // one character, in UTF-8
  Node sequence(std::span<const Node> parts);
  Node sequence(std::initializer_list<Node> parts) { return sequence(std::span(parts)); }
  Node alternatives(std::span<const Node> parts);
  Node alternatives(std::initializer_list<Node> parts) { return alternatives(std::span(parts)); }
  Node repeat(Node part, std::uint32_t least, std::uint32_t most = kNoEnd);
  Node optional(Node part) { return repeat(part, 0, 1); }
  Node graph(Graph graph);
  /// One of these texts; shared beginnings are read once, however many there are.
  Node one_of(std::span<const std::string> texts);
  /// Any UTF-8 text that does not contain `trigger` (UTF-8, not empty).
  Node text_without(std::string_view trigger);
  /// `part` as a rule of its own: its states exist once, wherever the piece is used.
  Node shared(Node part);

  /// Rules may be called before they are defined, and by themselves.
  Rule declare(std::string name);
  void define(Rule rule, Node body);
  bool defined(Rule rule) const { return rules_[rule.id].defined; }
  Node call(Rule rule);
  /// Its calls end where kMostNesting are open; other alternatives must be there.
  void limit_nesting(Rule rule) { rules_[rule.id].nesting = true; }

  /// Throws kBadInput if no text is left, or a rule calls itself before it reads anything.
  GrammarPtr build(Node root);
  const GrammarLimits& limits() const { return limits_; }
  /// Throws kBadInput once the time is over.
  void check_time() const;
  /// Throws kBadInput where a source text is longer than allowed.
  void check_source(std::string_view what, std::size_t bytes) const;

 private:
  friend class GrammarCompiler;
  enum class Kind : std::uint8_t {
    kEmpty,
    kNever,
    kBytes,
    kLiteral,
    kSequence,
    kAlternatives,
    kRepeat,
    kCall,
    kGraph,
  };
  struct NodeData {
    Kind kind = Kind::kEmpty;
    std::uint8_t low = 0, high = 0;      // kBytes
    std::uint32_t first = 0, count = 0;  // kLiteral: of text_; lists: of parts_; else an index
    std::uint32_t least = 0, most = 0;   // kRepeat
    int depth = 1;
    std::uint64_t size = 1;  // states, about
  };
  struct RuleData {
    std::string name;
    Node body = {};
    bool defined = false;
    bool nesting = false;
  };

  Node add(NodeData data);
  Node add_list(Kind kind, std::span<const Node> parts);
  const NodeData& data(Node node) const { return nodes_[node.id]; }

  GrammarLimits limits_;
  std::chrono::steady_clock::time_point start_;
  std::vector<NodeData> nodes_;
  std::vector<Node> parts_;
  std::string text_;
  std::vector<Graph> graphs_;
  std::size_t graph_bytes_ = 0;
  std::vector<RuleData> rules_;
};

using GrammarNode = GrammarBuilder::Node;

/// Pieces of other languages; what they refuse is in grammar.h.
GrammarNode json_object_node(GrammarBuilder& builder);
GrammarNode json_value_node(GrammarBuilder& builder);
GrammarNode json_schema_node(GrammarBuilder& builder, std::string_view schema);
GrammarNode regex_node(GrammarBuilder& builder, std::string_view pattern);
GrammarNode ebnf_node(GrammarBuilder& builder, std::string_view text);

}  // namespace heddle
