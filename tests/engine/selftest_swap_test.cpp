// The selftest's row about requests that move to host memory and back: that it cannot hold where
// nothing moves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "engine/selftest.h"
#include "tests/support/small_llama.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

using Change = std::function<void(EngineOptions&)>;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

SelftestRow swap_row(const std::string& model, const Change& sabotage = {}) {
  EngineOptions options;
  options.model = model;
  options.backend.threads = 2;
  for (const SelftestRow& row : run_selftest(options, true, sabotage)) {
    if (row.name == "preempted and swapped = uninterrupted") return row;
  }
  return {.name = "missing"};
}

TEST(SelftestSwap, BlocksAndStatesGoToTheHostAndComeBack) {
  for (const char* family : {"llama", "minicpm_sala", "minimax_text_01", "transnormer"}) {
    const test::TinyModel model({"--family", family, "--seed", "9"}, "safetensors");
    const SelftestRow row = swap_row(model.path());
    EXPECT_TRUE(row.ok) << family << ": " << row.detail;
    EXPECT_THAT(row.detail, HasSubstr(" preemptions, ")) << family;
  }
}

TEST(SelftestSwap, FailsWhereNothingMoves) {
  const test::TinyModel model({"--family", "minicpm_sala", "--seed", "9"}, "safetensors");
  const SelftestRow none = swap_row(model.path(), [](EngineOptions& o) { o.host_cache = 0; });
  EXPECT_FALSE(none.ok);
  EXPECT_THAT(none.detail, StartsWith("not swapped: "));
  EXPECT_THAT(none.detail, HasSubstr(" 0 blocks and 0 states to host memory, 0 and 0 back"));
  // Enough room: nobody is pushed out.
  const SelftestRow roomy = swap_row(model.path(), [](EngineOptions& o) { o.kv_tokens = 4096; });
  EXPECT_FALSE(roomy.ok);
  EXPECT_THAT(roomy.detail, StartsWith("not swapped: 0 preemptions, "));
  // Room for blocks, but for no state.
  const SelftestRow small =
      swap_row(model.path(), [](EngineOptions& o) { o.snapshots = o.snapshots == 0 ? 8 : -1; });
  EXPECT_FALSE(small.ok);
  EXPECT_THAT(small.detail, StartsWith("not swapped: "));
}

/// Where two requests never need more blocks than one each nothing can be pushed out.
TEST(SelftestSwap, ATinyContextSaysThatNothingCanMove) {
  for (const auto& [context, skipped] :
       {std::pair(8, true), {33, true}, {40, false}, {64, false}}) {
    test::GgufDoc doc = test::small_llama(DType::kQ4_1, 5);
    doc.set<std::uint32_t>("llama.context_length", static_cast<std::uint32_t>(context));
    const test::TemporaryFile file(".gguf", doc.serialise());
    const SelftestRow row = swap_row(file.path());
    EXPECT_TRUE(row.ok) << context << ": " << row.detail;
    EXPECT_EQ(row.detail.starts_with("skipped: in a context of "), skipped) << row.detail;
  }
}

TEST(SelftestSwap, WrongBitsAreFound) {
  const test::TinyModel model({"--family", "minicpm_sala", "--seed", "9"}, "safetensors");
  const SelftestRow row =
      swap_row(model.path(), [](EngineOptions& o) { o.kv_dtype = DType::kBF16; });
  EXPECT_FALSE(row.ok);
  EXPECT_THAT(row.detail, Not(StartsWith("not swapped")));
}

}  // namespace
}  // namespace heddle
