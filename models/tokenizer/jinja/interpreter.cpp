#include "models/tokenizer/jinja/interpreter.h"

#include <algorithm>

#include "models/tokenizer/jinja/interpreter_impl.h"
#include "models/tokenizer/jinja/operators.h"

namespace heddle::jinja {

Text render(Runtime& rt, const Template& parsed, const Variables& variables) {
  return Interpreter(rt, parsed).run(variables);
}

void Scope::set(NameId name, const Value& value) {
  for (auto& [id, old] : variables) {
    if (id == name) {
      old = value;
      return;
    }
  }
  variables.emplace_back(name, value);
}

// The walk recurses over the tree, which the parser keeps within limits.depth, and once more for
// every call of a macro. A walk of a real template stays far below this product.
Interpreter::Level::Level(Interpreter& walker) : level(walker.level_) {
  if (level >= 3 * walker.rt_.limits().depth) {
    walker.rt_.fail("the template recurses too deep");
  }
  ++level;
}

Text Interpreter::run(const Variables& variables) {
  const Names& names = template_.names;
  loop_name_ = names.find("loop");
  caller_name_ = names.find("caller");
  varargs_name_ = names.find("varargs");
  kwargs_name_ = names.find("kwargs");
  Scope& globals = new_scope(nullptr);
  for (const auto& [name, value] : variables) {
    const NameId id = names.find(name);
    if (id >= 0) globals.set(id, value);
  }
  TextBuilder text;
  out_ = &text;
  exec(template_.body, new_scope(&globals, template_.hidden));
  return text.take();
}

Scope& Interpreter::new_scope(Scope* parent, const std::vector<NameId>& hidden) {
  rt_.charge();
  Scope& scope = scopes_.emplace_back();
  scope.parent = parent;
  hide(hidden, scope);
  return scope;
}

void Interpreter::hide(const std::vector<NameId>& names, Scope& scope) {
  for (const NameId id : names) {
    scope.set(id, rt_.undefined(quoted(template_.names.name(id)) + " is undefined"));
  }
}

void Interpreter::write(const Text& text) {
  rt_.charge_bytes(text.bytes.size() + text.untrusted.size() * sizeof(ByteRange));
  out_->append(text);
  if (out_->size() > rt_.limits().output_bytes) {
    rt_.fail("the output is longer than " + std::to_string(rt_.limits().output_bytes) + " bytes");
  }
}

void Interpreter::write(const Value& value) {
  write(*to_text(rt_, value).text);
}

Interpreter::Flow Interpreter::exec(const Block& block, Scope& scope) {
  for (const auto& stmt : block) {
    const Flow flow = exec(*stmt, scope);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec(const Stmt& stmt, Scope& scope) {
  const Level deeper(*this);
  rt_.at = stmt.at;
  rt_.charge();
  switch (stmt.kind) {
    case StmtKind::kText:
      write(stmt.text);
      return Flow::kNext;
    case StmtKind::kOutput:
      exec_output(stmt, scope);
      return Flow::kNext;
    case StmtKind::kIf:
      return exec_if(stmt, scope);
    case StmtKind::kFor:
      return exec_for(stmt, scope, eval(*stmt.exprs[0], scope), 1);
    case StmtKind::kSet:
      exec_set(stmt, scope);
      return Flow::kNext;
    case StmtKind::kSetBlock:
      return exec_set_block(stmt, scope);
    case StmtKind::kMacro:
      exec_macro(stmt, scope);
      return Flow::kNext;
    case StmtKind::kCall:
      exec_call(stmt, scope);
      return Flow::kNext;
    case StmtKind::kFilter:
      return exec_filter(stmt, scope);
    case StmtKind::kWith:
      return exec_with(stmt, scope);
    case StmtKind::kScope:
      return exec(stmt.body, new_scope(&scope, stmt.hidden));
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

void Interpreter::exec_output(const Stmt& stmt, Scope& scope) {
  for (const ExprPtr& e : stmt.exprs) {
    const Value value = eval(*e, scope);
    rt_.at = e->at;
    write(value);
  }
}

Interpreter::Flow Interpreter::exec_if(const Stmt& stmt, Scope& scope) {
  for (const Branch& branch : stmt.branches) {
    if (truthy(eval(*branch.condition, scope))) return exec(branch.body, scope);
  }
  return exec(stmt.body, scope);
}

Interpreter::Flow Interpreter::exec_for(const Stmt& stmt,
                                        Scope& scope,
                                        const Value& iterable,
                                        int depth) {
  rt_.at = stmt.exprs[0]->at;
  Loop& loop = loops_.emplace_back();
  loop.source = &items_of(rt_, iterable);
  loop.depth = depth;
  loop.statement = stmt.recursive ? &stmt : nullptr;
  loop.scope = &scope;
  if (stmt.filter) {
    Scope* const inner = &new_scope(&scope);
    loop.filter = [this, &stmt, inner](const Value& item) {
      inner->variables.clear();
      assign(*stmt.target, item, *inner);
      return truthy(eval(*stmt.filter, *inner));
    };
  }
  // As in Jinja, the else also runs where every iteration ended in a break or continue.
  const bool completed = run_loop(stmt, new_scope(&scope), loop);
  if (completed || stmt.other.empty()) return Flow::kNext;
  return exec(stmt.other, new_scope(&scope, stmt.hidden_other));
}

/// Returns whether the body ran to its end at least once.
bool Interpreter::run_loop(const Stmt& stmt, Scope& scope, Loop& loop) {
  Value self = Value::tagged(Type::kLoop);
  self.loop = &loop;
  bool completed = false;
  for (; loop.has(loop.index); ++loop.index) {
    rt_.charge();
    scope.variables.clear();
    if (loop_name_ >= 0) scope.set(loop_name_, self);
    assign(*stmt.target, loop.item(loop.index), scope);
    hide(stmt.hidden, scope);
    const Flow flow = exec(stmt.body, scope);
    completed = completed || flow == Flow::kNext;
    if (flow == Flow::kBreak) break;
  }
  return completed;
}

void Interpreter::exec_set(const Stmt& stmt, Scope& scope) {
  const Value value = eval(*stmt.exprs[0], scope);
  rt_.at = stmt.at;
  assign(*stmt.target, value, scope);
}

Interpreter::Flow Interpreter::exec_set_block(const Stmt& stmt, Scope& scope) {
  Value value;
  {
    Capture capture(*this);
    const Flow flow = exec(stmt.body, new_scope(&scope, stmt.hidden));
    if (flow != Flow::kNext) return flow;
    value = rt_.text(capture.text);
  }
  if (stmt.filter) {
    filtered_ = value;
    value = eval(*stmt.filter, scope);
  }
  rt_.at = stmt.at;
  assign(*stmt.target, value, scope);
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_filter(const Stmt& stmt, Scope& scope) {
  Value value;
  Scope& inner = new_scope(&scope, stmt.hidden);
  {
    Capture capture(*this);
    const Flow flow = exec(stmt.body, inner);
    if (flow != Flow::kNext) return flow;
    value = rt_.text(capture.text);
  }
  filtered_ = value;
  write(eval(*stmt.filter, inner));
  return Flow::kNext;
}

Interpreter::Flow Interpreter::exec_with(const Stmt& stmt, Scope& scope) {
  Scope& inner = new_scope(&scope, stmt.hidden);
  for (std::size_t i = 0; i < stmt.targets.size(); ++i) {
    assign(*stmt.targets[i], eval(*stmt.exprs[i], scope), inner);
  }
  return exec(stmt.body, inner);
}

Value Interpreter::function(Function::Kind kind, const Stmt& stmt, Scope& scope) {
  rt_.charge();
  Value v = Value::tagged(Type::kFunction);
  Function* f = rt_.heap.add_function();
  f->kind = kind;
  f->macro = &stmt;
  f->scope = &scope;
  v.function = f;
  return v;
}

void Interpreter::exec_macro(const Stmt& stmt, Scope& scope) {
  scope.set(stmt.name, function(Function::Kind::kMacro, stmt, scope));
}

void Interpreter::exec_call(const Stmt& stmt, Scope& scope) {
  const Expr& call_expr = *stmt.exprs[0];
  const Value callee = eval(*call_expr.args[0], scope);
  Arguments arguments;
  eval_arguments(call_expr, scope, arguments);
  const Text caller = make_text("caller", false);
  arguments.named.emplace_back(rt_.heap.add(caller),
                               function(Function::Kind::kCaller, stmt, scope));
  rt_.at = call_expr.at;
  write(call(callee, arguments));
}

void Interpreter::assign(const Expr& target, const Value& value, Scope& scope) {
  if (target.kind == ExprKind::kName) {
    scope.set(target.name, value);
  } else if (target.kind == ExprKind::kAttr) {
    assign_attribute(target, value, scope);
  } else {
    assign_tuple(target, value, scope);
  }
}

void Interpreter::assign_attribute(const Expr& target, const Value& value, Scope& scope) {
  const Value space = eval_name(target, scope);
  if (!space.is(Type::kNamespace)) rt_.fail("cannot assign an attribute of what is no namespace");
  check_attribute_name(rt_, target.text.bytes);
  rt_.charge(1 + static_cast<std::int64_t>(space.space->attributes.size()) / 8);
  if (Value* old = space.space->find(target.text.bytes)) {
    *old = value;
  } else {
    space.space->attributes.emplace_back(&target.text, value);
  }
}

void Interpreter::assign_tuple(const Expr& target, const Value& value, Scope& scope) {
  const std::vector<Value>& items = items_of(rt_, value);
  if (items.size() != target.args.size()) {
    rt_.fail("cannot unpack " + std::to_string(items.size()) + " values into " +
             std::to_string(target.args.size()) + " names");
  }
  for (std::size_t i = 0; i < items.size(); ++i) assign(*target.args[i], items[i], scope);
}

}  // namespace heddle::jinja
