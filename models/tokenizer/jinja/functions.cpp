// Global functions, and the two methods of `loop`.

#include <algorithm>
#include <array>
#include <ctime>

#include "models/tokenizer/jinja/builtins.h"
#include "models/tokenizer/jinja/loop.h"
#include "models/tokenizer/jinja/operators.h"

namespace heddle::jinja {
namespace {

constexpr std::int64_t kMaxRange = 100'000;  // as Jinja's sandbox

Value range(Call& call) {
  const bool one = !call.arg[1].given();
  Range* r = call.rt.heap.add_range();
  r->start = one ? 0 : call.integer(0, 0);
  r->stop = one ? call.integer(0, 0) : call.integer(1, 0);
  r->step = call.integer(2, 1);
  if (r->step == 0) call.fail("the step must not be zero");
  const auto distance = [](std::int64_t low, std::int64_t high) -> std::uint64_t {
    return low < high ? static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low) : 0;
  };
  const std::uint64_t span =
      r->step > 0 ? distance(r->start, r->stop) : distance(r->stop, r->start);
  const std::uint64_t step = r->step > 0 ? static_cast<std::uint64_t>(r->step)
                                         : std::uint64_t{0} - static_cast<std::uint64_t>(r->step);
  const std::uint64_t size = span == 0 ? 0 : (span - 1) / step + 1;
  if (size > static_cast<std::uint64_t>(kMaxRange)) {
    call.fail("a range of more than " + std::to_string(kMaxRange) + " items");
  }
  r->size = static_cast<std::int64_t>(size);
  Value v = Value::tagged(Type::kRange);
  v.range = r;
  return v;
}

/// Entries of dict(...) and namespace(...): a mapping or pairs, then keywords.
Dict* entries(Call& call) {
  Dict* out = call.rt.heap.add_dict();
  if (call.all.positional.size() > 1) call.fail("takes at most one positional argument");
  if (!call.all.positional.empty()) {
    const Value& from = call.all.positional[0];
    if (from.is(Type::kDict)) {
      for (const auto& [key, value] : from.dict->entries) call.rt.insert(*out, key, value);
    } else {
      for (const Value& pair : items_of(call.rt, from)) {
        const auto& parts = items_of(call.rt, pair);
        if (parts.size() != 2) call.fail("pairs are needed");
        call.rt.insert(*out, parts[0], parts[1]);
      }
    }
  }
  for (const auto& [key, value] : call.all.named) call.rt.insert(*out, Value::of(key), value);
  return out;
}

Value dict(Call& call) {
  return call.rt.dict(entries(call));
}

Value make_namespace(Call& call) {
  Value v = Value::tagged(Type::kNamespace);
  v.space = call.rt.heap.add_namespace();
  for (const auto& [key, value] : entries(call)->entries) {
    if (!key.is_string()) call.fail("attributes must have string names");
    check_attribute_name(call.rt, key.view());
    v.space->attributes.emplace_back(key.text, value);
  }
  return v;
}

Value raise_exception(Call& call) {
  call.rt.fail("the template says: " + call.text(0).bytes);
}

/// datetime.now().strftime(format) in the local time zone and the C locale.
Value strftime_now(Call& call) {
  const Text& given = call.string(0);
  if (given.bytes.size() > 256) call.fail("a format of more than 256 bytes");
  if (given.bytes.find('\0') != std::string::npos) call.fail("a zero byte in the format");
  std::string format;
  for (std::size_t i = 0; i < given.bytes.size(); ++i) {
    const char c = given.bytes[i];
    if (c != '%' || i + 1 == given.bytes.size()) {
      format.push_back(c);
      if (c == '%') format.push_back('%');
      continue;
    }
    const char kind = given.bytes[++i];
    if (kind == 'f') {
      format += "000000";
    } else if (kind != 'z' && kind != 'Z') {  // a time without a zone prints nothing for these
      format.push_back('%');
      format.push_back(kind);
    }
  }
  if (format.empty()) return call.derived("", {&given});
  const std::time_t now = call.rt.now();
  std::tm local = {};
  if (localtime_r(&now, &local) == nullptr) call.fail("the time is out of range");
  std::array<char, 4096> buffer = {};
  const std::size_t n = std::strftime(buffer.data(), buffer.size(), format.c_str(), &local);
  const std::string_view text(buffer.data(), n);
  if (first_invalid_utf8(text) != std::string_view::npos) call.fail("the result is not UTF-8");
  return call.derived(std::string(text), {&given});
}

Loop& loop_of(Call& call) {
  if (!call.arg[0].is(Type::kLoop)) call.fail("a loop is needed");
  return *call.arg[0].loop;
}

Value loop_cycle(Call& call) {
  const Loop& loop = loop_of(call);
  const std::size_t n = call.all.positional.size() - 1;
  if (n == 0) call.fail("no items to cycle through");
  return call.all.positional[1 + loop.index % n];
}

Value loop_changed(Call& call) {
  Loop& loop = loop_of(call);
  std::vector<Value> now(call.all.positional.begin() + 1, call.all.positional.end());
  bool same = loop.changed_called && now.size() == loop.last_changed.size();
  for (std::size_t i = 0; same && i < now.size(); ++i) {
    same = equals(call.rt, now[i], loop.last_changed[i]);
  }
  loop.changed_called = true;
  loop.last_changed = std::move(now);
  return Value::of(!same);
}

constexpr Builtin kFunctions[] = {
    {"dict", dict, 0, {}, kVariadic},
    {"loop.changed", loop_changed, 1, {"loop"}, kVariadic},
    {"loop.cycle", loop_cycle, 1, {"loop"}, kVariadic},
    {"namespace", make_namespace, 0, {}, kVariadic},
    {"raise_exception", raise_exception, 1, {"message"}},
    {"range", range, 1, {"start", "stop", "step"}},
    {"strftime_now", strftime_now, 1, {"format"}},
};

}  // namespace

std::span<const Builtin> functions() {
  return kFunctions;
}

}  // namespace heddle::jinja
