#pragma once
// The flags of `heddle needle`.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/registry.h"
#include "tools/heddle/flags.h"
#include "tools/needle/haystack.h"
#include "tools/needle/prompt.h"
#include "tools/needle/run.h"
#include "tools/needle/scorer.h"

namespace heddle::cli {

struct NeedleOptions {
  std::string suite;
  std::vector<needle::TaskSpec> tasks;
  std::vector<std::int64_t> lengths;  // empty: by the model's context
  std::vector<double> depths;
  std::int64_t samples = 1;
  std::uint64_t seed = 0;
  std::string haystack;                 // "": the essays
  std::vector<std::string> ruler_data;  // files, in place of tasks
  std::optional<bool> chat;             // not given: by the checkpoint
  needle::PromptOptions prompt;         // task_prefix: as with raw
  std::optional<std::string> prefix;    // --answer-prefix
  needle::Scorer scorer = needle::Scorer::kTask;
  std::string scorer_name;  // --scorer's
  bool reuse = true;
  std::size_t concurrency = 1;
  std::vector<std::string> modes;  // --compare
  bool self_check = false;
  bool leave_out = false;  // cells without room for their needles, in place of an error
  std::string out;
  bool resume = false;
};

/// `model`: the name that decides defaults. Throws kBadInput.
NeedleOptions needle_options(const Arguments& args, const std::string& model);

/// "dense,power:64,4,sliding:512": a part that begins with a digit belongs to the one before it.
/// Throws kBadInput: fewer than two, one twice, two whose folder_name() is one, one that is no
/// mode.
std::vector<std::string> attention_modes(const std::string& text);

/// A command line that gives these values once more.
std::string command_line(const Arguments& args);

/// What report.html says of how prompts were made, and of what scores do not say.
std::vector<std::string> needle_notes(const NeedleOptions& options);

/// Row::attention where no mode is asked for.
inline constexpr std::string_view kTrainedAttention = "trained";

/// A name that can be a folder's: "power-64-4".
std::string folder_name(std::string_view text);

}  // namespace heddle::cli
