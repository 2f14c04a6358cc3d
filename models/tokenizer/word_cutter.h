#pragma once
// What a tokenizer.json's `pre_tokenizer` does: a normalised text becomes the words that the model
// sees one by one.

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/byte_range.h"
#include "models/tokenizer/json_node.h"
#include "models/tokenizer/normalizer.h"

namespace heddle {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A text and the parts of it that are words; what lies between them is dropped.
struct Words {
  std::string text;
  std::vector<ByteRange> ranges;  // ascending, disjoint, not empty
  bool at_start = true;           // the text begins where the whole input begins
};

/// A list of steps; immutable, safe to share between threads.
class WordCutter {
 public:
  WordCutter() = default;  // none: the text is one word
  /// Throws kBadInput for an unknown type or member.
  explicit WordCutter(const JsonNode& node) { add(node, 0); }

  /// Cuts words.text, which is one word to begin with.
  void apply(Words& words) const;

  /// Words stand for bytes: the model spells them in GPT-2's alphabet (byte_level.h).
  bool byte_level() const { return byte_level_; }

  struct Split {
    JsonPattern pattern;
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;
  };
  struct PrefixSpace {};  // a space before a word that does not begin with one
  enum class PrependScheme { kAlways, kNever, kFirst };
  struct Metaspace {
    std::string replacement;  // one character
    PrependScheme prepend = PrependScheme::kAlways;
    bool split = true;
  };
  using Step = std::variant<Split, PrefixSpace, Metaspace>;

 private:
  void add(const JsonNode& node, int depth);
  void add_byte_level(const JsonNode& node);
  bool add_split(const JsonNode& node);

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace heddle
