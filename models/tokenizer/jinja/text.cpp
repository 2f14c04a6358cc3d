#include "models/tokenizer/jinja/text.h"

#include <algorithm>
#include <utility>

namespace heddle::jinja {
namespace {

bool is_continuation(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

/// Bytes of the well-formed sequence at `pos`, or 0 (Unicode table 3-7).
std::size_t sequence_length(std::string_view s, std::size_t pos) {
  const auto at = [&](std::size_t i) -> unsigned {
    return pos + i < s.size() ? static_cast<unsigned char>(s[pos + i]) : 0U;
  };
  const auto in = [](unsigned x, unsigned low, unsigned high) { return low <= x && x <= high; };
  const unsigned a = at(0);
  if (a < 0x80) return 1;
  if (in(a, 0xC2, 0xDF)) return in(at(1), 0x80, 0xBF) ? 2 : 0;
  if (in(a, 0xE0, 0xEF)) {
    const unsigned low = a == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = a == 0xED ? 0x9F : 0xBF;
    return in(at(1), low, high) && in(at(2), 0x80, 0xBF) ? 3 : 0;
  }
  if (in(a, 0xF0, 0xF4)) {
    const unsigned low = a == 0xF0 ? 0x90 : 0x80;
    const unsigned high = a == 0xF4 ? 0x8F : 0xBF;
    return in(at(1), low, high) && in(at(2), 0x80, 0xBF) && in(at(3), 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

}  // namespace

void TextBuilder::mark(std::size_t begin, std::size_t end) {
  if (begin == end) return;
  if (!untrusted_.empty() && untrusted_.back().end == begin) {
    untrusted_.back().end = end;
  } else {
    untrusted_.push_back({begin, end});
  }
}

void TextBuilder::append(std::string_view bytes, bool untrusted) {
  if (untrusted) mark(bytes_.size(), bytes_.size() + bytes.size());
  bytes_.append(bytes);
}

void TextBuilder::append(const Text& text, std::size_t begin, std::size_t end) {
  const std::size_t base = bytes_.size();
  bytes_.append(text.bytes, begin, end - begin);
  auto it = std::partition_point(text.untrusted.begin(), text.untrusted.end(),
                                 [&](const ByteRange& r) { return r.end <= begin; });
  for (; it != text.untrusted.end() && it->begin < end; ++it) {
    mark(base + std::max(it->begin, begin) - begin, base + std::min(it->end, end) - begin);
  }
}

Text TextBuilder::take() {
  Text text{std::move(bytes_), std::move(untrusted_)};
  text.n_chars = count_chars(text.bytes);
  bytes_.clear();
  untrusted_.clear();
  return text;
}

Text make_text(std::string bytes, bool untrusted) {
  Text text{std::move(bytes), {}};
  text.n_chars = count_chars(text.bytes);
  if (untrusted && !text.bytes.empty()) text.untrusted.push_back({0, text.bytes.size()});
  return text;
}

std::size_t first_invalid_utf8(std::string_view bytes) {
  std::size_t pos = 0;
  while (pos < bytes.size()) {
    const std::size_t n = sequence_length(bytes, pos);
    if (n == 0) return pos;
    pos += n;
  }
  return std::string_view::npos;
}

std::int64_t count_chars(std::string_view bytes) {
  std::int64_t n = 0;
  for (const char c : bytes) n += is_continuation(c) ? 0 : 1;
  return n;
}

std::size_t char_offset(const Text& text, std::int64_t index) {
  if (text.ascii()) return static_cast<std::size_t>(index);
  if (index >= text.n_chars) return text.bytes.size();
  std::size_t pos = 0;
  for (std::int64_t i = 0;; ++pos) {
    if (!is_continuation(text.bytes[pos]) && i++ == index) return pos;
  }
}

char32_t next_char(std::string_view bytes, std::size_t& pos) {
  const auto byte = [&](std::size_t i) -> char32_t {
    return static_cast<unsigned char>(bytes[pos + i]);
  };
  const char32_t a = byte(0);
  char32_t c = a;
  std::size_t n = 1;
  if (a >= 0xF0) {
    c = ((a & 7U) << 18) | ((byte(1) & 63U) << 12) | ((byte(2) & 63U) << 6) | (byte(3) & 63U);
    n = 4;
  } else if (a >= 0xE0) {
    c = ((a & 15U) << 12) | ((byte(1) & 63U) << 6) | (byte(2) & 63U);
    n = 3;
  } else if (a >= 0x80) {
    c = ((a & 31U) << 6) | (byte(1) & 63U);
    n = 2;
  }
  pos += n;
  return c;
}

char32_t previous_char(std::string_view bytes, std::size_t& pos) {
  do {
    --pos;
  } while (pos > 0 && is_continuation(bytes[pos]));
  std::size_t at = pos;
  return next_char(bytes, at);
}

void append_char(std::string& out, char32_t c) {
  const auto put = [&](char32_t x) { out.push_back(static_cast<char>(x)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0U | (c >> 6));
    put(0x80U | (c & 63U));
  } else if (c < 0x10000) {
    put(0xE0U | (c >> 12));
    put(0x80U | ((c >> 6) & 63U));
    put(0x80U | (c & 63U));
  } else {
    put(0xF0U | (c >> 18));
    put(0x80U | ((c >> 12) & 63U));
    put(0x80U | ((c >> 6) & 63U));
    put(0x80U | (c & 63U));
  }
}

}  // namespace heddle::jinja
