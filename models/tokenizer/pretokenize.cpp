#include "models/tokenizer/pretokenize.h"

#include "base/error.h"

namespace heddle {
namespace {

// The patterns of the families' own tokenizers, rewritten where PCRE2 reads them differently:
// - \s is spelled \t-\r \x{85} \p{Z}, because with UCP it would match U+180E too; \S accordingly.
// - SmolLM2 first makes every digit (\p{N}) a word of its own and then cuts the rest with GPT-2's
//   pattern. In one pattern: digits are an alternative, and a run of white space ends at a digit as
//   it does at the end of the text.
#define HEDDLE_SPACE R"(\t-\r\x{85}\p{Z})"

constexpr std::string_view kSmolLm =
    R"('(?:[sdmt]|ll|ve|re)|\p{N}| ?\p{L}+| ?[^\p{L}\p{N})" HEDDLE_SPACE R"(]+|[)" HEDDLE_SPACE
    R"(]+(?![^\p{N})" HEDDLE_SPACE R"(])|[)" HEDDLE_SPACE R"(]+)";

// Llama 3 and Qwen 2 differ in the number of digits that make a word.
#define HEDDLE_LLAMA_PATTERN(digits)                                                            \
  R"((?i:'(?:[sdmt]|ll|ve|re))|[^\r\n\p{L}\p{N}]?\p{L}+|)" digits                               \
  R"(| ?[^\p{L}\p{N})" HEDDLE_SPACE R"(]+[\r\n]*|[)" HEDDLE_SPACE R"(]*[\r\n]+|[)" HEDDLE_SPACE \
  R"(]+(?![^)" HEDDLE_SPACE R"(])|[)" HEDDLE_SPACE R"(]+)"

constexpr std::string_view kLlama3 = HEDDLE_LLAMA_PATTERN(R"(\p{N}{1,3})");
constexpr std::string_view kQwen2 = HEDDLE_LLAMA_PATTERN(R"(\p{N})");

#undef HEDDLE_LLAMA_PATTERN
#undef HEDDLE_SPACE

constexpr PretokenizerKind kKinds[] = {
    {"smollm", kSmolLm, false, false}, {"llama-bpe", kLlama3, true, false},
    {"llama3", kLlama3, true, false},  {"llama-v3", kLlama3, true, false},
    {"qwen2", kQwen2, false, true},
};

}  // namespace

const PretokenizerKind* find_pretokenizer_kind(std::string_view name) {
  for (const PretokenizerKind& kind : kKinds) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

std::string pretokenizer_names() {
  std::string names;
  for (const PretokenizerKind& kind : kKinds) {
    if (!names.empty()) names += ", ";
    names += kind.name;
  }
  return names;
}

void Pretokenizer::Cursor::reset(std::string_view text) {
  text_ = text;
  pos_ = 0;
  match_ = {};
}

bool Pretokenizer::Cursor::next(std::string_view& word) {
  if (pos_ == text_.size()) return false;
  if (match_.end <= pos_) {
    match_ = matcher_.find(text_, pos_).value_or(ByteRange{text_.size(), text_.size()});
    HEDDLE_CHECK(match_.end > pos_);  // no pattern of ours matches the empty text
  }
  // What the pattern skips is a word too.
  const std::size_t end = match_.begin > pos_ ? match_.begin : match_.end;
  word = text_.substr(pos_, end - pos_);
  pos_ = end;
  return true;
}

}  // namespace heddle
