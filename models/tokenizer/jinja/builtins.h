#pragma once
// Filters, tests, global functions and methods, by name.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/tokenizer/jinja/runtime.h"

namespace heddle::jinja {

using NamedValue = std::pair<const Text*, Value>;

/// What a call passes. positional[0] is the subject of a filter, test or method.
struct Arguments {
  std::vector<Value> positional;
  std::vector<NamedValue> named;
};

constexpr int kMaxParams = 6;

/// One call of a builtin: the arguments bound to its parameters, kMissing where not given.
struct Call {
  Runtime& rt;
  const Builtin& builtin;
  const Arguments& all;
  Value arg[kMaxParams] = {};

  [[noreturn]] void fail(const std::string& why) const;  // "name: why"
  bool flag(int i, bool fallback) const;                 // truth of arg[i]
  std::int64_t integer(int i, std::int64_t fallback) const;
  /// arg[i] as str(); the subject of string filters may be anything.
  const Text& text(int i) const;
  /// arg[i], which must be a string.
  const Text& string(int i) const;
  /// A new string from arguments without a map of parts: untrusted if any part of `from` is.
  Value derived(std::string bytes, std::initializer_list<const Text*> from) const;
};

/// Of builtins: takes any arguments beyond `params`, through Call::all; returns markup for markup.
enum Traits : std::uint8_t { kVariadic = 1, kKeepsMarkup = 2 };

struct Builtin {
  std::string_view name;
  Value (*run)(Call& call);
  int n_required = 0;  // of params
  const char* params[kMaxParams] = {};
  int traits = 0;
};

Value call_builtin(Runtime& rt, const Builtin& builtin, const Arguments& arguments);

const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
const Builtin* find_function(std::string_view name);
const Builtin* find_method(Type type, std::string_view name);
/// "the filter 'x' is unknown; known: abs, batch, ..."
std::string unknown_builtin(bool filter, std::string_view name);

/// Of a Python method that find_method does not have.
enum class MethodStatus : std::uint8_t { kNone, kUnsupported, kUnsafe };
MethodStatus method_status(Type type, std::string_view name);

// The tables, one per file.
std::span<const Builtin> text_filters();
std::span<const Builtin> value_filters();
std::span<const Builtin> sequence_filters();
std::span<const Builtin> tests();
std::span<const Builtin> functions();
std::span<const Builtin> string_methods();
std::span<const Builtin> container_methods();  // of dict; count and index of sequences

}  // namespace heddle::jinja
