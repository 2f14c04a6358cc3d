#pragma once
// Cuts text into the words that byte-pair encoding never crosses.

#include <cstddef>
#include <string>
#include <string_view>

#include "base/byte_range.h"
#include "models/tokenizer/regex.h"

namespace heddle {

/// What a checkpoint's `tokenizer.ggml.pre` stands for.
struct PretokenizerKind {
  std::string_view name;
  std::string_view pattern;  // in PCRE2's syntax; see pretokenize.cpp for the rewrites
  bool whole_words = false;  // a word in the vocabulary is that token, whatever the merges say
  bool nfc = false;          // the text is brought into Unicode normal form C first
};

/// The entry of that name; nullptr: unknown.
const PretokenizerKind* find_pretokenizer_kind(std::string_view name);
/// "smollm, llama-bpe, ...", for error texts.
std::string pretokenizer_names();

/// The pattern of one kind; immutable, safe to share between threads.
class Pretokenizer {
 public:
  explicit Pretokenizer(std::string_view pattern) : regex_(pattern, "pre-tokenizer pattern") {}

  /// The state of one pass over one text after another; one thread.
  class Cursor {
   public:
    explicit Cursor(const Pretokenizer& pretokenizer) : matcher_(pretokenizer.regex_) {}
    /// Starts on `text`: valid UTF-8 that outlives the pass.
    void reset(std::string_view text);
    /// The next word; the words are not empty and cover the text. False: none is left.
    bool next(std::string_view& word);

   private:
    Regex::Matcher matcher_;
    std::string_view text_;
    std::size_t pos_ = 0;
    ByteRange match_;  // the last one found; it may lie beyond a gap
  };

 private:
  Regex regex_;
};

}  // namespace heddle
