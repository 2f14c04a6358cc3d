#include "models/tokenizer/jinja/unicode.h"

#include <algorithm>
#include <span>

#include "models/tokenizer/jinja/text.h"
#include "models/tokenizer/jinja/unicode_tables.h"

namespace heddle::jinja {
namespace {

bool contains(std::span<const CharRange> ranges, char32_t c) {
  const auto it = std::partition_point(ranges.begin(), ranges.end(),
                                       [&](const CharRange& r) { return r.last < c; });
  return it != ranges.end() && it->first <= c;
}

void append_mapped(std::string& out,
                   char32_t c,
                   std::span<const CaseRange> simple,
                   std::span<const SpecialCase> special) {
  const auto s = std::partition_point(special.begin(), special.end(),
                                      [&](const SpecialCase& x) { return x.from < c; });
  if (s != special.end() && s->from == c) {
    for (const std::uint32_t to : s->to) {
      if (to != 0) append_char(out, to);
    }
    return;
  }
  // Ranges of stride 2 may interleave, so the two neighbours that start at or before c are tried.
  auto it = std::partition_point(simple.begin(), simple.end(),
                                 [&](const CaseRange& r) { return r.first <= c; });
  for (int i = 0; i < 2 && it != simple.begin(); ++i) {
    --it;
    if (c <= it->last && (c - it->first) % it->stride == 0) {
      append_char(out, static_cast<char32_t>(static_cast<std::int64_t>(c) + it->delta));
      return;
    }
  }
  append_char(out, c);
}

void append_upper(std::string& out, char32_t c) {
  append_mapped(out, c, kUnicode.to_upper, kUnicode.special_upper);
}

void append_title(std::string& out, char32_t c) {
  append_mapped(out, c, kUnicode.to_title, kUnicode.special_title);
}

/// Unicode 3.13: sigma is final behind a cased letter and not before one, case-ignorable skipped.
bool is_final_sigma(std::string_view text, std::size_t begin, std::size_t end) {
  bool before = false;
  for (std::size_t pos = begin; pos > 0;) {
    const char32_t c = previous_char(text, pos);
    if (is_case_ignorable(c)) continue;
    before = is_cased(c);
    break;
  }
  if (!before) return false;
  for (std::size_t pos = end; pos < text.size();) {
    const char32_t c = next_char(text, pos);
    if (is_case_ignorable(c)) continue;
    return !is_cased(c);
  }
  return true;
}

/// Lower case of the character [begin, end) of `text`.
void append_lower(std::string& out, std::string_view text, std::size_t begin, std::size_t end) {
  std::size_t pos = begin;
  const char32_t c = next_char(text, pos);
  constexpr char32_t kSigma = 0x3A3;
  if (c == kSigma) {
    append_char(out, is_final_sigma(text, begin, end) ? 0x3C2 : 0x3C3);
  } else {
    append_mapped(out, c, kUnicode.to_lower, kUnicode.special_lower);
  }
}

template <typename Each>
std::string map_chars(std::string_view text, Each each) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t begin = pos;
    const char32_t c = next_char(text, pos);
    each(out, c, begin, pos);
  }
  return out;
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_alpha(char32_t c) {
  return contains(kUnicode.alpha, c);
}
bool is_digit(char32_t c) {
  return contains(kUnicode.digit, c);
}
bool is_decimal(char32_t c) {
  return contains(kUnicode.decimal, c);
}
bool is_numeric(char32_t c) {
  return contains(kUnicode.numeric, c);
}
bool is_printable(char32_t c) {
  return !contains(kUnicode.unprintable, c);
}
bool is_cased(char32_t c) {
  return contains(kUnicode.cased, c);
}
bool is_case_ignorable(char32_t c) {
  return contains(kUnicode.ignorable, c);
}
bool is_upper(char32_t c) {
  return contains(kUnicode.upper, c);
}
bool is_lower(char32_t c) {
  return contains(kUnicode.lower, c);
}

std::string to_upper(std::string_view text) {
  return map_chars(
      text, [](std::string& out, char32_t c, std::size_t, std::size_t) { append_upper(out, c); });
}

std::string to_lower(std::string_view text) {
  return map_chars(text, [&](std::string& out, char32_t, std::size_t begin, std::size_t end) {
    append_lower(out, text, begin, end);
  });
}

std::string to_title(std::string_view text) {
  bool in_word = false;
  return map_chars(text, [&](std::string& out, char32_t c, std::size_t begin, std::size_t end) {
    if (in_word) {
      append_lower(out, text, begin, end);
    } else {
      append_title(out, c);
    }
    in_word = is_cased(c);
  });
}

std::string to_capitalized(std::string_view text) {
  return map_chars(text, [&](std::string& out, char32_t c, std::size_t begin, std::size_t end) {
    if (begin == 0) {
      append_title(out, c);
    } else {
      append_lower(out, text, begin, end);
    }
  });
}

std::string swap_case(std::string_view text) {
  return map_chars(text, [&](std::string& out, char32_t c, std::size_t begin, std::size_t end) {
    if (is_upper(c)) {
      append_lower(out, text, begin, end);
    } else if (is_lower(c)) {
      append_upper(out, c);
    } else {
      append_char(out, c);
    }
  });
}

}  // namespace heddle::jinja
