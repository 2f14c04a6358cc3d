#pragma once
// What a tokenizer.json's `normalizer` does to a text before it is cut into words.

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "models/tokenizer/charsmap.h"
#include "models/tokenizer/json_node.h"
#include "models/tokenizer/normalize.h"
#include "models/tokenizer/regex.h"

namespace heddle {

/// A text on its way, and for each of its bytes the place in the source where it comes from (the
/// begin of what was rewritten together), if that is kept track of.
struct NormalText {
  std::string text;
  std::vector<std::uint32_t> origin;
  bool tracked = false;
};

/// A list of steps; immutable, safe to share between threads. Valid UTF-8 in, valid UTF-8 out, in
/// linear time (a pattern of the file's author aside).
class Normalizer {
 public:
  Normalizer() = default;  // none
  /// Throws kBadInput for an unknown type or member.
  explicit Normalizer(const JsonNode& node) { add(node, 0); }

  bool empty() const { return steps_.empty(); }
  void apply(NormalText& text) const;

  struct Strip {
    bool left = true;
    bool right = true;
  };
  struct Lowercase {};
  struct StripAccents {};
  struct Nmt {};
  struct Prepend {
    std::string text;
  };
  struct Replace {
    std::string literal;  // if there is no regex
    std::unique_ptr<const Regex> regex;
    std::string content;
  };
  using Step = std::variant<NormalForm,
                            Strip,
                            Lowercase,
                            StripAccents,
                            Nmt,
                            Prepend,
                            Replace,
                            std::unique_ptr<const Charsmap>>;

 private:
  void add(const JsonNode& node, int depth);

  std::vector<Step> steps_;
};

/// {"String": S} or {"Regex": R}; the other member of the pair stays empty.
struct JsonPattern {
  std::string literal;
  std::unique_ptr<const Regex> regex;
};
JsonPattern read_pattern(const JsonNode& node);

/// A pattern of Oniguruma's, compiled. `node` is named in errors.
std::unique_ptr<const Regex> compile_pattern(const std::string& pattern, const JsonNode& node);

}  // namespace heddle
