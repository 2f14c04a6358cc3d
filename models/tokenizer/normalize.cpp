#include "models/tokenizer/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

/// Blocks whose characters are NFC already, are starters and compose with nothing before them.
bool is_inert(char32_t c) {
  if (c < 0x300) return true;  // Latin
  if (c < 0x3400) {
    return (c >= 0x400 && c <= 0x482) ||    // Cyrillic
           (c >= 0x3041 && c <= 0x3096) ||  // Hiragana without the voicing marks
           (c >= 0x30A1 && c <= 0x30FF) ||  // Katakana
           (c >= 0x3001 && c <= 0x3029) ||  // CJK punctuation
           (c >= 0x2010 && c <= 0x2027);    // dashes, quotes, bullets
  }
  return c <= 0x9FFF || (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xFF01 && c <= 0xFFEE) ||
         (c >= 0x1F300 && c <= 0x1FAFF);  // Han, Hangul syllables, wide forms, emoji
}

/// Decomposition of the text, canonical or for compatibility, marks in canonical order.
std::vector<utf8proc_int32_t> decompose(std::string_view text, bool compatibility) {
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  std::vector<std::pair<utf8proc_propval_t, utf8proc_int32_t>> marks;
  const auto flush_marks = [&] {
    // utf8proc's own ordering is an insertion sort: quadratic in a run of marks.
    std::stable_sort(marks.begin(), marks.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& mark : marks) points.push_back(mark.second);
    marks.clear();
  };
  for (std::size_t pos = 0; pos < text.size();) {
    const Utf8Step step = utf8_step(text, pos);
    HEDDLE_CHECK(step.valid);
    pos += step.length;
    utf8proc_int32_t parts[32] = {};
    int last_boundclass = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(static_cast<utf8proc_int32_t>(step.code_point), parts,
                                std::size(parts), options, &last_boundclass);
    HEDDLE_CHECK(count > 0 && count <= static_cast<utf8proc_ssize_t>(std::size(parts)));
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      const utf8proc_propval_t order = utf8proc_get_property(parts[i])->combining_class;
      if (order > 0) {
        marks.emplace_back(order, parts[i]);
        continue;
      }
      flush_marks();
      points.push_back(parts[i]);
    }
  }
  flush_marks();
  return points;
}

}  // namespace

bool is_surely_nfc(std::string_view text) {
  for (std::size_t pos = 0; pos < text.size();) {
    const auto byte = static_cast<unsigned char>(text[pos]);
    if (byte < 0xCC) {  // ASCII, or a lead byte of U+0080 to U+02FF
      pos += byte < 0x80 ? 1 : 2;
      continue;
    }
    const Utf8Step step = utf8_step(text, pos);
    if (!is_inert(step.code_point)) return false;
    pos += step.length;
  }
  return true;
}

std::string to_normal_form(std::string_view text, NormalForm form) {
  const bool compatibility = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  std::vector<utf8proc_int32_t> points = decompose(text, compatibility);
  auto count = static_cast<utf8proc_ssize_t>(points.size());
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) {
    count = utf8proc_normalize_utf32(
        points.data(), count, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    HEDDLE_CHECK(count >= 0);
  }
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    append_utf8(out, static_cast<char32_t>(points[static_cast<std::size_t>(i)]));
  }
  return out;
}

}  // namespace heddle
