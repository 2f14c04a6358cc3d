#pragma once
// Cuts text into the words that byte-pair encoding never crosses.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_range.h"
#include "models/tokenizer/regex.h"

namespace heddle {

/// What a checkpoint's `tokenizer.ggml.pre` stands for.
struct PretokenizerKind {
  std::string_view name;
  /// In Oniguruma's syntax, as the families' own tokenizers have them; each cuts the words that the
  /// one before it made.
  std::vector<std::string_view> patterns;
  bool whole_words = false;  // a word in the vocabulary is that token, whatever the merges say
  bool nfc = false;          // the text is brought into Unicode normal form C first
};

/// The entry of that name; nullptr: unknown.
const PretokenizerKind* find_pretokenizer_kind(std::string_view name);
/// "smollm, llama-bpe, ...", for error texts.
std::string pretokenizer_names();

/// The patterns of one kind; immutable, safe to share between threads.
class Pretokenizer {
 public:
  explicit Pretokenizer(const std::vector<std::string_view>& patterns);

  /// The state of one pass over one text after another; one thread.
  class Cursor {
   public:
    explicit Cursor(const Pretokenizer& pretokenizer);
    /// Starts on `text`: valid UTF-8 that outlives the pass.
    void reset(std::string_view text);
    /// The next word; the words are not empty and cover the text. False: none is left.
    bool next(std::string_view& word);

   private:
    struct Level {
      Regex::Matcher matcher;
      std::string_view text = {};  // the word of the level above
      std::size_t pos = 0;
      ByteRange match = {};  // the last one found; it may lie beyond a gap
    };
    static std::string_view next_of(Level& level);

    std::vector<Level> levels_;
  };

 private:
  std::vector<Regex> regexes_;
};

}  // namespace heddle
