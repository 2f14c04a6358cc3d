#pragma once
// Regular expressions over UTF-8: PCRE2 with its JIT compiler, without recursion and with a limit
// on the steps of one match.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/byte_range.h"

namespace heddle {

/// A compiled pattern; immutable, safe to share between threads. Knows the characters of Unicode 14
/// (PCRE2 10.42); later ones count as unassigned.
class Regex {
 public:
  /// `pattern` in PCRE2's syntax (UTF, UCP, multi-line anchors if asked for). `name` says in errors
  /// whose pattern it is. Throws kBadInput for what does not compile.
  Regex(std::string_view pattern, std::string name, bool multiline = false);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// The state of one pass; one thread.
  class Matcher {
   public:
    explicit Matcher(const Regex& regex);
    ~Matcher();
    Matcher(Matcher&&) noexcept;
    /// The first match that begins at or after `from`; may be empty. `text` is valid UTF-8, `from`
    /// a border between characters. Throws kBadInput where the pattern takes too many steps.
    std::optional<ByteRange> find(std::string_view text, std::size_t from);

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

/// Rewrites a pattern of Oniguruma (Ruby's syntax, which tokenizer.json files use) for Regex, to be
/// compiled as multi-line. Throws kBadInput, "WHAT at position N, allowed ...", for what has no
/// rewriting here.
std::string pcre2_from_oniguruma(std::string_view pattern);

}  // namespace heddle
