#pragma once
// Cuts text into the words that byte-pair encoding never crosses. The patterns run in PCRE2 with
// its JIT compiler.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

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

/// A compiled pattern; immutable, safe to share between threads. Knows the characters of Unicode 14
/// (PCRE2 10.42); later ones count as unassigned: neither letters nor digits.
class Pretokenizer {
 public:
  explicit Pretokenizer(std::string_view pattern);
  ~Pretokenizer();
  Pretokenizer(Pretokenizer&&) noexcept;
  Pretokenizer& operator=(Pretokenizer&&) noexcept;

  /// The state of one pass over one text after another; one thread.
  class Cursor {
   public:
    explicit Cursor(const Pretokenizer& pretokenizer);
    ~Cursor();
    Cursor(const Cursor&) = delete;
    Cursor& operator=(const Cursor&) = delete;
    /// Starts on `text`: valid UTF-8 that outlives the pass.
    void reset(std::string_view text);
    /// The next word; the words are not empty and cover the text. False: none is left.
    bool next(std::string_view& word);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
    std::string_view text_;
    std::size_t pos_ = 0;
    std::size_t match_begin_ = 0;  // a match that was found beyond a gap
    std::size_t match_end_ = 0;
  };

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace heddle
