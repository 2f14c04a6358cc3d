#include "models/tokenizer/pretokenize.h"

#include "base/error.h"

namespace heddle {
namespace {

constexpr std::string_view kGpt2 =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// SmolLM2 and others first make every digit (\p{N}) a word of its own and then cut the rest with
// GPT-2's pattern. In one pattern: digits are an alternative, and a run of white space ends at a
// digit as it does at the end of the text.
constexpr std::string_view kDigitsThenGpt2 =
    R"('(?:[sdmt]|ll|ve|re)|\p{N}| ?\p{L}+| ?[^\p{L}\p{N}\s]+|\s+(?![^\p{N}\s])|\s+)";

// Llama 3 and Qwen 2 differ in the number of digits that make a word.
#define HEDDLE_LLAMA_PATTERN(digits)                              \
  R"((?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits \
  R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"

constexpr std::string_view kLlama3 = HEDDLE_LLAMA_PATTERN(R"(\p{N}{1,3})");
constexpr std::string_view kQwen2 = HEDDLE_LLAMA_PATTERN(R"(\p{N})");

#undef HEDDLE_LLAMA_PATTERN

constexpr std::string_view kQwen35 =
    R"((?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N})"
    R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

#define HEDDLE_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define HEDDLE_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define HEDDLE_CASED(suffix)                                       \
  R"([^\r\n\p{L}\p{N}]?)" HEDDLE_UPPER "*" HEDDLE_LOWER "+" suffix \
  R"(|[^\r\n\p{L}\p{N}]?)" HEDDLE_UPPER "+" HEDDLE_LOWER "*" suffix

constexpr std::string_view kTekken =
    HEDDLE_CASED("") R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o = HEDDLE_CASED(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)") R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

#undef HEDDLE_CASED
#undef HEDDLE_LOWER
#undef HEDDLE_UPPER

constexpr std::string_view kThreeDigits = R"(\p{N}{1,3})";
constexpr std::string_view kHanAndKana =
    R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
constexpr std::string_view kDeepSeekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
    R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// In the order in which error texts list them.
const std::vector<PretokenizerKind>& kinds() {
  static const std::vector<PretokenizerKind> kKinds = {
      {"smollm", {kDigitsThenGpt2}, false, false},
      {"llama-bpe", {kLlama3}, true, false},
      {"llama3", {kLlama3}, true, false},
      {"llama-v3", {kLlama3}, true, false},
      {"qwen2", {kQwen2}, false, true},
      {"qwen35", {kQwen35}, false, true},
      {"gpt-2", {kGpt2}, false, false},
      {"gpt-4o", {kGpt4o}, false, false},
      {"tekken", {kTekken}, true, false},
      {"starcoder", {kDigitsThenGpt2}, false, false},
      {"refact", {kDigitsThenGpt2}, false, false},
      {"command-r", {kDigitsThenGpt2}, false, true},
      {"dbrx", {kLlama3}, false, false},
      {"deepseek-v3", {kThreeDigits, kHanAndKana, kDeepSeekV3}, false, false},
  };
  return kKinds;
}

}  // namespace

const PretokenizerKind* find_pretokenizer_kind(std::string_view name) {
  for (const PretokenizerKind& kind : kinds()) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

std::string pretokenizer_names() {
  std::string names;
  for (const PretokenizerKind& kind : kinds()) {
    if (!names.empty()) names += ", ";
    names += kind.name;
  }
  return names;
}

Pretokenizer::Pretokenizer(const std::vector<std::string_view>& patterns) {
  for (const std::string_view pattern : patterns) {
    regexes_.emplace_back(pcre2_from_oniguruma(pattern), "pre-tokenizer pattern", true);
  }
}

Pretokenizer::Cursor::Cursor(const Pretokenizer& pretokenizer) {
  for (const Regex& regex : pretokenizer.regexes_) {
    levels_.push_back({.matcher = Regex::Matcher(regex)});
  }
}

void Pretokenizer::Cursor::reset(std::string_view text) {
  for (Level& level : levels_) {
    level.text = {};
    level.pos = 0;
    level.match = {};
  }
  levels_.front().text = text;
}

std::string_view Pretokenizer::Cursor::next_of(Level& level) {
  if (level.match.end <= level.pos) {
    level.match = level.matcher.find(level.text, level.pos)
                      .value_or(ByteRange{level.text.size(), level.text.size()});
    HEDDLE_CHECK(level.match.end > level.pos);  // no pattern of ours matches the empty text
  }
  // What the pattern skips is a word too.
  const std::size_t begin = level.pos;
  level.pos = level.match.begin > begin ? level.match.begin : level.match.end;
  return level.text.substr(begin, level.pos - begin);
}

bool Pretokenizer::Cursor::next(std::string_view& word) {
  std::size_t at = levels_.size();
  while (at > 0 && levels_[at - 1].pos == levels_[at - 1].text.size()) --at;
  if (at == 0) return false;
  word = next_of(levels_[at - 1]);
  for (; at < levels_.size(); ++at) {
    levels_[at].text = word;
    levels_[at].pos = 0;
    levels_[at].match = {};
    word = next_of(levels_[at]);
  }
  return true;
}

}  // namespace heddle
