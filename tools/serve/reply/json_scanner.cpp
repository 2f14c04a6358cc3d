#include "tools/serve/reply/json_scanner.h"

#include <charconv>

namespace heddle::serve {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/// Of \uXXXX.
unsigned code_unit(std::string_view escape) {
  unsigned unit = 0;
  std::from_chars(escape.data() + 2, escape.data() + 6, unit, 16);
  return unit;
}

bool is_high(unsigned unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}
bool is_low(unsigned unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

void append_utf8(unsigned code, std::string& out) {
  const auto tail = [&](unsigned shift) {
    out += static_cast<char>(0x80U | ((code >> shift) & 0x3FU));
  };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0U | (code >> 6));
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0U | (code >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0U | (code >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

/// What the letter of a short escape stands for; 0 if it is none.
char short_escape(char c) {
  switch (c) {
    case '"':
    case '\\':
    case '/':
      return c;
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return 0;
  }
}

}  // namespace

void append_escaped(char c, std::string& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto byte = static_cast<unsigned char>(c);
  if (c == '"' || c == '\\') {
    out += '\\';
    out += c;
  } else if (byte >= 0x20) {
    out += c;
  } else if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else {
    out += "\\u00";
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15U];
  }
}

bool JsonStringReader::step(char c, std::string& out) {
  if (!escape_.empty()) return escaped(c, out);
  if (c == '\\') {
    escape_ = c;
    return false;
  }
  drop_high(out);
  if (c == '"') return true;
  if (form_ == Form::kSource) {
    if (static_cast<unsigned char>(c) < 0x20) {
      append_escaped(c, out);
    } else {
      out += c;
    }
  } else {
    out += c;
  }
  return false;
}

bool JsonStringReader::escaped(char c, std::string& out) {
  if (escape_.size() == 1 && c == 'u') {
    escape_ += c;
    return false;
  }
  if (escape_.size() == 1) {
    drop_high(out);
    const char meant = short_escape(c);
    if (meant == 0) {
      doubled_backslash(out);
      return step(c, out);  // no escape is open now
    }
    escape_.clear();
    if (form_ == Form::kSource) {
      out += '\\';
      out += c;
    } else {
      out += meant;
    }
    return false;
  }
  if (!is_hex(c)) {
    drop_high(out);
    doubled_backslash(out);
    return step(c, out);
  }
  escape_ += c;
  if (escape_.size() == 6) finish_unicode(out);
  return false;
}

void JsonStringReader::finish_unicode(std::string& out) {
  const unsigned unit = code_unit(escape_);
  if (!high_.empty() && is_low(unit)) {
    if (form_ == Form::kSource) {
      out += high_ + escape_;
    } else {
      append_utf8(0x10000 + ((code_unit(high_) - 0xD800) << 10) + (unit - 0xDC00), out);
    }
    high_.clear();
    escape_.clear();
    return;
  }
  drop_high(out);
  if (is_high(unit) || is_low(unit)) {
    high_ = escape_;
    if (is_low(unit)) drop_high(out);
  } else if (form_ == Form::kSource) {
    out += escape_;
  } else {
    append_utf8(unit, out);
  }
  escape_.clear();
}

void JsonStringReader::drop_high(std::string& out) {
  if (high_.empty()) return;
  out += form_ == Form::kSource ? std::string_view("\\ufffd") : kReplacement;
  high_.clear();
}

void JsonStringReader::doubled_backslash(std::string& out) {
  if (form_ == Form::kSource) out += '\\';
  out += escape_;
  escape_.clear();
}

JsonScanner::Step JsonScanner::step(char c, std::string& out) {
  switch (state_) {
    case State::kString:
      if (!string_.step(c, out)) return Step::kMore;
      out += '"';
      if (!is_key_) return after_value();
      state_ = State::kColon;
      return Step::kMore;
    case State::kLiteral:
      if (c != literal_.front()) return Step::kBad;
      out += c;
      literal_.remove_prefix(1);
      return literal_.empty() ? after_value() : Step::kMore;
    case State::kMinus:
    case State::kZero:
    case State::kInteger:
    case State::kPoint:
    case State::kFraction:
    case State::kExponent:
    case State::kExponentSign:
    case State::kExponentDigits:
      return number(c, out);
    default:
      return structure(c, out);
  }
}

bool JsonScanner::may_end() const {
  const bool number = state_ == State::kZero || state_ == State::kInteger ||
                      state_ == State::kFraction || state_ == State::kExponentDigits;
  return state_ == State::kDone || (number && depth_ == 0);
}

JsonScanner::Step JsonScanner::structure(char c, std::string& out) {
  if (state_ == State::kDone) return Step::kBad;
  if (is_space(c)) {
    out += c;
    return Step::kMore;
  }
  switch (state_) {
    case State::kFirstItem:
      return c == ']' ? close(c, out) : begin_value(c, out);
    case State::kFirstKey:
      if (c == '}') return close(c, out);
      [[fallthrough]];
    case State::kKey:
      if (c != '"') return Step::kBad;
      is_key_ = true;
      string_ = JsonStringReader();
      state_ = State::kString;
      break;
    case State::kColon:
      if (c != ':') return Step::kBad;
      state_ = State::kValue;
      break;
    case State::kAfter:
      if (c == (in_object() ? '}' : ']')) return close(c, out);
      if (c != ',') return Step::kBad;
      state_ = in_object() ? State::kKey : State::kValue;
      break;
    default:
      return begin_value(c, out);
  }
  out += c;
  return Step::kMore;
}

JsonScanner::Step JsonScanner::begin_value(char c, std::string& out) {
  if (c == '{' || c == '[') return open(c, out);
  if (c == '"') {
    is_key_ = false;
    string_ = JsonStringReader();
    state_ = State::kString;
  } else if (c == 't' || c == 'f' || c == 'n') {
    literal_ = c == 't' ? "rue" : c == 'f' ? "alse" : "ull";
    state_ = State::kLiteral;
  } else if (c == '-') {
    state_ = State::kMinus;
  } else if (is_digit(c)) {
    state_ = c == '0' ? State::kZero : State::kInteger;
  } else {
    return Step::kBad;
  }
  out += c;
  return Step::kMore;
}

JsonScanner::Step JsonScanner::open(char c, std::string& out) {
  if (depth_ == kMaxDepth) return Step::kBad;
  ++depth_;
  objects_ = objects_ << 1 | (c == '{' ? 1U : 0U);
  state_ = c == '{' ? State::kFirstKey : State::kFirstItem;
  out += c;
  return Step::kMore;
}

JsonScanner::Step JsonScanner::close(char c, std::string& out) {
  --depth_;
  objects_ >>= 1;
  out += c;
  return after_value();
}

JsonScanner::Step JsonScanner::after_value() {
  state_ = depth_ == 0 ? State::kDone : State::kAfter;
  return depth_ == 0 ? Step::kDone : Step::kMore;
}

JsonScanner::Step JsonScanner::number(char c, std::string& out) {
  const State next = next_of_number(c);
  if (next == State::kDone) return Step::kBad;
  if (next != State::kAfter) {
    state_ = next;
    out += c;
    return Step::kMore;
  }
  if (after_value() == Step::kDone) return Step::kDoneBefore;
  return structure(c, out);
}

/// kAfter where `c` is no part of the number, which is whole; kDone where it is not whole.
JsonScanner::State JsonScanner::next_of_number(char c) const {
  const State end = State::kAfter;
  switch (state_) {
    case State::kMinus:
      if (!is_digit(c)) return State::kDone;
      return c == '0' ? State::kZero : State::kInteger;
    case State::kZero:
    case State::kInteger:
      if (is_digit(c)) return state_ == State::kZero ? State::kDone : State::kInteger;
      if (c == '.') return State::kPoint;
      return c == 'e' || c == 'E' ? State::kExponent : end;
    case State::kPoint:
      return is_digit(c) ? State::kFraction : State::kDone;
    case State::kFraction:
      if (is_digit(c)) return State::kFraction;
      return c == 'e' || c == 'E' ? State::kExponent : end;
    case State::kExponent:
      if (c == '+' || c == '-') return State::kExponentSign;
      [[fallthrough]];
    case State::kExponentSign:
      return is_digit(c) ? State::kExponentDigits : State::kDone;
    default:
      return is_digit(c) ? State::kExponentDigits : end;
  }
}

}  // namespace heddle::serve
