#include "models/tokenizer/jinja/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/jinja/operators.h"

namespace heddle::jinja {
namespace {

/// Builds values from the events of nlohmann's parser, which itself does not recurse.
class Reader {
 public:
  Reader(Runtime& rt, std::string_view what) : rt_(rt), what_(what) {}

  bool null() { return add(Value::none()); }
  bool boolean(bool x) { return add(Value::of(x)); }
  bool number_integer(std::int64_t x) { return add(Value::of(x)); }
  bool number_unsigned(std::uint64_t x) {
    if (x > 0x7FFFFFFFFFFFFFFFULL) return fail("an integer that does not fit in 64 bits");
    return add(Value::of(static_cast<std::int64_t>(x)));
  }
  bool number_float(double x, const std::string& text) {
    if (text.find_first_of(".eE") == std::string::npos) {
      return fail("an integer that does not fit in 64 bits");
    }
    return add(Value::of(x));
  }
  bool string(std::string& text) { return add(rt_.text(std::move(text), true)); }
  bool binary(nlohmann::json::binary_t&) { return fail("binary data"); }
  bool start_object(std::size_t) { return open(true); }
  bool start_array(std::size_t) { return open(false); }
  bool key(std::string& text) {
    Level& level = levels_.back();
    level.key = rt_.text(std::move(text), true);
    if (level.dict->find(level.key.view()) != nullptr) {
      return fail("the key " + quoted(level.key.view()) + " is there twice");
    }
    return true;
  }
  bool end_object() {
    const Value v = rt_.dict(levels_.back().dict);
    levels_.pop_back();
    return add(v);
  }
  bool end_array() {
    std::vector<Value> items = std::move(levels_.back().items);
    levels_.pop_back();
    return add(rt_.list(std::move(items)));
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) {
    const std::string_view text = e.what();
    const bool range = text.find("out of range") != std::string_view::npos ||
                       text.find("number overflow") != std::string_view::npos;
    return fail(range ? "a number out of range" : "invalid JSON or UTF-8", position);
  }

  bool fail(const std::string& why, std::size_t position = 0) {
    throw bad_input(std::string(what_) + ": " +
                    (position > 0 ? "byte " + std::to_string(position) + ": " : "") + why);
  }
  const Value& result() const { return result_; }

 private:
  struct Level {
    Dict* dict = nullptr;  // null: a list
    std::vector<Value> items;
    Value key;
  };

  bool open(bool object) {
    if (levels_.size() >= static_cast<std::size_t>(rt_.limits().depth)) {
      return fail("nested deeper than " + std::to_string(rt_.limits().depth) + " levels");
    }
    levels_.push_back({object ? rt_.heap.add_dict() : nullptr, {}, {}});
    return true;
  }
  bool add(const Value& v) {
    rt_.charge();
    if (levels_.empty()) {
      result_ = v;
    } else if (levels_.back().dict != nullptr) {
      rt_.insert(*levels_.back().dict, levels_.back().key, v);
    } else {
      levels_.back().items.push_back(v);
    }
    return true;
  }

  Runtime& rt_;
  std::string_view what_;
  std::vector<Level> levels_;
  Value result_;
};

struct Writer {
  Runtime& rt;
  const JsonStyle& style;
  std::string out;
  bool untrusted = false;
  int depth = 0;
  std::size_t charged = 0;

  void value(const Value& v);
  void items(const std::vector<Value>& items);
  void dict(const Dict& dict);
  void newline();
  std::string key(const Value& k);
  std::string number(double x) const;
};

void Writer::newline() {
  if (!style.indented) return;
  out.push_back('\n');
  rt.charge_bytes(static_cast<std::size_t>(depth) * style.indent.size());
  for (int i = 0; i < depth; ++i) out += style.indent;
}

std::string Writer::number(double x) const {
  if (x != x) return "NaN";
  const std::string text = float_repr(x);
  return text == "inf" ? "Infinity" : (text == "-inf" ? "-Infinity" : text);
}

std::string Writer::key(const Value& k) {
  switch (k.type) {
    case Type::kString:
      untrusted = untrusted || k.text->any_untrusted();
      return k.text->bytes;
    case Type::kBool:
      return k.boolean ? "true" : "false";
    case Type::kNone:
      return "null";
    case Type::kInt:
      return std::to_string(k.integer);
    case Type::kFloat:
      return number(k.real);
    default:
      rt.fail("tojson: keys must be str, int, float, bool or None, not " + type_name(k));
  }
}

void Writer::items(const std::vector<Value>& items) {
  if (items.empty()) {
    out += "[]";
    return;
  }
  out.push_back('[');
  ++depth;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += style.item_separator;
    newline();
    value(items[i]);
  }
  --depth;
  newline();
  out.push_back(']');
}

void Writer::dict(const Dict& dict) {
  if (dict.entries.empty()) {
    out += "{}";
    return;
  }
  std::vector<const std::pair<Value, Value>*> order;
  for (const auto& entry : dict.entries) order.push_back(&entry);
  if (style.sort_keys) {
    std::stable_sort(order.begin(), order.end(),
                     [&](const auto* a, const auto* b) { return less(rt, a->first, b->first); });
  }
  out.push_back('{');
  ++depth;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0) out += style.item_separator;
    newline();
    append_json_string(out, key(order[i]->first), style.ensure_ascii);
    out += style.key_separator;
    value(order[i]->second);
  }
  --depth;
  newline();
  out.push_back('}');
}

void Writer::value(const Value& v) {
  rt.charge();
  if (out.size() - charged >= 4096) {
    rt.charge_bytes(out.size() - charged);
    charged = out.size();
  }
  switch (v.type) {
    case Type::kNone:
      out += "null";
      return;
    case Type::kBool:
      out += v.boolean ? "true" : "false";
      return;
    case Type::kInt:
      out += std::to_string(v.integer);
      return;
    case Type::kFloat:
      out += number(v.real);
      return;
    case Type::kString:
      untrusted = untrusted || v.text->any_untrusted();
      append_json_string(out, v.view(), style.ensure_ascii);
      return;
    case Type::kList:
    case Type::kTuple:
      items(v.list->items);
      return;
    case Type::kDict:
      dict(*v.dict);
      return;
    case Type::kUndefined:
      rt.fail("tojson: a value is undefined: " + v.undefined->why);
    default:
      rt.fail("tojson: an object of type " + type_name(v) + " is not JSON serializable");
  }
}

void append_unicode_escape(std::string& out, char32_t unit) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += "\\u";
  for (int shift = 12; shift >= 0; shift -= 4) out.push_back(kHex[(unit >> shift) & 15U]);
}

}  // namespace

Value parse_json(Runtime& rt, std::string_view json, std::string_view what) {
  Reader reader(rt, what);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  return reader.result();
}

void append_json_string(std::string& out, std::string_view text, bool ensure_ascii) {
  constexpr std::string_view kFrom = "\"\\\n\r\t\f\b";
  constexpr std::string_view kTo = "\"\\nrtfb";
  out.push_back('"');
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t begin = pos;
    const char32_t c = next_char(text, pos);
    const std::size_t simple = c < 0x80 ? kFrom.find(static_cast<char>(c)) : kFrom.npos;
    if (simple != kFrom.npos) {
      out.push_back('\\');
      out.push_back(kTo[simple]);
    } else if (c < 0x20 || (ensure_ascii && c > 0x7E && c < 0x10000)) {
      append_unicode_escape(out, c);
    } else if (ensure_ascii && c >= 0x10000) {
      append_unicode_escape(out, 0xD800 + ((c - 0x10000) >> 10));
      append_unicode_escape(out, 0xDC00 + ((c - 0x10000) & 0x3FFU));
    } else {
      out.append(text, begin, pos - begin);
    }
  }
  out.push_back('"');
}

std::string to_json(Runtime& rt, const Value& v, const JsonStyle& style, bool& untrusted) {
  Writer writer{rt, style, {}};
  writer.value(v);
  untrusted = untrusted || writer.untrusted;
  return std::move(writer.out);
}

}  // namespace heddle::jinja
