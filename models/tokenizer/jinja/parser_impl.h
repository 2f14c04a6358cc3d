#pragma once
// The parser's class; private to parser.cpp (tags) and parse_expression.cpp.

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/jinja/ast.h"
#include "models/tokenizer/jinja/lexer.h"
#include "models/tokenizer/jinja/parser.h"

namespace heddle::jinja {

/// Fills the `hidden` lists: the names that are undefined at the start of a block with a scope of
/// its own although an outer scope has them. Jinja settles what a name means once for a whole
/// block: where the block sets a name before it reads it, and no block around mentions it, blocks
/// inside that read it see the block's own, not yet set. In scopes.cpp.
void hide_names(Template& parsed);

class Parser {
 public:
  Parser(Template& out, const TemplateLimits& limits);
  void run();

 private:
  /// Counts one level of nesting of tags or parentheses for the time of its life.
  struct Level {
    explicit Level(Parser& p);
    ~Level() { --parser.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    Parser& parser;
  };
  /// What the names in a macro's body refer to.
  struct Uses {
    bool caller = false, varargs = false, kwargs = false;
  };

  // Tokens.
  const Token& now() const { return tokens_[pos_]; }
  const Token& ahead() const { return tokens_[pos_ + 1 < tokens_.size() ? pos_ + 1 : pos_]; }
  bool is_op(std::string_view text) const;
  bool is_name(std::string_view text) const;
  bool is_end_name(std::initializer_list<std::string_view> names) const;
  bool skip_op(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_op(std::string_view text);
  void expect_name(std::string_view text);
  const Token& expect(Tok type);
  [[noreturn]] void fail(std::uint32_t at, const std::string& text) const;
  [[noreturn]] void unexpected(std::string_view wanted) const;
  /// As Jinja does: an unknown filter or test is an error of the parse, unless an if stands between
  /// it and the innermost block with a scope of its own; there it fails once it is reached.
  void refuse_unknown(std::size_t first) const;
  void note_unknown(Expr& e, const std::string& called);

  // Tags: parser.cpp.
  Block block(std::initializer_list<std::string_view> ends);
  void element(Block& out);
  std::unique_ptr<Stmt> tag();
  std::unique_ptr<Stmt> new_stmt(StmtKind kind, std::uint32_t at) const;
  void end_tag();
  std::unique_ptr<Stmt> if_tag(std::uint32_t at);
  void check_loop_target(const Expr& target) const;
  std::unique_ptr<Stmt> for_tag(std::uint32_t at);
  std::unique_ptr<Stmt> set_tag(std::uint32_t at);
  std::unique_ptr<Stmt> macro_tag(std::uint32_t at);
  std::unique_ptr<Stmt> call_tag(std::uint32_t at);
  std::unique_ptr<Stmt> filter_tag(std::uint32_t at);
  std::unique_ptr<Stmt> with_tag(std::uint32_t at);
  std::unique_ptr<Stmt> generation_tag(std::uint32_t at);
  void signature(Stmt& macro);
  void function_body(Stmt& function, std::string_view end);

  // Expressions: parse_expression.cpp.
  ExprPtr expression(bool with_if = true);
  ExprPtr binary(int lowest);
  ExprPtr not_expression();
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr postfix(ExprPtr left, bool with_filters);
  ExprPtr number();
  ExprPtr string();
  ExprPtr name();
  ExprPtr tuple(bool with_if, bool parentheses, std::string_view end_name = {});
  ExprPtr list();
  ExprPtr dict();
  ExprPtr subscript(ExprPtr object);
  ExprPtr attribute(ExprPtr object);
  ExprPtr call(ExprPtr callee);
  void arguments(Expr& out);
  ExprPtr filter(ExprPtr subject);
  ExprPtr test(ExprPtr subject);
  ExprPtr target(std::string_view end_name);
  ExprPtr one_target();
  bool is_tuple_end(std::string_view end_name) const;
  std::string dotted_name(std::string_view first);
  ExprPtr new_expr(ExprKind kind, std::uint32_t at) const;
  ExprPtr new_expr(ExprKind kind, std::uint32_t at, ExprPtr only) const;
  ExprPtr string_const(std::uint32_t at, std::string text) const;
  /// Adds a child and keeps the height within the limit.
  void add(Expr& parent, ExprPtr child) const;
  void grow(Expr& parent, const Expr& child) const;
  int peek_operator(Op& op) const;

  Template& out_;
  int max_depth_;
  std::vector<Token> tokens_;
  std::size_t pos_ = 0;
  int level_ = 0;
  int loops_ = 0;                     // for loops that a break here could leave
  std::vector<const Expr*> unknown_;  // filters and tests that nothing excuses yet
  Uses uses_;
};

}  // namespace heddle::jinja
