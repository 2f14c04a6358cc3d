// What goes in.

#include "tools/heddle/flags/parts.h"

namespace heddle::cli {
namespace {

constexpr FlagSpec kFlags[] = {
    {.name = "prompt",
     .letter = 'p',
     .commands = kGenerate | kTokenize,
     .kind = ValueKind::kText,
     .value = "TEXT",
     .help = "the prompt"},
    {.name = "file",
     .letter = 'f',
     .commands = kGenerate | kTokenize,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "read the prompt from FILE (-: standard input)"},
    {.name = "file",
     .letter = 'f',
     .commands = kScore,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "the text (-: standard input); required"},
    {.name = "prompts",
     .commands = kGenerate,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "answer every line of a JSON-lines file, batched (-: standard input)"},
    {.name = "parallel",
     .commands = kGenerate,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "sequences that run side by side with --prompts",
     .fallback = "8",
     .low = 1,
     .high = 1024,
     .env = true},
    {.name = "parallel",
     .commands = kApi,
     .kind = ValueKind::kInt,
     .value = "N",
     .help = "sequences that run side by side",
     .fallback = "16",
     .low = 1,
     .high = 1024,
     .env = true},
    {.name = "system",
     .commands = kAnswers,
     .kind = ValueKind::kText,
     .value = "TEXT",
     .help = "system message, before the user's; a line of --prompts that has its own keeps that"},
    {.name = "raw",
     .commands = kAnswers,
     .help = "do not use the chat template; special tokens in the text are parsed"},

    {.name = "session",
     .commands = kAnswers,
     .kind = ValueKind::kPath,
     .value = "FILE",
     .help = "begin behind what FILE holds of the prompt, and save this run to it at the end"},
};

}  // namespace

std::span<const FlagSpec> input_flags() {
  return kFlags;
}

}  // namespace heddle::cli
