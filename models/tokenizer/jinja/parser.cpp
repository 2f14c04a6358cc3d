#include "models/tokenizer/jinja/parser.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/parser_impl.h"

namespace heddle::jinja {

NameId Names::id(std::string_view name) {
  const auto [it, fresh] = ids_.emplace(std::string(name), static_cast<NameId>(names_.size()));
  if (fresh) names_.emplace_back(name);
  return it->second;
}

NameId Names::find(std::string_view name) const {
  const auto it = ids_.find(std::string(name));
  return it == ids_.end() ? -1 : it->second;
}

Template parse(std::string_view source, const TemplateLimits& limits) {
  Template out;
  out.source = normalize_source(source);
  Parser(out, limits).run();
  hide_names(out);
  return out;
}

Parser::Parser(Template& out, const TemplateLimits& limits)
    : out_(out), max_depth_(limits.depth), tokens_(tokenize(out.source)) {}

Parser::Level::Level(Parser& p) : parser(p) {
  if (++p.level_ > p.max_depth_) {
    --p.level_;
    p.fail(p.now().at, "nested deeper than " + std::to_string(p.max_depth_) + " levels");
  }
}

void Parser::run() {
  out_.body = block({});
  if (now().type != Tok::kEnd) unexpected("the end");
  refuse_unknown(0);
}

void Parser::fail(std::uint32_t at, const std::string& text) const {
  throw error_at(out_.source, at, text);
}

void Parser::unexpected(std::string_view wanted) const {
  const Token& token = now();
  std::string got = quoted(token.text);
  if (token.type == Tok::kEnd) got = "the end of the template";
  if (token.type == Tok::kData) got = "text";
  fail(token.at, "expected " + std::string(wanted) + ", got " + got);
}

void Parser::refuse_unknown(std::size_t first) const {
  if (first >= unknown_.size()) return;
  const Expr& e = *unknown_[first];
  fail(e.at, unknown_builtin(e.kind == ExprKind::kFilter, e.text.bytes));
}

bool Parser::is_op(std::string_view text) const {
  return now().type == Tok::kOperator && now().text == text;
}

bool Parser::is_name(std::string_view text) const {
  return now().type == Tok::kName && now().text == text;
}

bool Parser::is_end_name(std::initializer_list<std::string_view> names) const {
  return std::any_of(names.begin(), names.end(), [&](auto n) { return is_name(n); });
}

bool Parser::skip_op(std::string_view text) {
  if (!is_op(text)) return false;
  ++pos_;
  return true;
}

bool Parser::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  ++pos_;
  return true;
}

void Parser::expect_op(std::string_view text) {
  if (!skip_op(text)) unexpected("'" + std::string(text) + "'");
}

void Parser::expect_name(std::string_view text) {
  if (!skip_name(text)) unexpected("'" + std::string(text) + "'");
}

const Token& Parser::expect(Tok type) {
  if (now().type != type) unexpected(type == Tok::kName ? "a name" : "'%}'");
  return tokens_[pos_++];
}

std::unique_ptr<Stmt> Parser::new_stmt(StmtKind kind, std::uint32_t at) const {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->at = at;
  return stmt;
}

void Parser::end_tag() {
  if (now().type != Tok::kBlockEnd) unexpected("'%}'");
  ++pos_;
}

/// Elements up to a tag that starts with one of `ends`; stops at that name.
Block Parser::block(std::initializer_list<std::string_view> ends) {
  const Level level(*this);
  Block out;
  while (now().type != Tok::kEnd) {
    if (now().type == Tok::kBlockBegin) {
      ++pos_;
      if (is_end_name(ends)) return out;
      auto stmt = tag();
      if (stmt) out.push_back(std::move(stmt));
      end_tag();
    } else {
      element(out);
    }
  }
  if (ends.size() > 0) {
    std::string wanted;
    for (const auto& end : ends) {
      wanted += (wanted.empty() ? "'" : " or '") + std::string(end) + "'";
    }
    unexpected(wanted);
  }
  return out;
}

void Parser::element(Block& out) {
  const Token token = tokens_[pos_++];
  if (token.type == Tok::kData) {
    auto stmt = new_stmt(StmtKind::kText, token.at);
    stmt->text = make_text(std::string(token.text), false);
    out.push_back(std::move(stmt));
    return;
  }
  auto stmt = new_stmt(StmtKind::kOutput, token.at);
  stmt->exprs.push_back(tuple(true, false));
  if (now().type != Tok::kVariableEnd) unexpected("'}}'");
  ++pos_;
  out.push_back(std::move(stmt));
}

std::unique_ptr<Stmt> Parser::tag() {
  if (now().type != Tok::kName) unexpected("the name of a tag");
  const Token token = tokens_[pos_++];
  const std::string_view n = token.text;
  if (n == "if") return if_tag(token.at);
  if (n == "for") return for_tag(token.at);
  if (n == "set") return set_tag(token.at);
  if (n == "macro") return macro_tag(token.at);
  if (n == "call") return call_tag(token.at);
  if (n == "filter") return filter_tag(token.at);
  if (n == "with") return with_tag(token.at);
  if (n == "generation") return generation_tag(token.at);
  if (n == "print") {
    auto stmt = new_stmt(StmtKind::kOutput, token.at);
    while (now().type != Tok::kBlockEnd) {
      if (!stmt->exprs.empty()) expect_op(",");
      stmt->exprs.push_back(expression());
    }
    return stmt;
  }
  if (n == "break" || n == "continue") {
    if (loops_ == 0) fail(token.at, quoted(n) + " outside a loop");
    return new_stmt(n == "break" ? StmtKind::kBreak : StmtKind::kContinue, token.at);
  }
  for (const std::string_view refused :
       {"include", "import", "from", "extends", "block", "autoescape", "do", "trans", "debug"}) {
    if (n == refused) fail(token.at, "the tag " + quoted(n) + " is not supported");
  }
  fail(token.at, "unknown or misplaced tag " + quoted(n));
}

std::unique_ptr<Stmt> Parser::if_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kIf, at);
  const std::size_t n_unknown = unknown_.size();
  do {
    Branch branch;
    branch.condition = tuple(false, false);
    end_tag();
    branch.body = block({"elif", "else", "endif"});
    stmt->branches.push_back(std::move(branch));
  } while (skip_name("elif"));
  if (skip_name("else")) {
    end_tag();
    stmt->body = block({"endif"});
  }
  expect_name("endif");
  unknown_.resize(n_unknown);
  return stmt;
}

void Parser::check_loop_target(const Expr& target) const {
  if (target.kind == ExprKind::kAttr) fail(target.at, "a loop cannot assign to an attribute");
  if (target.kind == ExprKind::kName && out_.names.name(target.name) == "loop") {
    fail(target.at, "a loop cannot assign to 'loop'");
  }
  for (const ExprPtr& part : target.args) check_loop_target(*part);
}

std::unique_ptr<Stmt> Parser::for_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kFor, at);
  stmt->target = target("in");
  check_loop_target(*stmt->target);
  expect_name("in");
  stmt->exprs.push_back(tuple(false, false, "recursive"));
  const std::size_t n_unknown = unknown_.size();
  if (skip_name("if")) stmt->filter = expression();
  stmt->recursive = skip_name("recursive");
  end_tag();
  ++loops_;
  stmt->body = block({"else", "endfor"});
  --loops_;
  if (skip_name("else")) {
    end_tag();
    stmt->other = block({"endfor"});
  }
  expect_name("endfor");
  refuse_unknown(n_unknown);
  return stmt;
}

std::unique_ptr<Stmt> Parser::set_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kSet, at);
  stmt->target = target({});
  if (skip_op("=")) {
    stmt->exprs.push_back(tuple(true, false));
    return stmt;
  }
  stmt->kind = StmtKind::kSetBlock;
  const std::size_t n_unknown = unknown_.size();
  if (is_op("|")) stmt->filter = postfix(nullptr, true);
  end_tag();
  stmt->body = block({"endset"});
  expect_name("endset");
  refuse_unknown(n_unknown);
  return stmt;
}

void Parser::signature(Stmt& macro) {
  const std::size_t n_unknown = unknown_.size();
  expect_op("(");
  while (!is_op(")")) {
    if (!macro.params.empty()) expect_op(",");
    const Token& token = expect(Tok::kName);
    Param param;
    param.name = out_.names.id(token.text);
    const auto same = [&](const Param& p) { return p.name == param.name; };
    if (std::any_of(macro.params.begin(), macro.params.end(), same)) {
      fail(token.at, "the parameter " + quoted(token.text) + " is there twice");
    }
    if (skip_op("=")) {
      param.fallback = expression();
    } else if (!macro.params.empty() && macro.params.back().fallback) {
      fail(token.at, "a parameter without a default follows one with a default");
    }
    macro.params.push_back(std::move(param));
  }
  expect_op(")");
  refuse_unknown(n_unknown);
}

/// The body of a macro or call block: loops outside cannot be left from it.
void Parser::function_body(Stmt& function, std::string_view end) {
  const int loops = std::exchange(loops_, 0);
  const Uses outer = std::exchange(uses_, {});
  const std::size_t n_unknown = unknown_.size();
  end_tag();
  function.body = block({end});
  expect_name(end);
  refuse_unknown(n_unknown);
  function.uses_caller = uses_.caller;
  function.uses_varargs = uses_.varargs;
  function.uses_kwargs = uses_.kwargs;
  for (const Param& p : function.params) {
    const std::string& name = out_.names.name(p.name);
    if (name == "caller" && !p.fallback) {
      fail(function.at, "a parameter named 'caller' needs a default");
    }
    if (name == "caller") function.uses_caller = false;
    if (name == "varargs") function.uses_varargs = false;
    if (name == "kwargs") function.uses_kwargs = false;
  }
  uses_ = {outer.caller || uses_.caller, outer.varargs || uses_.varargs,
           outer.kwargs || uses_.kwargs};
  loops_ = loops;
}

std::unique_ptr<Stmt> Parser::macro_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kMacro, at);
  stmt->name = out_.names.id(expect(Tok::kName).text);
  signature(*stmt);
  function_body(*stmt, "endmacro");
  return stmt;
}

std::unique_ptr<Stmt> Parser::call_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kCall, at);
  stmt->name = out_.names.id("caller");
  if (is_op("(")) signature(*stmt);
  stmt->exprs.push_back(expression());
  if (stmt->exprs[0]->kind != ExprKind::kCall) fail(at, "a call block needs a call");
  function_body(*stmt, "endcall");
  return stmt;
}

std::unique_ptr<Stmt> Parser::filter_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kFilter, at);
  const std::size_t n_unknown = unknown_.size();
  stmt->filter = filter(nullptr);
  stmt->filter = postfix(std::move(stmt->filter), true);
  end_tag();
  stmt->body = block({"endfilter"});
  expect_name("endfilter");
  refuse_unknown(n_unknown);
  return stmt;
}

std::unique_ptr<Stmt> Parser::with_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kWith, at);
  while (now().type != Tok::kBlockEnd) {
    if (!stmt->targets.empty()) expect_op(",");
    stmt->targets.push_back(one_target());
    expect_op("=");
    stmt->exprs.push_back(expression());
  }
  end_tag();
  const std::size_t n_unknown = unknown_.size();
  stmt->body = block({"endwith"});
  expect_name("endwith");
  refuse_unknown(n_unknown);
  return stmt;
}

/// Marks what the assistant says, for training; rendering only gives it a scope.
std::unique_ptr<Stmt> Parser::generation_tag(std::uint32_t at) {
  auto stmt = new_stmt(StmtKind::kScope, at);
  function_body(*stmt, "endgeneration");
  return stmt;
}

}  // namespace heddle::jinja
