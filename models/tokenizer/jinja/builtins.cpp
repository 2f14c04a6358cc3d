#include "models/tokenizer/jinja/builtins.h"

#include <algorithm>

#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/string_functions.h"

namespace heddle::jinja {
namespace {

const Builtin* find_in(std::span<const Builtin> table, std::string_view name) {
  const auto it =
      std::find_if(table.begin(), table.end(), [&](const Builtin& b) { return b.name == name; });
  return it == table.end() ? nullptr : &*it;
}

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string listed(std::vector<std::string_view> names) {
  std::sort(names.begin(), names.end());
  std::string out;
  for (const std::string_view name : names) out += (out.empty() ? "" : ", ") + std::string(name);
  return out;
}

void bind(Call& call) {
  const Builtin& b = call.builtin;
  const bool variadic = (b.traits & kVariadic) != 0;
  int n_params = 0;
  while (n_params < kMaxParams && b.params[n_params] != nullptr) ++n_params;
  const auto& positional = call.all.positional;
  if (!variadic && positional.size() > static_cast<std::size_t>(n_params)) {
    call.fail("takes at most " + std::to_string(n_params) + " arguments, got " +
              std::to_string(positional.size()));
  }
  for (std::size_t i = 0; i < std::min(positional.size(), static_cast<std::size_t>(n_params));
       ++i) {
    call.arg[i] = positional[i];
  }
  if (!variadic) {
    for (const auto& [name, value] : call.all.named) {
      const auto* const end = b.params + n_params;
      const auto* const it = std::find(b.params, end, std::string_view(name->bytes));
      if (it == end) call.fail("has no argument " + quoted(name->bytes));
      Value& slot = call.arg[it - b.params];
      if (slot.given()) call.fail("got the argument " + quoted(name->bytes) + " twice");
      slot = value;
    }
  }
  for (int i = 0; i < b.n_required; ++i) {
    if (!call.arg[i].given()) call.fail(std::string("needs the argument '") + b.params[i] + "'");
  }
}

}  // namespace

void Call::fail(const std::string& why) const {
  rt.fail("'" + std::string(builtin.name) + "': " + why);
}

bool Call::flag(int i, bool fallback) const {
  return arg[i].given() ? truthy(arg[i]) : fallback;
}

std::int64_t Call::integer(int i, std::int64_t fallback) const {
  if (!arg[i].given()) return fallback;
  if (!arg[i].is_integer()) fail("an integer is needed, got '" + type_name(arg[i]) + "'");
  return arg[i].as_integer();
}

const Text& Call::text(int i) const {
  return *to_text(rt, arg[i]).text;
}

const Text& Call::string(int i) const {
  if (arg[i].is(Type::kUndefined)) rt.fail(arg[i].undefined->why);
  if (!arg[i].is_string()) fail("a string is needed, got '" + type_name(arg[i]) + "'");
  return *arg[i].text;
}

Value Call::derived(std::string bytes, std::initializer_list<const Text*> from) const {
  const bool untrusted =
      std::any_of(from.begin(), from.end(), [](const Text* t) { return t->any_untrusted(); });
  return rt.text(std::move(bytes), untrusted);
}

Value call_builtin(Runtime& rt, const Builtin& builtin, const Arguments& arguments) {
  rt.charge();
  Call call{rt, builtin, arguments};
  bind(call);
  const Value result = builtin.run(call);
  const bool marked = (builtin.traits & kKeepsMarkup) != 0 && call.arg[0].is_string() &&
                      call.arg[0].text->markup && result.is_string();
  return marked ? as_markup(rt, result) : result;
}

const Builtin* find_filter(std::string_view name) {
  for (const auto table : {text_filters(), value_filters(), sequence_filters()}) {
    if (const Builtin* b = find_in(table, name)) return b;
  }
  return nullptr;
}

const Builtin* find_test(std::string_view name) {
  return find_in(tests(), name);
}
const Builtin* find_function(std::string_view name) {
  return find_in(functions(), name);
}

const Builtin* find_method(Type type, std::string_view name) {
  if (type == Type::kString) return find_in(string_methods(), name);
  const Builtin* method = find_in(container_methods(), name);
  if (method == nullptr) return nullptr;
  const bool of_sequence = one_of(name, {"count", "index"});
  const bool shared = name == "copy";
  if (type == Type::kDict) return of_sequence ? nullptr : method;
  if (type == Type::kList) return of_sequence || shared ? method : nullptr;
  return (type == Type::kTuple || type == Type::kRange) && of_sequence ? method : nullptr;
}

MethodStatus method_status(Type type, std::string_view name) {
  if (type == Type::kString &&
      one_of(name, {"casefold", "encode", "expandtabs", "format_map", "isascii", "isidentifier",
                    "isprintable", "istitle", "maketrans", "translate"})) {
    return MethodStatus::kUnsupported;
  }
  if (type == Type::kDict && name == "fromkeys") return MethodStatus::kUnsupported;
  if (type == Type::kDict && one_of(name, {"clear", "pop", "popitem", "setdefault", "update"})) {
    return MethodStatus::kUnsafe;
  }
  if (type == Type::kList &&
      one_of(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"})) {
    return MethodStatus::kUnsafe;
  }
  return MethodStatus::kNone;
}

std::string unknown_builtin(bool filter, std::string_view name) {
  std::vector<std::string_view> names;
  for (const auto table : {text_filters(), value_filters(), sequence_filters(), tests()}) {
    if (filter == (table.data() == tests().data())) continue;
    for (const Builtin& b : table) names.push_back(b.name);
  }
  return std::string(filter ? "the filter " : "the test ") + quoted(name) +
         " is unknown; known: " + listed(std::move(names));
}

}  // namespace heddle::jinja
