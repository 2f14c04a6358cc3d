#pragma once
// The tree walker; private to interpreter.cpp (statements) and evaluate.cpp (expressions).

#include <deque>
#include <utility>
#include <vector>

#include "models/tokenizer/jinja/ast.h"
#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/interpreter.h"
#include "models/tokenizer/jinja/loop.h"

namespace heddle::jinja {

/// Variables of one block; lookups go on in `parent`. Kept until the render ends, because a macro
/// may refer to it.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<NameId, Value>> variables;

  void set(NameId name, const Value& value);
};

class Interpreter {
 public:
  Interpreter(Runtime& rt, const Template& parsed) : rt_(rt), template_(parsed) {}
  Text run(const Variables& variables);

 private:
  enum class Flow : std::uint8_t { kNext, kBreak, kContinue };
  /// One more level of recursion of the walk, for the time of its life.
  struct Level {
    explicit Level(Interpreter& walker);
    ~Level() { --level; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    int& level;
  };
  /// Output goes to `text` for the time of its life.
  struct Capture {
    explicit Capture(Interpreter& walker) : sink(walker.out_), outer(walker.out_) { sink = &text; }
    ~Capture() { sink = outer; }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    TextBuilder*& sink;
    TextBuilder* const outer;
    TextBuilder text;
  };

  // Statements.
  Flow exec(const Block& block, Scope& scope);
  Flow exec(const Stmt& stmt, Scope& scope);
  void exec_output(const Stmt& stmt, Scope& scope);
  Flow exec_if(const Stmt& stmt, Scope& scope);
  Flow exec_for(const Stmt& stmt, Scope& scope, const Value& iterable, int depth);
  bool run_loop(const Stmt& stmt, Scope& scope, Loop& loop);
  void exec_set(const Stmt& stmt, Scope& scope);
  Flow exec_set_block(const Stmt& stmt, Scope& scope);
  Flow exec_filter(const Stmt& stmt, Scope& scope);
  Flow exec_with(const Stmt& stmt, Scope& scope);
  void exec_macro(const Stmt& stmt, Scope& scope);
  void exec_call(const Stmt& stmt, Scope& scope);
  void assign(const Expr& target, const Value& value, Scope& scope);
  void assign_attribute(const Expr& target, const Value& value, Scope& scope);
  void assign_tuple(const Expr& target, const Value& value, Scope& scope);
  void write(const Value& value);
  void write(const Text& text);
  Scope& new_scope(Scope* parent, const std::vector<NameId>& hidden = {});
  void hide(const std::vector<NameId>& names, Scope& scope);
  Value function(Function::Kind kind, const Stmt& stmt, Scope& scope);

  // Expressions.
  Value eval(const Expr& e, Scope& scope);
  Value eval_name(const Expr& e, const Scope& scope);
  Value eval_items(const Expr& e, Scope& scope);
  Value eval_dict(const Expr& e, Scope& scope);
  Value eval_attr(const Expr& e, Scope& scope);
  Value eval_item(const Expr& e, Scope& scope);
  Value eval_slice(const Expr& e, Scope& scope);
  Value eval_call(const Expr& e, Scope& scope);
  Value eval_builtin(const Expr& e, Scope& scope);
  Value eval_unary(const Expr& e, Scope& scope);
  Value eval_chain(const Expr& e, Scope& scope);
  Value eval_compare(const Expr& e, Scope& scope);
  Value eval_logic(const Expr& e, Scope& scope);
  Value eval_if(const Expr& e, Scope& scope);
  void eval_arguments(const Expr& e, Scope& scope, Arguments& out);
  Value call(const Value& callee, Arguments& arguments);
  Value call_loop(Loop& loop, const Arguments& arguments);
  Value call_macro(const Function& function, const Arguments& arguments);
  void bind_macro(const Function& function, const Arguments& arguments, Scope& scope);

  Runtime& rt_;
  const Template& template_;
  NameId loop_name_ = -1, caller_name_ = -1, varargs_name_ = -1, kwargs_name_ = -1;
  std::deque<Scope> scopes_;
  std::deque<Loop> loops_;
  TextBuilder* out_ = nullptr;
  Value filtered_;  // the text that a filter block hands to its filter
  int level_ = 0;
  int calls_ = 0;
};

}  // namespace heddle::jinja
