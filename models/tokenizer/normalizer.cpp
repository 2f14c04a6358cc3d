#include "models/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "models/tokenizer/unicode.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr int kMaxDepth = 8;  // of sequences
constexpr std::size_t kMaxSteps = 64;
constexpr std::size_t kMaxBytes = (std::size_t{1} << 31U) - 1;
constexpr std::size_t kMaxInsert = 256;  // bytes that one replacement puts into a text

const std::string& read_insert(const JsonNode& node) {
  const std::string& text = node.text();
  if (text.size() > kMaxInsert) {
    throw node.error(std::to_string(text.size()) + " bytes", "up to " + std::to_string(kMaxInsert));
  }
  return text;
}

/// Writes the next state of a text piece by piece.
class Rewrite {
 public:
  explicit Rewrite(NormalText& text) : in_(text) { out_.reserve(in_.text.size() + 16); }
  /// `source`: the place in the old text of what `bytes` stand for.
  void put(std::string_view bytes, std::size_t source) {
    out_ += bytes;
    if (!in_.tracked) return;
    const std::uint32_t from =
        in_.origin.empty() ? 0 : in_.origin[std::min(source, in_.origin.size() - 1)];
    origin_.insert(origin_.end(), bytes.size(), from);
  }
  /// A part of the old text as it is.
  void keep(std::size_t begin, std::size_t end) {
    out_.append(in_.text, begin, end - begin);
    if (!in_.tracked) return;
    const auto at = [&](std::size_t i) {
      return in_.origin.begin() + static_cast<std::ptrdiff_t>(i);
    };
    origin_.insert(origin_.end(), at(begin), at(end));
  }
  void finish() {
    in_.text = std::move(out_);
    in_.origin = std::move(origin_);
  }

 private:
  NormalText& in_;
  std::string out_;
  std::vector<std::uint32_t> origin_;
};

/// Calls f(character, begin, end) for each character.
template <typename F>
void for_each_character(std::string_view text, const F& f) {
  for (std::size_t pos = 0; pos < text.size();) {
    const Utf8Step step = utf8_step(text, pos);
    f(step.code_point, pos, pos + step.length);
    pos += step.length;
  }
}

void normal_form(NormalText& text, NormalForm form) {
  const bool inert = form == NormalForm::kNfc && is_surely_nfc(text.text);
  if (inert) return;
  if (!text.tracked) {
    text.text = to_normal_form(text.text, form);
    return;
  }
  // Characters below U+0300 join nothing before them: between two of them the forms are separate.
  Rewrite rewrite(text);
  std::size_t begin = 0;
  const auto flush = [&](std::size_t end) {
    if (end > begin) {
      rewrite.put(to_normal_form(std::string_view(text.text).substr(begin, end - begin), form),
                  begin);
    }
    begin = end;
  };
  for_each_character(text.text, [&](char32_t c, std::size_t at, std::size_t) {
    if (c < 0x300) flush(at);
  });
  flush(text.text.size());
  rewrite.finish();
}

void strip(NormalText& text, const Normalizer::Strip& step) {
  std::size_t begin = text.text.size();
  std::size_t end = 0;
  for_each_character(text.text, [&](char32_t c, std::size_t from, std::size_t to) {
    if (is_white_space(c)) return;
    begin = std::min(begin, from);
    end = to;
  });
  if (begin > end) begin = end = 0;  // nothing but white space
  Rewrite rewrite(text);
  if (begin != end) {
    rewrite.keep(step.left ? begin : 0, step.right ? end : text.text.size());
  } else if (!step.left && !step.right) {
    rewrite.keep(0, text.text.size());
  }
  rewrite.finish();
}

void lowercase(NormalText& text) {
  Rewrite rewrite(text);
  std::string lower;
  for_each_character(text.text, [&](char32_t c, std::size_t begin, std::size_t) {
    lower.clear();
    if (c == 0x130) {
      lower = "i\xCC\x87";  // the only character whose lower case is two
    } else {
      append_utf8(lower, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
    rewrite.put(lower, begin);
  });
  rewrite.finish();
}

void strip_accents(NormalText& text) {
  Rewrite rewrite(text);
  for_each_character(text.text, [&](char32_t c, std::size_t begin, std::size_t end) {
    if (!is_nonspacing_mark(c)) rewrite.keep(begin, end);
  });
  rewrite.finish();
}

/// SentencePiece's nmt rules: control characters vanish, other spaces become a space.
void nmt(NormalText& text) {
  Rewrite rewrite(text);
  for_each_character(text.text, [&](char32_t c, std::size_t begin, std::size_t end) {
    const bool dropped = (c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) ||
                         c == 0x7F || c == 0x8F || c == 0x9F;
    if (dropped) return;
    const bool space = c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    if (space) {
      rewrite.put(" ", begin);
    } else {
      rewrite.keep(begin, end);
    }
  });
  rewrite.finish();
}

void replace(NormalText& text, const Normalizer::Replace& step) {
  std::optional<Regex::Matcher> matcher;
  if (step.regex) matcher.emplace(*step.regex);
  const auto next = [&](std::size_t from) -> std::optional<ByteRange> {
    if (matcher) return matcher->find(text.text, from);
    const std::size_t begin = text.text.find(step.literal, from);
    if (begin == std::string::npos) return std::nullopt;
    return ByteRange{begin, begin + step.literal.size()};
  };
  Rewrite rewrite(text);
  std::size_t kept = 0;
  std::size_t from = 0;
  std::size_t last_end = std::string::npos;
  while (from <= text.text.size()) {
    const std::optional<ByteRange> match = next(from);
    if (!match) break;
    if (match->begin == match->end && match->end == last_end) {  // empty, right after the last one
      if (from >= text.text.size()) break;
      from += utf8_step(text.text, from).length;
      continue;
    }
    rewrite.keep(kept, match->begin);
    rewrite.put(step.content, match->begin);
    kept = from = last_end = match->end;
  }
  rewrite.keep(kept, text.text.size());
  rewrite.finish();
}

/// Whole grapheme clusters of less than six bytes first, then character by character.
void precompiled(NormalText& text, const Charsmap& map) {
  const std::string_view in = text.text;
  Rewrite rewrite(text);
  const auto cluster = [&](std::size_t begin, std::size_t end) {
    if (end - begin < 6) {
      if (const auto found = map.replacement(in.substr(begin, end - begin))) {
        rewrite.put(*found, begin);
        return;
      }
    }
    for_each_character(in.substr(begin, end - begin),
                       [&](char32_t, std::size_t from, std::size_t to) {
                         from += begin;
                         to += begin;
                         if (const auto found = map.replacement(in.substr(from, to - from))) {
                           rewrite.put(*found, from);
                         } else {
                           rewrite.keep(from, to);
                         }
                       });
  };
  std::size_t begin = 0;
  utf8proc_int32_t state = 0;
  utf8proc_int32_t previous = 0;
  for_each_character(in, [&](char32_t c, std::size_t at, std::size_t) {
    const auto point = static_cast<utf8proc_int32_t>(c);
    if (at > 0 && utf8proc_grapheme_break_stateful(previous, point, &state)) {
      cluster(begin, at);
      begin = at;
    }
    previous = point;
  });
  if (begin < in.size()) cluster(begin, in.size());
  rewrite.finish();
}

struct Apply {
  NormalText& text;
  void operator()(NormalForm form) const { normal_form(text, form); }
  void operator()(const Normalizer::Strip& step) const { strip(text, step); }
  void operator()(const Normalizer::Lowercase&) const { lowercase(text); }
  void operator()(const Normalizer::StripAccents&) const { strip_accents(text); }
  void operator()(const Normalizer::Nmt&) const { nmt(text); }
  void operator()(const Normalizer::Prepend& step) const {
    if (text.text.empty()) return;
    Rewrite rewrite(text);
    rewrite.put(step.text, 0);
    rewrite.keep(0, text.text.size());
    rewrite.finish();
  }
  void operator()(const Normalizer::Replace& step) const { replace(text, step); }
  void operator()(const std::unique_ptr<const Charsmap>& map) const { precompiled(text, *map); }
};

std::unique_ptr<const Charsmap> read_charsmap(const JsonNode& node) {
  const std::optional<std::string> blob = decode_base64(node.text());
  if (!blob) throw node.error("a text that is not base64", "base64");
  try {
    return std::make_unique<const Charsmap>(*blob);
  } catch (const Error& error) {
    throw node.error(error.what(), "a size, a trie of that size and its replacements");
  }
}

}  // namespace

std::unique_ptr<const Regex> compile_pattern(const std::string& pattern, const JsonNode& node) {
  std::string rewritten;
  try {
    rewritten = pcre2_from_oniguruma(pattern);
  } catch (const Error& error) {
    throw node.error(error.what(), "the regular expressions of docs/tokenizers.md");
  }
  return std::make_unique<const Regex>(rewritten, node.name(), /*multiline=*/true);
}

JsonPattern read_pattern(const JsonNode& node) {
  node.only({"String", "Regex"});
  JsonPattern pattern;
  if (node.size() != 1) throw node.error("an object of several members", "String or Regex");
  if (node.has("String")) {
    pattern.literal = node["String"].text();
    if (pattern.literal.empty()) throw node["String"].error("''", "a text");
  } else {
    pattern.regex = compile_pattern(node["Regex"].text(), node["Regex"]);
  }
  return pattern;
}

void Normalizer::apply(NormalText& text) const {
  const std::size_t limit = std::min(text.text.size() * 64 + 65536, kMaxBytes);
  for (const Step& step : steps_) {
    std::visit(Apply{text}, step);
    if (text.text.size() > limit) {
      throw bad_input("the normalizer makes a text of " + std::to_string(text.text.size()) +
                      " bytes, allowed for this one: up to " + std::to_string(limit));
    }
  }
}

void Normalizer::add(const JsonNode& node, int depth) {
  if (steps_.size() >= kMaxSteps) {
    throw node.error("more than " + std::to_string(kMaxSteps) + " steps", "fewer");
  }
  const std::string& type = node["type"].text();
  constexpr std::pair<std::string_view, NormalForm> kForms[] = {{"NFC", NormalForm::kNfc},
                                                                {"NFD", NormalForm::kNfd},
                                                                {"NFKC", NormalForm::kNfkc},
                                                                {"NFKD", NormalForm::kNfkd}};
  for (const auto& [name, form] : kForms) {
    if (type != name) continue;
    node.only({"type"});
    steps_.emplace_back(form);
    return;
  }
  if (type == "Sequence" && depth < kMaxDepth) {
    node.only({"type", "normalizers"});
    const JsonNode list = node["normalizers"];
    list.expect_array();
    for (std::size_t i = 0; i < list.size(); ++i) add(list.at(i), depth + 1);
  } else if (type == "Lowercase") {
    node.only({"type"});
    steps_.emplace_back(Lowercase{});
  } else if (type == "StripAccents") {
    node.only({"type"});
    steps_.emplace_back(StripAccents{});
  } else if (type == "Nmt") {
    node.only({"type"});
    steps_.emplace_back(Nmt{});
  } else if (type == "Strip") {
    node.only({"type", "strip_left", "strip_right"});
    steps_.emplace_back(Strip{node["strip_left"].boolean(), node["strip_right"].boolean()});
  } else if (type == "Prepend") {
    node.only({"type", "prepend"});
    steps_.emplace_back(Prepend{read_insert(node["prepend"])});
  } else if (type == "Replace") {
    node.only({"type", "pattern", "content"});
    JsonPattern pattern = read_pattern(node["pattern"]);
    steps_.emplace_back(Replace{std::move(pattern.literal), std::move(pattern.regex),
                                read_insert(node["content"])});
  } else if (type == "Precompiled") {
    node.only({"type", "precompiled_charsmap"});
    steps_.emplace_back(read_charsmap(node["precompiled_charsmap"]));
  } else {
    throw node["type"].wrong(
        "Sequence (up to 8 deep), NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, "
        "Replace, Precompiled, Nmt");
  }
}

}  // namespace heddle
