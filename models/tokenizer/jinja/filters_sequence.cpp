// Filters on sequences and mappings.

#include <algorithm>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/unicode.h"

namespace heddle::jinja {
namespace {

Value generator(Runtime& rt, std::vector<Value> items) {
  return rt.list(std::move(items), Type::kGenerator);
}

const Value& given_or_none(const Value& v) {
  static const Value kNone = Value::none();
  return v.given() ? v : kNone;
}

/// Jinja's ignore_case: strings compare in lower case.
Value sort_key(Runtime& rt, const Value& v, bool case_sensitive) {
  if (case_sensitive || !v.is_string()) return v;
  return rt.text(to_lower(v.view()), false);
}

using Keyed = std::pair<Value, Value>;  // key, item

std::vector<Value> sorted(Runtime& rt, std::vector<Keyed> keyed, bool reverse) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? less(rt, b.first, a.first) : less(rt, a.first, b.first);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (const Keyed& k : keyed) items.push_back(k.second);
  return items;
}

Value batch(Call& call) {
  const auto& items = items_of(call.rt, call.arg[0]);
  const std::int64_t size = call.integer(1, 1);
  const Value fill = given_or_none(call.arg[2]);
  std::vector<Value> out, part;
  const auto flush = [&] {
    out.push_back(call.rt.list(std::move(part)));
    part.clear();
  };
  for (const Value& item : items) {
    if (static_cast<std::int64_t>(part.size()) == size) flush();
    part.push_back(item);
  }
  if (!part.empty()) {
    const std::int64_t missing = size - static_cast<std::int64_t>(part.size());
    if (!fill.is(Type::kNone) && missing > 0) {
      call.rt.charge(missing);
      part.insert(part.end(), static_cast<std::size_t>(missing), fill);
    }
    flush();
  }
  return generator(call.rt, std::move(out));
}

Value slice(Call& call) {
  const auto& items = items_of(call.rt, call.arg[0]);
  const std::int64_t n_slices = call.integer(1, 1);
  if (n_slices == 0) call.fail("integer division or modulo by zero");
  const Value fill = given_or_none(call.arg[2]);
  const auto size = static_cast<std::int64_t>(items.size());
  std::vector<Value> out;
  auto next = items.begin();
  for (std::int64_t i = 0; i < n_slices; ++i) {
    call.rt.charge();
    const bool extra = i < size % n_slices;
    const auto end = next + (size / n_slices + (extra ? 1 : 0));
    std::vector<Value> part(next, end);
    if (!fill.is(Type::kNone) && !extra) part.push_back(fill);
    out.push_back(call.rt.list(std::move(part)));
    next = end;
  }
  return generator(call.rt, std::move(out));
}

Value dictsort(Call& call) {
  const Value& v = call.arg[0];
  if (v.is(Type::kUndefined)) call.rt.fail(v.undefined->why);
  if (!v.is(Type::kDict)) call.fail("a mapping is needed, got '" + type_name(v) + "'");
  const bool case_sensitive = call.flag(1, false);
  const std::string by = call.arg[2].given() ? call.string(2).bytes : "key";
  if (by != "key" && by != "value") call.fail("sorts by 'key' or 'value'");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : v.dict->entries) {
    keyed.emplace_back(sort_key(call.rt, by == "key" ? key : value, case_sensitive),
                       call.rt.tuple(key, value));
  }
  return call.rt.list(sorted(call.rt, std::move(keyed), call.flag(3, false)));
}

Value first(Call& call) {
  const auto& items = items_of(call.rt, call.arg[0]);
  return items.empty() ? call.rt.undefined("the sequence has no first item: undefined")
                       : items.front();
}

Value last(Call& call) {
  if (call.arg[0].is(Type::kGenerator)) call.fail("a generator cannot be reversed");
  const auto& items = items_of(call.rt, call.arg[0]);
  return items.empty() ? call.rt.undefined("the sequence has no last item: undefined")
                       : items.back();
}

Value items(Call& call) {
  const Value& v = call.arg[0];
  if (v.is(Type::kUndefined)) return generator(call.rt, {});
  if (!v.is(Type::kDict)) call.fail("only a mapping has item pairs");
  std::vector<Value> pairs;
  for (const auto& [key, value] : v.dict->entries) pairs.push_back(call.rt.tuple(key, value));
  return generator(call.rt, std::move(pairs));
}

Value join(Call& call) {
  const Value separator =
      call.arg[1].given() ? to_text(call.rt, call.arg[1]) : call.rt.text("", false);
  const Value path = given_or_none(call.arg[2]);
  TextBuilder out;
  bool is_first = true;
  for (const Value& item : items_of(call.rt, call.arg[0])) {
    if (!is_first) append_text(call.rt, out, separator);
    is_first = false;
    append_text(call.rt, out, get_path(call.rt, item, path));
  }
  return call.rt.text(out);
}

Value length_filter(Call& call) {
  const std::int64_t n = length(call.arg[0]);
  if (n < 0) call.fail("an object of type '" + type_name(call.arg[0]) + "' has no length");
  return Value::of(n);
}

Value list(Call& call) {
  return call.rt.list(items_of(call.rt, call.arg[0]));
}

/// The filter or test that a string argument names.
const Builtin& named(Call& call, const Value& name, bool filter) {
  if (!name.is_string()) call.fail("the name of a filter or test must be a string");
  const Builtin* found = filter ? find_filter(name.view()) : find_test(name.view());
  if (found == nullptr) call.fail(unknown_builtin(filter, name.view()));
  return *found;
}

Value map(Call& call) {
  const auto& all = call.all;
  if (!truthy(call.arg[0])) return generator(call.rt, {});
  const auto keyword = [&](std::string_view name) {
    for (const auto& [key, value] : all.named) {
      if (key->bytes == name) return value;
    }
    return Value{};
  };
  std::vector<Value> out;
  const Value path = keyword("attribute");
  if (all.positional.size() == 1 && path.given()) {
    const Value fallback = keyword("default");
    if (all.named.size() > (fallback.given() ? 2U : 1U)) call.fail("an unexpected keyword");
    for (const Value& item : items_of(call.rt, call.arg[0])) {
      out.push_back(get_path(call.rt, item, path, fallback));
    }
    return generator(call.rt, std::move(out));
  }
  if (all.positional.size() < 2) call.fail("the name of a filter is needed");
  const Builtin& filter = named(call, all.positional[1], true);
  Arguments arguments;
  arguments.positional.assign(all.positional.begin() + 1, all.positional.end());
  arguments.named = all.named;
  for (const Value& item : items_of(call.rt, call.arg[0])) {
    arguments.positional[0] = item;
    out.push_back(call_builtin(call.rt, filter, arguments));
  }
  return generator(call.rt, std::move(out));
}

/// select, reject, selectattr, rejectattr.
Value choose(Call& call, bool by_attribute, bool keep) {
  const auto& all = call.all;
  if (!truthy(call.arg[0])) return generator(call.rt, {});
  const std::size_t test_at = by_attribute ? 2 : 1;
  if (by_attribute && all.positional.size() < 2) call.fail("the name of an attribute is needed");
  const Builtin* test = nullptr;
  Arguments arguments;
  if (all.positional.size() > test_at) {
    test = &named(call, all.positional[test_at], false);
    arguments.positional.assign(all.positional.begin() + static_cast<std::ptrdiff_t>(test_at),
                                all.positional.end());
    arguments.named = all.named;
  }
  std::vector<Value> out;
  for (const Value& item : items_of(call.rt, call.arg[0])) {
    const Value subject = by_attribute ? get_path(call.rt, item, all.positional[1]) : item;
    bool passes = truthy(subject);
    if (test != nullptr) {
      arguments.positional[0] = subject;
      passes = truthy(call_builtin(call.rt, *test, arguments));
    }
    call.rt.charge();
    if (passes == keep) out.push_back(item);
  }
  return generator(call.rt, std::move(out));
}

Value select(Call& call) {
  return choose(call, false, true);
}
Value reject(Call& call) {
  return choose(call, false, false);
}
Value selectattr(Call& call) {
  return choose(call, true, true);
}
Value rejectattr(Call& call) {
  return choose(call, true, false);
}

Value extreme(Call& call, bool want_max) {
  const auto& all = items_of(call.rt, call.arg[0]);
  if (all.empty()) return call.rt.undefined("no item to aggregate: undefined");
  const bool case_sensitive = call.flag(1, false);
  const Value path = given_or_none(call.arg[2]);
  const auto key = [&](const Value& item) {
    return sort_key(call.rt, get_path(call.rt, item, path), case_sensitive);
  };
  const Value* best = &all[0];
  Value best_key = key(all[0]);
  for (std::size_t i = 1; i < all.size(); ++i) {
    const Value next = key(all[i]);
    if (want_max ? less(call.rt, best_key, next) : less(call.rt, next, best_key)) {
      best = &all[i];
      best_key = next;
    }
  }
  return *best;
}

Value min(Call& call) {
  return extreme(call, false);
}
Value max(Call& call) {
  return extreme(call, true);
}

Value reverse(Call& call) {
  const Value& v = call.arg[0];
  if (v.is_string()) {
    const Value none = Value::none();
    return get_slice(call.rt, v, {none, none, Value::of(std::int64_t{-1})});
  }
  const auto& all = items_of(call.rt, v);
  std::vector<Value> out(all.rbegin(), all.rend());
  return call.rt.list(std::move(out), v.is(Type::kGenerator) ? Type::kList : Type::kGenerator);
}

Value sort(Call& call) {
  const bool case_sensitive = call.flag(2, false);
  std::vector<Value> paths;
  const Value path = given_or_none(call.arg[3]);
  if (path.is_string()) {
    const std::string_view names = path.view();
    for (std::size_t begin = 0; begin <= names.size();) {
      const std::size_t end = std::min(names.find(',', begin), names.size());
      paths.push_back(call.rt.slice(*path.text, begin, end));
      begin = end + 1;
    }
  } else {
    paths.push_back(path);
  }
  std::vector<Keyed> keyed;
  for (const Value& item : items_of(call.rt, call.arg[0])) {
    std::vector<Value> key;
    for (const Value& p : paths) {
      key.push_back(sort_key(call.rt, get_path(call.rt, item, p), case_sensitive));
    }
    keyed.emplace_back(call.rt.list(std::move(key)), item);
  }
  return call.rt.list(sorted(call.rt, std::move(keyed), call.flag(1, false)));
}

Value sum(Call& call) {
  const Value path = given_or_none(call.arg[1]);
  Value total = call.arg[2].given() ? call.arg[2] : Value::of(std::int64_t{0});
  if (total.is_string()) call.fail("strings cannot be summed");
  for (const Value& item : items_of(call.rt, call.arg[0])) {
    total = arithmetic(call.rt, Op::kAdd, total, get_path(call.rt, item, path));
  }
  return total;
}

Value unique(Call& call) {
  const bool case_sensitive = call.flag(1, false);
  const Value path = given_or_none(call.arg[2]);
  Dict seen;
  std::vector<Value> out;
  for (const Value& item : items_of(call.rt, call.arg[0])) {
    const Value key = sort_key(call.rt, get_path(call.rt, item, path), case_sensitive);
    if (call.rt.find(seen, key) != nullptr) continue;
    call.rt.insert(seen, key, item);
    out.push_back(item);
  }
  return generator(call.rt, std::move(out));
}

constexpr Builtin kFilters[] = {
    {"batch", batch, 2, {"value", "linecount", "fill_with"}},
    {"count", length_filter, 1, {"value"}},
    {"dictsort", dictsort, 1, {"value", "case_sensitive", "by", "reverse"}},
    {"first", first, 1, {"seq"}},
    {"items", items, 1, {"value"}},
    {"join", join, 1, {"value", "d", "attribute"}},
    {"last", last, 1, {"seq"}, kKeepsMarkup},
    {"length", length_filter, 1, {"value"}},
    {"list", list, 1, {"value"}},
    {"map", map, 1, {"value"}, kVariadic},
    {"max", max, 1, {"value", "case_sensitive", "attribute"}},
    {"min", min, 1, {"value", "case_sensitive", "attribute"}},
    {"reject", reject, 1, {"value"}, kVariadic},
    {"rejectattr", rejectattr, 1, {"value"}, kVariadic},
    {"reverse", reverse, 1, {"value"}},
    {"select", select, 1, {"value"}, kVariadic},
    {"selectattr", selectattr, 1, {"value"}, kVariadic},
    {"slice", slice, 2, {"value", "slices", "fill_with"}},
    {"sort", sort, 1, {"value", "reverse", "case_sensitive", "attribute"}},
    {"sum", sum, 1, {"iterable", "attribute", "start"}},
    {"unique", unique, 1, {"value", "case_sensitive", "attribute"}},
};

}  // namespace

std::span<const Builtin> sequence_filters() {
  return kFilters;
}

}  // namespace heddle::jinja
