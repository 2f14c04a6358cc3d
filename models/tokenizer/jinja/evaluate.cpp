// Evaluation of expressions and calls of macros.

#include <algorithm>

#include "models/tokenizer/jinja/interpreter_impl.h"
#include "models/tokenizer/jinja/operators.h"

namespace heddle::jinja {

Value Interpreter::eval(const Expr& e, Scope& scope) {
  if (e.kind == ExprKind::kConst) return e.value;
  if (e.kind == ExprKind::kName) return eval_name(e, scope);
  const Level deeper(*this);
  rt_.charge();
  switch (e.kind) {
    case ExprKind::kList:
    case ExprKind::kTuple:
      return eval_items(e, scope);
    case ExprKind::kDict:
      return eval_dict(e, scope);
    case ExprKind::kAttr:
      return eval_attr(e, scope);
    case ExprKind::kItem:
      return eval_item(e, scope);
    case ExprKind::kSlice:
      return eval_slice(e, scope);
    case ExprKind::kCall:
      return eval_call(e, scope);
    case ExprKind::kFilter:
    case ExprKind::kTest:
      return eval_builtin(e, scope);
    case ExprKind::kNot:
    case ExprKind::kNegate:
    case ExprKind::kPositive:
      return eval_unary(e, scope);
    case ExprKind::kChain:
      return eval_chain(e, scope);
    case ExprKind::kCompare:
      return eval_compare(e, scope);
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return eval_logic(e, scope);
    default:
      return eval_if(e, scope);
  }
}

Value Interpreter::eval_name(const Expr& e, const Scope& scope) {
  rt_.charge();
  for (const Scope* s = &scope; s != nullptr; s = s->parent) {
    for (const auto& [id, value] : s->variables) {
      if (id == e.name) return value;
    }
  }
  const std::string& name = template_.names.name(e.name);
  if (const Builtin* builtin = find_function(name)) {
    Value v = Value::tagged(Type::kFunction);
    Function* f = rt_.heap.add_function();
    f->builtin = builtin;
    v.function = f;
    return v;
  }
  return rt_.undefined(quoted(name) + " is undefined");
}

Value Interpreter::eval_items(const Expr& e, Scope& scope) {
  std::vector<Value> items;
  items.reserve(e.args.size());
  for (const ExprPtr& arg : e.args) items.push_back(eval(*arg, scope));
  rt_.at = e.at;
  return rt_.list(std::move(items), e.kind == ExprKind::kList ? Type::kList : Type::kTuple);
}

Value Interpreter::eval_dict(const Expr& e, Scope& scope) {
  std::vector<Value> parts;
  parts.reserve(e.args.size());
  for (const ExprPtr& arg : e.args) parts.push_back(eval(*arg, scope));
  Dict* dict = rt_.heap.add_dict();
  for (std::size_t i = 0; i < parts.size(); i += 2) {
    rt_.at = e.args[i]->at;
    rt_.insert(*dict, parts[i], parts[i + 1]);
  }
  return rt_.dict(dict);
}

Value Interpreter::eval_attr(const Expr& e, Scope& scope) {
  const Value object = eval(*e.args[0], scope);
  rt_.at = e.at;
  return get_attribute(rt_, object, e.text.bytes);
}

Value Interpreter::eval_item(const Expr& e, Scope& scope) {
  const Value object = eval(*e.args[0], scope);
  const Value key = eval(*e.args[1], scope);
  rt_.at = e.at;
  return get_item(rt_, object, key);
}

Value Interpreter::eval_slice(const Expr& e, Scope& scope) {
  const Value object = eval(*e.args[0], scope);
  Value parts[3];
  for (std::size_t i = 0; i < 3; ++i) {
    parts[i] = e.args[i + 1] ? eval(*e.args[i + 1], scope) : Value::none();
  }
  rt_.at = e.at;
  return get_slice(rt_, object, parts);
}

Value Interpreter::eval_unary(const Expr& e, Scope& scope) {
  const Value v = eval(*e.args[0], scope);
  rt_.at = e.at;
  if (e.kind == ExprKind::kNot) return Value::of(!truthy(v));
  return e.kind == ExprKind::kNegate ? negate(rt_, v) : positive(rt_, v);
}

Value Interpreter::eval_chain(const Expr& e, Scope& scope) {
  Value left = eval(*e.args[0], scope);
  if (e.ops[0] == Op::kConcat) {  // one copy however long the chain
    TextBuilder out;
    append_text(rt_, out, left);
    for (std::size_t i = 1; i < e.args.size(); ++i) {
      append_text(rt_, out, eval(*e.args[i], scope));
    }
    return rt_.text(out);
  }
  for (std::size_t i = 0; i < e.ops.size(); ++i) {
    const Value right = eval(*e.args[i + 1], scope);
    rt_.at = e.at;
    left = arithmetic(rt_, e.ops[i], left, right);
  }
  return left;
}

Value Interpreter::eval_compare(const Expr& e, Scope& scope) {
  Value left = eval(*e.args[0], scope);
  for (std::size_t i = 0; i < e.ops.size(); ++i) {
    const Value right = eval(*e.args[i + 1], scope);
    rt_.at = e.at;
    if (!compare(rt_, e.ops[i], left, right)) return Value::of(false);
    left = right;
  }
  return Value::of(true);
}

Value Interpreter::eval_logic(const Expr& e, Scope& scope) {
  const bool stop = e.kind == ExprKind::kOr;
  Value v;
  for (const ExprPtr& arg : e.args) {
    v = eval(*arg, scope);
    if (truthy(v) == stop) break;
  }
  return v;
}

Value Interpreter::eval_if(const Expr& e, Scope& scope) {
  if (truthy(eval(*e.args[1], scope))) return eval(*e.args[0], scope);
  if (e.args[2]) return eval(*e.args[2], scope);
  return rt_.undefined("the inline if has no else and its condition is false: undefined");
}

void Interpreter::eval_arguments(const Expr& e, Scope& scope, Arguments& out) {
  for (std::size_t i = 1; i < e.args.size(); ++i) {
    out.positional.push_back(eval(*e.args[i], scope));
  }
  if (e.star) {
    const auto& items = items_of(rt_, eval(*e.star, scope));
    rt_.charge(static_cast<std::int64_t>(items.size()));
    out.positional.insert(out.positional.end(), items.begin(), items.end());
  }
  for (const Keyword& keyword : e.keywords) {
    out.named.emplace_back(&keyword.name, eval(*keyword.value, scope));
  }
  if (!e.star_star) return;
  const Value more = eval(*e.star_star, scope);
  rt_.at = e.at;
  if (!more.is(Type::kDict)) rt_.fail("what follows ** must be a dict");
  for (const auto& [key, value] : more.dict->entries) {
    rt_.charge(1 + static_cast<std::int64_t>(out.named.size()) / 8);
    if (!key.is_string()) rt_.fail("keywords must be strings");
    for (const NamedValue& other : out.named) {
      if (other.first->bytes == key.view()) {
        rt_.fail("the keyword " + quoted(key.view()) + " is there twice");
      }
    }
    out.named.emplace_back(key.text, value);
  }
}

Value Interpreter::eval_builtin(const Expr& e, Scope& scope) {
  Arguments arguments;
  arguments.positional.push_back(e.args[0] ? eval(*e.args[0], scope) : filtered_);
  eval_arguments(e, scope, arguments);
  rt_.at = e.at;
  if (e.builtin == nullptr) {
    rt_.fail(unknown_builtin(e.kind == ExprKind::kFilter, e.text.bytes));
  }
  return call_builtin(rt_, *e.builtin, arguments);
}

Value Interpreter::eval_call(const Expr& e, Scope& scope) {
  const Value callee = eval(*e.args[0], scope);
  Arguments arguments;
  eval_arguments(e, scope, arguments);
  rt_.at = e.at;
  return call(callee, arguments);
}

Value Interpreter::call(const Value& callee, Arguments& arguments) {
  if (callee.is(Type::kUndefined)) rt_.fail(callee.undefined->why);
  if (callee.is(Type::kLoop)) return call_loop(*callee.loop, arguments);
  if (!callee.is(Type::kFunction)) rt_.fail("'" + type_name(callee) + "' object is not callable");
  const Function& f = *callee.function;
  if (f.self.given()) arguments.positional.insert(arguments.positional.begin(), f.self);
  return f.kind == Function::Kind::kBuiltin ? call_builtin(rt_, *f.builtin, arguments)
                                            : call_macro(f, arguments);
}

Value Interpreter::call_loop(Loop& loop, const Arguments& arguments) {
  if (loop.statement == nullptr) {
    rt_.fail("the loop is not 'recursive', it cannot be called");
  }
  if (arguments.positional.size() != 1 || !arguments.named.empty()) {
    rt_.fail("loop() takes one iterable");
  }
  if (calls_ >= rt_.limits().depth) rt_.fail("loop() calls itself too deep");
  ++calls_;
  Capture capture(*this);
  exec_for(*loop.statement, *loop.scope, arguments.positional[0], loop.depth + 1);
  --calls_;
  return rt_.text(capture.text);
}

void Interpreter::bind_macro(const Function& f, const Arguments& arguments, Scope& scope) {
  const Stmt& m = *f.macro;
  const std::string name = quoted(template_.names.name(m.name));
  const std::size_t n_given = std::min(arguments.positional.size(), m.params.size());
  std::vector<bool> used(arguments.named.size(), false);
  const auto take = [&](std::string_view wanted) -> const Value* {
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (used[i] || arguments.named[i].first->bytes != wanted) continue;
      used[i] = true;
      return &arguments.named[i].second;
    }
    return nullptr;
  };
  // Jinja fills in keywords first and defaults afterwards, so that a default sees every argument.
  std::vector<const Param*> absent;
  for (std::size_t i = 0; i < m.params.size(); ++i) {
    const Param& p = m.params[i];
    const std::string& param = template_.names.name(p.name);
    const Value* value = i < n_given ? &arguments.positional[i] : take(param);
    if (value != nullptr) {
      scope.set(p.name, *value);
    } else {
      scope.set(p.name, rt_.undefined("parameter " + quoted(param) + " was not given: undefined"));
      absent.push_back(&p);
    }
  }
  if (m.uses_caller) {
    const Value* caller = take("caller");
    scope.set(caller_name_, caller != nullptr ? *caller : rt_.undefined("no caller is defined"));
  }
  if (m.uses_kwargs) {
    Dict* rest = rt_.heap.add_dict();
    for (std::size_t i = 0; i < used.size(); ++i) {
      const auto& [key, value] = arguments.named[i];
      if (!used[i]) rt_.insert(*rest, Value::of(key), value);
    }
    scope.set(kwargs_name_, rt_.dict(rest));
  } else {
    for (std::size_t i = 0; i < used.size(); ++i) {
      if (used[i]) continue;
      rt_.fail("macro " + name + " has no argument " + quoted(arguments.named[i].first->bytes));
    }
  }
  if (m.uses_varargs) {
    std::vector<Value> rest(arguments.positional.begin() + static_cast<std::ptrdiff_t>(n_given),
                            arguments.positional.end());
    scope.set(varargs_name_, rt_.list(std::move(rest), Type::kTuple));
  } else if (arguments.positional.size() > m.params.size()) {
    rt_.fail("macro " + name + " takes at most " + std::to_string(m.params.size()) +
             " arguments, got " + std::to_string(arguments.positional.size()));
  }
  for (const Param* p : absent) {
    if (p->fallback) scope.set(p->name, eval(*p->fallback, scope));
  }
}

Value Interpreter::call_macro(const Function& f, const Arguments& arguments) {
  if (calls_ >= rt_.limits().depth) {
    rt_.fail("macros call each other deeper than " + std::to_string(rt_.limits().depth) +
             " levels");
  }
  ++calls_;
  Scope& scope = new_scope(f.scope, f.macro->hidden);
  bind_macro(f, arguments, scope);
  Capture capture(*this);
  exec(f.macro->body, scope);
  --calls_;
  return rt_.text(capture.text);
}

// Loops.

bool Loop::has(std::size_t i) {
  if (!filter) return i < source->size();
  while (kept.size() <= i && n_read < source->size()) {
    const Value& item = (*source)[n_read++];
    if (filter(item)) kept.push_back(item);
  }
  return i < kept.size();
}

Value loop_attribute(Runtime& rt, const Value& value, std::string_view name) {
  Loop& loop = *value.loop;
  const auto index = static_cast<std::int64_t>(loop.index);
  const auto size = [&loop] {
    loop.has(loop.source->size());
    return static_cast<std::int64_t>(loop.filter ? loop.kept.size() : loop.source->size());
  };
  if (name == "index0") return Value::of(index);
  if (name == "index") return Value::of(index + 1);
  if (name == "first") return Value::of(index == 0);
  if (name == "last") return Value::of(!loop.has(loop.index + 1));
  if (name == "length") return Value::of(size());
  if (name == "revindex") return Value::of(size() - index);
  if (name == "revindex0") return Value::of(size() - index - 1);
  if (name == "depth") return Value::of(static_cast<std::int64_t>(loop.depth));
  if (name == "depth0") return Value::of(static_cast<std::int64_t>(loop.depth - 1));
  if (name == "previtem") {
    return index > 0 ? loop.item(loop.index - 1)
                     : rt.undefined("there is no previous item: undefined");
  }
  if (name == "nextitem") {
    return loop.has(loop.index + 1) ? loop.item(loop.index + 1)
                                    : rt.undefined("there is no next item: undefined");
  }
  if (name == "cycle" || name == "changed") {
    const Builtin* builtin = find_function(name == "cycle" ? "loop.cycle" : "loop.changed");
    Value v = Value::tagged(Type::kFunction);
    Function* f = rt.heap.add_function();
    f->builtin = builtin;
    f->self = value;
    v.function = f;
    return v;
  }
  return {};
}

}  // namespace heddle::jinja
