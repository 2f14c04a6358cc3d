#pragma once
// Prompts of an exact length in the model's own tokens.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/tokenizer/chat_template.h"
#include "models/tokenizer/tokenizer.h"
#include "tools/needle/haystack.h"
#include "tools/needle/task.h"

namespace heddle::needle {

/// A prompt as the model reads it.
struct EncodedPrompt {
  std::string text;                  // preamble, haystack with needles, question
  std::string prefix;                // the begin of the answer, behind it; "": none
  std::vector<TokenId> tokens = {};  // of both, with what the template adds; empty: not known
  std::int64_t n_tokens = 0;
};

/// How a text becomes what the model reads.
class PromptEncoder {
 public:
  virtual ~PromptEncoder() = default;
  virtual EncodedPrompt encode(std::string text, std::string prefix) = 0;
  /// Tokens of a piece between others, with the separator that it begins with: near enough to plan
  /// with.
  virtual std::int64_t count_piece(const std::string& piece) = 0;
};

/// With a tokenizer at hand. Special tokens in the text stay plain text.
class LocalEncoder final : public PromptEncoder {
 public:
  /// `chat_template`: the text is one user message; null: it is continued as it stands. Both must
  /// outlive this.
  LocalEncoder(const Tokenizer& tokenizer, const ChatTemplate* chat_template)
      : tokenizer_(tokenizer), chat_template_(chat_template) {}
  EncodedPrompt encode(std::string text, std::string prefix) override;
  std::int64_t count_piece(const std::string& piece) override;

 private:
  const Tokenizer& tokenizer_;
  const ChatTemplate* chat_template_;
};

struct BuiltPrompt {
  CellKey key = {};
  EncodedPrompt prompt = {};
  std::int64_t answer_tokens = 0;  // with the prompt exactly key.length
  std::vector<std::string> expected = {};
  std::vector<std::string> wrong = {};
  Match match = Match::kAll;
  std::vector<std::string> stop = {};  // texts that end the answer
  std::string question = {};           // behind the haystack; "": not known
};

struct PromptOptions {
  DraftOptions draft = {};
  bool task_prefix = true;             // the answer's begin is the task's
  std::string prefix = {};             // else this one
  std::int64_t answer_tokens = 0;      // 0: the task's
  std::vector<std::string> stop = {};  // texts that end an answer
  bool stop_is_given = false;          // the user's: also of answers with periods of their own
};

/// Where the prompts of cells come from.
class PromptSource {
 public:
  virtual ~PromptSource() = default;
  virtual BuiltPrompt build(const TaskSpec& task, const CellKey& key) = 0;
};

/// Builds the prompts of cells. The same cell gives the same prompt, whatever was built before.
class PromptBuilder final : public PromptSource {
 public:
  /// `encoder` and `haystack` must outlive this.
  PromptBuilder(PromptEncoder& encoder, const Haystack& haystack, PromptOptions options);
  /// Throws kBadInput where needles, question and answer do not fit, and where an expected answer
  /// stands in the haystack.
  void check(const TaskSpec& task, const CellKey& key);
  /// Prompt and answer take exactly key.length tokens: sentences of the haystack are taken one
  /// after the other, and the last ones are cut behind a word, or within one where no other cut
  /// gives the length. Throws as check() does.
  BuiltPrompt build(const TaskSpec& task, const CellKey& key) override;

 private:
  struct Piece {
    std::string text;
    std::int64_t tokens = 0;
  };
  struct Source;  // of pieces, in order

  static Source noise_source(const std::string& between);
  std::int64_t count(const std::string& piece);
  std::int64_t room(const TaskSpec& task) const;
  std::string prefix(const Draft& draft) const;
  EncodedPrompt encode(const Draft& draft, const std::vector<Piece>& hay);
  EncodedPrompt encode_body(const Draft& draft, std::int64_t n, const std::vector<Piece>& padding);
  EncodedPrompt smallest(const Draft& draft);
  void check_draft(const TaskSpec& task, const CellKey& key, const Draft& draft);
  std::vector<Piece> fill(const Source& source, std::int64_t n_tokens, std::size_t variant);
  std::vector<Piece> fragments(const Source& source,
                               std::size_t from,
                               std::int64_t n_tokens,
                               std::size_t variant,
                               std::vector<Piece>& shorter);
  std::vector<Piece> begin_of(const Source& source,
                              std::size_t i,
                              std::int64_t n_tokens,
                              std::size_t variant);
  static std::vector<Piece> change(const std::vector<Piece>& parts, std::int64_t n_tokens);
  void end_with_parts(const Source& source,
                      std::int64_t left,
                      std::size_t variant,
                      std::vector<Piece>& pieces);
  void end_with_noise(const std::string& between,
                      std::int64_t left,
                      std::size_t variant,
                      std::vector<Piece>& pieces);
  template <typename Encode>
  EncodedPrompt fit(const Source& source,
                    std::int64_t n_tokens,
                    std::int64_t n_fixed,
                    const Encode& encode);
  EncodedPrompt fit_body(const Draft& draft, std::int64_t n_tokens);

  PromptEncoder& encoder_;
  const Haystack& haystack_;
  PromptOptions options_;
  std::unordered_map<std::string, std::int64_t> counts_;
};

}  // namespace heddle::needle
