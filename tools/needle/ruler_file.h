#pragma once
// RULER's own data files, read as they are.

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tools/needle/prompt.h"
#include "tools/needle/run.h"

namespace heddle::needle {

/// Lines of JSON objects with `input` (the prompt), `outputs` (a list of texts, one or more) and,
/// if there is one, `answer_prefix`; other keys are not looked at (`index` is no number of the
/// line: some tasks put the answer's place there). A cell is a line: its sample is the line's
/// number from 0, its task the file's name without ending, or that of its folder where the file is
/// called validation or test, its length the least power of two that holds prompt and answer. The
/// room for the answer is that of the task of this name, else 128; qa tasks want any of the
/// outputs, others all.
class RulerFile final : public PromptSource {
 public:
  /// `encoder` must outlive this. Throws kBadInput naming file, line and key.
  /// `chat`: the begin of the answer stands behind the template, else directly behind the
  /// input. Of `options` the answers' room and the user's stop texts count.
  RulerFile(const std::vector<std::string>& paths,
            PromptEncoder& encoder,
            bool chat,
            const PromptOptions& options);

  /// One group a line: prompts of a file share nothing on purpose.
  std::vector<CellGroup> groups() const;
  /// The longest prompt with its answer.
  std::int64_t longest() const { return longest_; }
  const std::string& hash() const { return hash_; }  // SHA-256 of the files
  BuiltPrompt build(const TaskSpec& task, const CellKey& key) override;

 private:
  struct Line {
    TaskSpec task = {};
    CellKey key = {};
    std::string text = {};
    std::string prefix = {};
    std::vector<std::string> expected = {};
  };
  void read(const std::string& path, bool chat, std::int64_t answer_tokens);

  PromptEncoder& encoder_;
  std::vector<std::string> stop_;
  std::deque<std::string> names_;  // of tasks, which TaskSpec looks at
  std::vector<Line> lines_;
  std::int64_t longest_ = 0;
  std::string hash_;
};

}  // namespace heddle::needle
