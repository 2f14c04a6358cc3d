// str() and repr() of values, as Python writes them.

#include <charconv>
#include <cmath>

#include "models/tokenizer/jinja/operators.h"
#include "models/tokenizer/jinja/unicode.h"

namespace heddle::jinja {
namespace {

struct ReprWriter {
  Runtime& rt;
  std::string out;
  bool untrusted = false;
  int depth = 0;
  std::size_t charged = 0;

  void value(const Value& v);
  void string(const Text& text);
  void items(const char* open, const std::vector<Value>& items, const char* close);
  void dict(const Dict& dict);
  void space(const Namespace& space);
};

void append_escape(std::string& out, char32_t c) {
  char digits[16];
  const int width = c < 0x100 ? 2 : (c < 0x10000 ? 4 : 8);
  const auto end = std::to_chars(digits, digits + sizeof digits, static_cast<unsigned>(c), 16).ptr;
  out += c < 0x100 ? "\\x" : (c < 0x10000 ? "\\u" : "\\U");
  out.append(static_cast<std::size_t>(width - (end - digits)), '0');
  out.append(digits, end);
}

void ReprWriter::string(const Text& text) {
  untrusted = untrusted || text.any_untrusted();
  const std::string_view s = text.bytes;
  const bool has_single = s.find('\'') != std::string_view::npos;
  const char quote = has_single && s.find('"') == std::string_view::npos ? '"' : '\'';
  out.push_back(quote);
  for (std::size_t pos = 0; pos < s.size();) {
    const std::size_t begin = pos;
    const char32_t c = next_char(s, pos);
    if (c == static_cast<unsigned char>(quote) || c == '\\') {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : (c == '\r' ? "\\r" : "\\t");
    } else if (c < 0x80 ? (c < 0x20 || c == 0x7F) : !is_printable(c)) {
      append_escape(out, c);
    } else {
      out.append(s, begin, pos - begin);
    }
  }
  out.push_back(quote);
}

void ReprWriter::items(const char* open, const std::vector<Value>& items, const char* close) {
  out += open;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += ", ";
    value(items[i]);
  }
  out += close;
}

void ReprWriter::dict(const Dict& dict) {
  out.push_back('{');
  bool first = true;
  for (const auto& [key, item] : dict.entries) {
    if (!first) out += ", ";
    first = false;
    value(key);
    out += ": ";
    value(item);
  }
  out.push_back('}');
}

void ReprWriter::space(const Namespace& space) {
  out += "<Namespace {";
  bool first = true;
  for (const auto& [key, item] : space.attributes) {
    if (!first) out += ", ";
    first = false;
    string(*key);
    out += ": ";
    value(item);
  }
  out += "}>";
}

void ReprWriter::value(const Value& v) {
  rt.charge();
  if (out.size() - charged >= 4096) {
    rt.charge_bytes(out.size() - charged);
    charged = out.size();
  }
  if (depth >= rt.limits().depth) rt.fail("a value is nested too deep to be printed");
  ++depth;
  switch (v.type) {
    case Type::kMissing:
      break;
    case Type::kUndefined:
      out += "Undefined";
      break;
    case Type::kNone:
      out += "None";
      break;
    case Type::kBool:
      out += v.boolean ? "True" : "False";
      break;
    case Type::kInt:
      out += std::to_string(v.integer);
      break;
    case Type::kFloat:
      out += float_repr(v.real);
      break;
    case Type::kString:
      if (v.text->markup) out += "Markup(";
      string(*v.text);
      if (v.text->markup) out += ")";
      break;
    case Type::kList:
      items("[", v.list->items, "]");
      break;
    case Type::kTuple:
      items("(", v.list->items, v.list->items.size() == 1 ? ",)" : ")");
      break;
    case Type::kView:
      out += v.list->view_name;
      items("([", v.list->items, "])");
      break;
    case Type::kRange:
      out += "range(" + std::to_string(v.range->start) + ", " + std::to_string(v.range->stop);
      if (v.range->step != 1) out += ", " + std::to_string(v.range->step);
      out += ")";
      break;
    case Type::kDict:
      dict(*v.dict);
      break;
    case Type::kNamespace:
      space(*v.space);
      break;
    case Type::kGenerator:
    case Type::kFunction:
    case Type::kLoop:
      rt.fail("a " + type_name(v) + " cannot be printed (for a generator, use '| list')");
  }
  --depth;
}

}  // namespace

std::string float_repr(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, x, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<std::size_t>(end.ptr - buffer));
  const std::size_t e = text.find('e');
  std::string digits;
  const bool negative = text[0] == '-';
  for (const char c : text.substr(0, e)) {
    if (c != '-' && c != '.') digits.push_back(c);
  }
  int exponent = 0;
  const std::string_view power = text.substr(e + 2);
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  if (text[e + 1] == '-') exponent = -exponent;
  const int n = static_cast<int>(digits.size());
  std::string out = negative ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (n > 1) out += "." + digits.substr(1);
    const std::string size = std::to_string(std::abs(exponent));
    return out + "e" + (exponent < 0 ? "-" : "+") + (size.size() < 2 ? "0" : "") + size;
  }
  if (exponent < 0) {
    return out + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  }
  if (exponent >= n - 1) {
    return out + digits + std::string(static_cast<std::size_t>(exponent - n + 1), '0') + ".0";
  }
  const auto point = static_cast<std::size_t>(exponent + 1);
  return out + digits.substr(0, point) + "." + digits.substr(point);
}

std::string repr(Runtime& rt, const Value& v, bool& untrusted) {
  ReprWriter writer{rt, {}};
  writer.value(v);
  untrusted = untrusted || writer.untrusted;
  return std::move(writer.out);
}

void append_text(Runtime& rt, TextBuilder& out, const Value& v) {
  if (v.is_string()) {
    rt.charge_bytes(v.view().size());
    out.append(*v.text);
  } else if (!v.is(Type::kUndefined) && v.given()) {
    bool untrusted = false;
    const std::string text = repr(rt, v, untrusted);
    out.append(text, untrusted);
  }
}

Value to_text(Runtime& rt, const Value& v) {
  if (v.is_string()) return v;
  TextBuilder out;
  append_text(rt, out, v);
  return rt.text(out);
}

}  // namespace heddle::jinja
