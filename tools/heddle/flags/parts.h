#pragma once
// What the parts of the flag table share. The table is the parts in the order below, which is the
// order of help texts.

#include <span>

#include "tools/heddle/flags.h"

namespace heddle::cli {

constexpr unsigned bit(CommandId id) {
  return 1U << static_cast<unsigned>(id);
}
inline constexpr unsigned kGenerate = bit(CommandId::kGenerate);
inline constexpr unsigned kChat = bit(CommandId::kChat);
inline constexpr unsigned kScore = bit(CommandId::kScore);
inline constexpr unsigned kTokenize = bit(CommandId::kTokenize);
inline constexpr unsigned kInspect = bit(CommandId::kInspect);
inline constexpr unsigned kBench = bit(CommandId::kBench);
inline constexpr unsigned kBenchServe = bit(CommandId::kBenchServe);
inline constexpr unsigned kPull = bit(CommandId::kPull);
inline constexpr unsigned kVersion = bit(CommandId::kVersion);
inline constexpr unsigned kSelftest = bit(CommandId::kSelftest);
inline constexpr unsigned kServe = bit(CommandId::kServe);
inline constexpr unsigned kBatch = bit(CommandId::kBatch);
inline constexpr unsigned kNeedle = bit(CommandId::kNeedle);
inline constexpr unsigned kApi = kServe | kBatch;
inline constexpr unsigned kEvery = ~0U;
inline constexpr unsigned kAnswers = kGenerate | kChat;
inline constexpr unsigned kRuns = kGenerate | kChat | kScore | kBench | kSelftest | kApi | kNeedle;
inline constexpr unsigned kSized = kRuns | kInspect;
inline constexpr unsigned kCaches = kGenerate | kChat | kApi;

inline constexpr double kIntMax = 2147483647.0;
inline constexpr double kSeedMax = 0x1p63;  // the largest of 64 bits

std::span<const FlagSpec> input_flags();
std::span<const FlagSpec> serve_flags();
std::span<const FlagSpec> answer_flags();
std::span<const FlagSpec> bench_flags();
std::span<const FlagSpec> needle_flags();
std::span<const FlagSpec> run_flags();

}  // namespace heddle::cli
