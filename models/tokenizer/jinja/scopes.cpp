// What Jinja's compiler settles about names, as far as a render shows it.

#include <unordered_map>
#include <vector>

#include "models/tokenizer/jinja/parser_impl.h"

namespace heddle::jinja {
namespace {

enum class Mention : std::uint8_t {
  kOuter,   // read first, set in an if, or a parameter
  kOwn,     // set first, and no scope around mentions it
  kHidden,  // kOwn, and a scope inside refers to it
};

/// One block with a scope of its own, and how it mentions names first.
struct Frame {
  const Names& names;
  Frame* parent = nullptr;
  std::vector<NameId>* hidden = nullptr;
  std::unordered_map<NameId, Mention> mentions = {};
  std::vector<Stmt*> inner = {};  // statements with scopes inside this one

  Frame inside(std::vector<NameId>& list) { return {names, this, &list}; }
  void mention(NameId name, bool sets);
  void parameter(NameId name) { mentions.emplace(name, Mention::kOuter); }
  void parameters(const Expr& target);
  void parameters(const Stmt& function);
  void reads(const Expr* e);
  void sets(const Expr& target, bool in_if);
  void block(Block& body, bool in_if);
  void statement(Stmt& stmt, bool in_if);
  void close();
};

void Frame::mention(NameId name, bool sets) {
  const auto [own, fresh] = mentions.emplace(name, Mention::kOuter);
  if (!fresh) return;
  for (Frame* f = parent; f != nullptr; f = f->parent) {
    const auto it = f->mentions.find(name);
    if (it == f->mentions.end()) continue;
    if (it->second == Mention::kOwn) {
      it->second = Mention::kHidden;
      f->hidden->push_back(name);
    }
    return;
  }
  if (sets) own->second = Mention::kOwn;
}

void Frame::parameters(const Expr& target) {
  if (target.kind == ExprKind::kName) parameter(target.name);
  for (const ExprPtr& part : target.args) parameters(*part);
}

void Frame::parameters(const Stmt& function) {
  for (const Param& p : function.params) parameter(p.name);
  const auto implied = [&](bool used, const char* name) {
    if (used) parameter(names.find(name));
  };
  implied(function.uses_caller, "caller");
  implied(function.uses_varargs, "varargs");
  implied(function.uses_kwargs, "kwargs");
  for (const Param& p : function.params) reads(p.fallback.get());
}

void Frame::reads(const Expr* e) {
  if (e == nullptr) return;
  if (e->kind == ExprKind::kName) mention(e->name, false);
  for (const ExprPtr& arg : e->args) reads(arg.get());
  for (const Keyword& keyword : e->keywords) reads(keyword.value.get());
  reads(e->star.get());
  reads(e->star_star.get());
}

void Frame::sets(const Expr& target, bool in_if) {
  const bool name = target.kind == ExprKind::kName;
  if (name || target.kind == ExprKind::kAttr) mention(target.name, name && !in_if);
  for (const ExprPtr& part : target.args) sets(*part, in_if);
}

void Frame::block(Block& body, bool in_if) {
  for (const auto& stmt : body) statement(*stmt, in_if);
}

/// What of a statement belongs to this scope; the rest waits in `inner`, because scopes inside see
/// all mentions of this one, also later ones.
void Frame::statement(Stmt& stmt, bool in_if) {
  for (const ExprPtr& e : stmt.exprs) reads(e.get());
  switch (stmt.kind) {
    case StmtKind::kIf:
      for (Branch& branch : stmt.branches) {
        reads(branch.condition.get());
        block(branch.body, true);
      }
      block(stmt.body, true);
      return;
    case StmtKind::kSet:
      sets(*stmt.target, in_if);
      return;
    case StmtKind::kSetBlock:
      sets(*stmt.target, in_if);
      break;
    case StmtKind::kMacro:
      mention(stmt.name, !in_if);
      break;
    case StmtKind::kFilter:
      reads(stmt.filter.get());
      break;
    case StmtKind::kFor:
    case StmtKind::kCall:
    case StmtKind::kWith:
    case StmtKind::kScope:
      break;
    default:
      return;
  }
  inner.push_back(&stmt);
}

/// Goes through the scopes inside.
void Frame::close() {
  for (Stmt* stmt : inner) {
    Frame body = inside(stmt->hidden);
    if (stmt->kind == StmtKind::kFor) {
      Frame test = inside(stmt->hidden);
      test.parameters(*stmt->target);
      test.reads(stmt->filter.get());
      Frame other = inside(stmt->hidden_other);
      other.block(stmt->other, false);
      other.close();
      body.parameters(*stmt->target);
      if (names.find("loop") >= 0) body.parameter(names.find("loop"));
    } else if (stmt->kind == StmtKind::kMacro || stmt->kind == StmtKind::kCall) {
      body.parameters(*stmt);
    }
    for (const ExprPtr& target : stmt->targets) body.parameters(*target);
    body.block(stmt->body, false);
    if (stmt->kind == StmtKind::kSetBlock) body.reads(stmt->filter.get());
    body.close();
  }
}

}  // namespace

void hide_names(Template& parsed) {
  Frame root{parsed.names, nullptr, &parsed.hidden};
  root.block(parsed.body, false);
  root.close();
}

}  // namespace heddle::jinja
