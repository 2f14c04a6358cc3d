#include "models/tokenizer/word_cutter.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr int kMaxDepth = 8;  // of sequences
constexpr std::size_t kMaxSteps = 64;

/// GPT-2's words, as ByteLevel with use_regex cuts them.
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Part {
  ByteRange range;
  bool match = false;
};

/// Finds the parts of one word after another; one thread.
class Finder {
 public:
  explicit Finder(const WordCutter::Split& split) : split_(split) {
    if (split.pattern.regex) matcher_.emplace(*split.pattern.regex);
  }

  /// Parts that cover `word`, alternating as the pattern has it; ranges count from `base`. Empty
  /// matches are parts too.
  void find(std::string_view word, std::size_t base, std::vector<Part>& parts) {
    parts.clear();
    std::size_t previous = 0;
    std::size_t from = 0;
    std::size_t last_end = std::string_view::npos;
    while (from <= word.size()) {
      const std::optional<ByteRange> match = next(word, from);
      if (!match) break;
      if (match->begin == match->end && match->end == last_end) {
        if (from >= word.size()) break;
        from += utf8_step(word, from).length;
        continue;
      }
      if (match->begin > previous) parts.push_back({{previous, match->begin}, split_.invert});
      parts.push_back({*match, !split_.invert});
      previous = from = last_end = match->end;
    }
    if (previous < word.size()) parts.push_back({{previous, word.size()}, split_.invert});
    for (Part& part : parts) {
      part.range.begin += base;
      part.range.end += base;
    }
  }

 private:
  std::optional<ByteRange> next(std::string_view word, std::size_t from) {
    if (matcher_) return matcher_->find(word, from);
    const std::size_t begin = word.find(split_.pattern.literal, from);
    if (begin == std::string_view::npos) return std::nullopt;
    return ByteRange{begin, begin + split_.pattern.literal.size()};
  }

  const WordCutter::Split& split_;
  std::optional<Regex::Matcher> matcher_;
};

/// Puts parts together as the behavior says; appends the words.
void join(const std::vector<Part>& parts, SplitBehavior behavior, std::vector<ByteRange>& out) {
  std::vector<ByteRange> joined;
  bool previous_match = false;
  const auto forward = [&](const Part& part, bool join_to_last) {
    if (join_to_last && !joined.empty()) {
      joined.back().end = part.range.end;
    } else {
      joined.push_back(part.range);
    }
    previous_match = part.match;
  };
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.match) joined.push_back(part.range);
      }
      break;
    case SplitBehavior::kIsolated:
      for (const Part& part : parts) joined.push_back(part.range);
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) forward(part, part.match == previous_match);
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : parts) forward(part, part.match && !previous_match);
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->match && !previous_match && !joined.empty()) {
          joined.back().begin = part->range.begin;
        } else {
          joined.push_back(part->range);
        }
        previous_match = part->match;
      }
      std::reverse(joined.begin(), joined.end());
      break;
  }
  for (const ByteRange& range : joined) {
    if (range.begin < range.end) out.push_back(range);
  }
}

struct Apply {
  Words& words;

  void operator()(const WordCutter::Split& step) const {
    Finder finder(step);
    std::vector<Part> parts;
    std::vector<ByteRange> cut;
    const std::string_view text = words.text;
    for (const ByteRange& word : words.ranges) {
      finder.find(text.substr(word.begin, word.end - word.begin), word.begin, parts);
      join(parts, step.behavior, cut);
    }
    words.ranges = std::move(cut);
  }

  void operator()(const WordCutter::PrefixSpace&) const {
    rewrite([](std::string& out, std::string_view word, bool) {
      if (word.front() != ' ') out.push_back(' ');
      out += word;
    });
  }

  void operator()(const WordCutter::Metaspace& step) const {
    const bool at_start = words.at_start;
    rewrite([&](std::string& out, std::string_view word, bool first) {
      const bool spaced = word.front() == ' ' || word.starts_with(step.replacement);
      const bool wanted = step.prepend == WordCutter::PrependScheme::kAlways ||
                          (step.prepend == WordCutter::PrependScheme::kFirst && first && at_start);
      if (wanted && !spaced) out += step.replacement;
      for (const char c : word) {
        if (c == ' ') {
          out += step.replacement;
        } else {
          out.push_back(c);
        }
      }
    });
    if (step.split) {
      WordCutter::Split split;
      split.pattern.literal = step.replacement;
      split.behavior = SplitBehavior::kMergedWithNext;
      (*this)(split);
    }
  }

  /// Each word is spelled anew by f(out, word, whether it begins the text).
  template <typename F>
  void rewrite(const F& f) const {
    std::string text;
    text.reserve(words.text.size() + words.ranges.size());
    for (ByteRange& range : words.ranges) {
      const std::size_t begin = text.size();
      const std::string_view word =
          std::string_view(words.text).substr(range.begin, range.end - range.begin);
      f(text, word, range.begin == 0);
      range = {begin, text.size()};
    }
    words.text = std::move(text);
  }
};

SplitBehavior read_behavior(const JsonNode& node) {
  constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  };
  for (const auto& [name, behavior] : kBehaviors) {
    if (node.text() == name) return behavior;
  }
  throw node.wrong("Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

std::string read_character(const JsonNode& node) {
  const std::string& text = node.text();
  if (text.empty() || utf8_step(text, 0).length != text.size()) throw node.wrong("one character");
  return text;
}

WordCutter::Metaspace read_metaspace(const JsonNode& node) {
  node.only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  WordCutter::Metaspace step;
  step.replacement = read_character(node["replacement"]);
  step.split = node.boolean_or("split", true);
  if (node.has_value("prepend_scheme")) {
    const JsonNode scheme = node["prepend_scheme"];
    if (scheme.text() == "never") {
      step.prepend = WordCutter::PrependScheme::kNever;
    } else if (scheme.text() == "first") {
      step.prepend = WordCutter::PrependScheme::kFirst;
    } else if (scheme.text() != "always") {
      throw scheme.wrong("always, never, first");
    }
  }
  if (!node.boolean_or("add_prefix_space", true)) {  // how older files say "never"
    if (node.has_value("prepend_scheme") && step.prepend != WordCutter::PrependScheme::kNever) {
      throw node["add_prefix_space"].wrong("true, or a prepend_scheme of never");
    }
    step.prepend = WordCutter::PrependScheme::kNever;
  }
  return step;
}

}  // namespace

void WordCutter::apply(Words& words) const {
  words.ranges.clear();
  if (words.text.empty()) return;
  words.ranges.push_back({0, words.text.size()});
  for (const Step& step : steps_) {
    if (words.ranges.empty()) return;
    std::visit(Apply{words}, step);
  }
}

void WordCutter::add_byte_level(const JsonNode& node) {
  node.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  if (node["add_prefix_space"].boolean()) steps_.emplace_back(PrefixSpace{});
  if (node.boolean_or("use_regex", true)) {
    Split split;
    split.pattern.regex = compile_pattern(kGpt2, node);
    steps_.emplace_back(std::move(split));
  }
  byte_level_ = true;
}

bool WordCutter::add_split(const JsonNode& node) {
  const std::string& type = node["type"].text();
  Split split;
  if (type == "Split") {
    node.only({"type", "pattern", "behavior", "invert"});
    split.pattern = read_pattern(node["pattern"]);
    split.behavior = read_behavior(node["behavior"]);
    split.invert = node.boolean_or("invert", false);
  } else if (type == "Digits") {
    node.only({"type", "individual_digits"});
    split.pattern.regex = compile_pattern(R"(\p{N})", node);
    if (!node.boolean_or("individual_digits", false)) split.behavior = SplitBehavior::kContiguous;
  } else if (type == "Whitespace") {
    node.only({"type"});
    split.pattern.regex = compile_pattern(R"(\w+|[^\w\s]+)", node);
    split.behavior = SplitBehavior::kRemoved;
    split.invert = true;
  } else if (type == "WhitespaceSplit") {
    node.only({"type"});
    split.pattern.regex = compile_pattern(R"(\s)", node);
    split.behavior = SplitBehavior::kRemoved;
  } else if (type == "Punctuation") {
    node.only({"type", "behavior"});
    split.pattern.regex = compile_pattern(R"([!-\/:-@\[-`\{-~\p{P}])", node);
    if (node.has_value("behavior")) split.behavior = read_behavior(node["behavior"]);
  } else if (type == "CharDelimiterSplit") {
    node.only({"type", "delimiter"});
    split.pattern.literal = read_character(node["delimiter"]);
    split.behavior = SplitBehavior::kRemoved;
  } else {
    return false;
  }
  steps_.emplace_back(std::move(split));
  return true;
}

void WordCutter::add(const JsonNode& node, int depth) {
  if (steps_.size() >= kMaxSteps) {
    throw node.error("more than " + std::to_string(kMaxSteps) + " steps", "fewer");
  }
  const JsonNode type = node["type"];
  if (type.text() == "Sequence" && depth < kMaxDepth) {
    node.only({"type", "pretokenizers"});
    const JsonNode list = node["pretokenizers"];
    list.expect_array();
    for (std::size_t i = 0; i < list.size(); ++i) add(list.at(i), depth + 1);
    return;
  }
  if (byte_level_) throw type.wrong("nothing after ByteLevel");
  if (type.text() == "ByteLevel") {
    add_byte_level(node);
  } else if (type.text() == "Metaspace") {
    steps_.emplace_back(read_metaspace(node));
  } else if (!add_split(node)) {
    throw type.wrong(
        "Sequence (up to 8 deep), ByteLevel, Metaspace, Split, Digits, Whitespace, "
        "WhitespaceSplit, Punctuation, CharDelimiterSplit");
  }
}

}  // namespace heddle
