#pragma once
// What `heddle needle` asks: the prompts of a grid of tasks, or those of RULER's files.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/checkpoint.h"
#include "models/tokenizer/chat_template.h"
#include "tools/heddle/needle_options.h"
#include "tools/needle/grid.h"
#include "tools/needle/haystack.h"
#include "tools/needle/prompt.h"

namespace heddle::cli {

/// A checkpoint's tokenizer and template, without its weights.
struct Texts {
  Checkpoint checkpoint;
  std::optional<ChatTemplate> chat_template;
  const ChatTemplate* chat() const { return chat_template ? &*chat_template : nullptr; }
};

/// `chat`: with the checkpoint's template, without, or as it has one. Throws kBadInput where it is
/// to have one and has none.
Texts open_texts(const std::string& path, const std::optional<bool>& chat);

/// --answer-prefix: the task's own (the default of raw prompts), none, or a text of the user's.
void set_prefix(NeedleOptions& options, bool chat);

/// What all modes of a run are asked: a grid of tasks, or files of RULER's.
struct Questions {
  std::optional<needle::Haystack> haystack;
  std::unique_ptr<needle::PromptSource> prompts;
  std::vector<needle::CellGroup> groups;
  std::string hash;  // of what prompts are made of
};

/// Throws kBadInput for cells that do not fit or that the haystack answers, unless
/// `options.leave_out` and others are left; for lengths beyond `context` (of the model; nullopt:
/// not known, and lengths must be given). Of files, `options.lengths` becomes the longest prompt's.
Questions questions_of(NeedleOptions& options,
                       needle::PromptEncoder& encoder,
                       const std::optional<std::int64_t>& context);

}  // namespace heddle::cli
