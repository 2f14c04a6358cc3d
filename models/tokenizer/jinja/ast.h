#pragma once
// A parsed template. Immutable; heights are bounded by the parser, so recursion over it is safe.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/value.h"

namespace heddle::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Block = std::vector<std::unique_ptr<Stmt>>;

/// Number of a variable name, from Names.
using NameId = int;

class Names {
 public:
  NameId id(std::string_view name);
  NameId find(std::string_view name) const;  // -1 if the template does not use it
  const std::string& name(NameId id) const { return names_[static_cast<std::size_t>(id)]; }

 private:
  std::unordered_map<std::string, NameId> ids_;
  std::vector<std::string> names_;
};

enum class ExprKind : std::uint8_t {
  kConst,
  kName,
  kList,
  kTuple,
  kDict,    // args: key, value, key, value, ...
  kAttr,    // args[0].text
  kItem,    // args[0][args[1]]
  kSlice,   // args[0][args[1]:args[2]:args[3]], absent parts null
  kCall,    // args[0](args[1...], keywords, *star, **star_star)
  kFilter,  // args[0] | builtin(args[1...]); args[0] is null in a filter block
  kTest,    // args[0] is builtin(args[1...]); builtin is null where `text` names an unknown one
  kNot,
  kNegate,
  kPositive,
  kChain,    // args[0] ops[0] args[1] ops[1] ...: left to right
  kCompare,  // the same, chained as Python does
  kAnd,
  kOr,
  kIf,  // args[0] if args[1] else args[2] (may be null)
};

struct Keyword {
  Text name;
  ExprPtr value;
};

struct Expr {
  ExprKind kind = ExprKind::kConst;
  std::uint32_t at = 0;
  int height = 1;
  NameId name = -1;
  Value value;  // kConst; a string points to `text`
  Text text;
  const Builtin* builtin = nullptr;
  std::vector<ExprPtr> args;
  std::vector<Op> ops;
  std::vector<Keyword> keywords;
  ExprPtr star, star_star;
};

enum class StmtKind : std::uint8_t {
  kText,
  kOutput,    // exprs
  kIf,        // branches; body is the else
  kFor,       // for target in exprs[0] if filter: body else other
  kSet,       // target = exprs[0]
  kSetBlock,  // target = body, through filter if there is one
  kMacro,
  kCall,    // exprs[0] called with body as its caller
  kFilter,  // filter over body
  kWith,    // targets and exprs, body
  kScope,   // generation: body in a scope of its own
  kBreak,
  kContinue,
};

struct Branch {
  ExprPtr condition;
  Block body;
};

struct Param {
  NameId name = -1;
  ExprPtr fallback;  // null: required, else undefined
};

struct Stmt {
  StmtKind kind = StmtKind::kText;
  std::uint32_t at = 0;
  Text text;
  std::vector<ExprPtr> exprs;
  ExprPtr target, filter;
  std::vector<ExprPtr> targets;
  std::vector<Branch> branches;
  Block body, other;
  std::vector<NameId> hidden, hidden_other;  // of body and other: see hide_names
  bool recursive = false;                    // kFor
  // kMacro, kCall
  NameId name = -1;
  std::vector<Param> params;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

struct Template {
  std::string source;  // normalized
  Names names;
  Block body;
  std::vector<NameId> hidden;
};

}  // namespace heddle::jinja
