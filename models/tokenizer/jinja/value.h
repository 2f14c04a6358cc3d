#pragma once
// Values of the template language (Python's, as far as templates can see them) and their storage.
// A Value is a tag and a word: copied freely, owns nothing. What it points to lives in the Heap of
// one render, or for constants in the parsed template, and is freed all at once without recursion.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/tokenizer/jinja/text.h"

namespace heddle::jinja {

struct Builtin;
struct Dict;
struct Function;
struct List;
struct Loop;
struct Namespace;
struct Range;
struct Scope;
struct Stmt;
struct Undefined;

enum class Type : std::uint8_t {
  kMissing,  // an argument that was not given; never seen by a template
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kView,       // dict.keys(), values(), items(): has a length, no index
  kGenerator,  // result of map, select, ...: read once, no length
  kRange,
  kDict,
  kNamespace,
  kFunction,
  kLoop,
};

struct Value {
  Type type = Type::kMissing;
  union {
    bool boolean;
    std::int64_t integer = 0;
    double real;
    const Text* text;
    const Undefined* undefined;
    List* list;  // kList, kTuple, kView, kGenerator
    const Range* range;
    const Dict* dict;
    Namespace* space;
    const Function* function;
    Loop* loop;
  };

  static Value none() { return tagged(Type::kNone); }
  static Value of(bool x);
  static Value of(std::int64_t x);
  static Value of(double x);
  static Value of(const Text* x);
  static Value tagged(Type type) {
    Value v;
    v.type = type;
    return v;
  }

  bool is(Type t) const { return type == t; }
  bool given() const { return type != Type::kMissing; }
  bool is_string() const { return type == Type::kString; }
  bool is_integer() const { return type == Type::kInt || type == Type::kBool; }  // bool is an int
  bool is_number() const { return is_integer() || type == Type::kFloat; }
  std::int64_t as_integer() const { return type == Type::kBool ? (boolean ? 1 : 0) : integer; }
  double as_real() const { return type == Type::kFloat ? real : static_cast<double>(as_integer()); }
  std::string_view view() const { return text->bytes; }
};

struct Undefined {
  std::string why;  // "'x' is undefined"
};

/// Items of a sequence; `depth` bounds every recursion over values.
struct List {
  std::vector<Value> items;
  int depth = 1;
  const char* view_name = "";  // kView: dict_keys, dict_values, dict_items
  bool used = false;           // kGenerator: already read
};

struct Range {
  std::int64_t start = 0, stop = 0, step = 1;
  std::int64_t size = 0;
};

/// Insertion-ordered. Keys are hashable values; equal numbers are one key, as in Python.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  std::map<std::string_view, std::size_t> strings;  // index of string keys; no key can make it slow
  int depth = 1;

  const Value* find(std::string_view key) const;
};

/// The one value that a template can change.
struct Namespace {
  std::vector<std::pair<const Text*, Value>> attributes;

  Value* find(std::string_view name);
};

struct Function {
  enum class Kind : std::uint8_t { kBuiltin, kMacro, kCaller };
  Kind kind = Kind::kBuiltin;
  const Builtin* builtin = nullptr;
  Value self = {};              // bound methods; kMissing for globals
  const Stmt* macro = nullptr;  // kMacro, kCaller
  Scope* scope = nullptr;       // where it was defined
};

/// Storage of one render.
class Heap {
 public:
  const Text* add(Text text) { return &texts_.emplace_back(std::move(text)); }
  List* add_list() { return &lists_.emplace_back(); }
  Dict* add_dict() { return &dicts_.emplace_back(); }
  Range* add_range() { return &ranges_.emplace_back(); }
  Namespace* add_namespace() { return &spaces_.emplace_back(); }
  Function* add_function() { return &functions_.emplace_back(); }
  Undefined* add_undefined() { return &undefined_.emplace_back(); }

 private:
  std::deque<Text> texts_;
  std::deque<List> lists_;
  std::deque<Dict> dicts_;
  std::deque<Range> ranges_;
  std::deque<Namespace> spaces_;
  std::deque<Function> functions_;
  std::deque<Undefined> undefined_;
};

}  // namespace heddle::jinja
