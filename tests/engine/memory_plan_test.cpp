#include "engine/memory_plan.h"

#include <gtest/gtest.h>

#include <functional>

#include "engine/engine.h"
#include "tests/support/small_llama.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

class MemoryPlanOfLlama : public testing::Test {
 protected:
  explicit MemoryPlanOfLlama(DType dtype = DType::kQ4_1)
      : file_(".gguf", test::small_llama(dtype, 1).serialise()),
        checkpoint_(open_checkpoint(file_.path())) {}

  MemoryPlan plan(const std::function<void(EngineOptions&)>& change = {}) const {
    EngineOptions options;
    options.context = 100;
    options.max_sequences = 3;
    if (change) change(options);
    return plan_memory(checkpoint_.config, *checkpoint_.weights, options);
  }
  MemoryFit fit(std::int64_t context, std::int64_t sequences, std::uint64_t memory) const {
    EngineOptions options;
    options.context = context;
    options.max_sequences = sequences;
    return what_fits(checkpoint_.config, *checkpoint_.weights, options, memory);
  }

  test::TemporaryFile file_;
  Checkpoint checkpoint_;
};

TEST_F(MemoryPlanOfLlama, CountsWhatShapesSay) {
  const MemoryPlan plan = this->plan();
  EXPECT_EQ(plan.kv_bytes_per_token, 2U * 2 * 2 * 16 * 2);  // layers, K and V, heads, dim, f16
  EXPECT_EQ(plan.kv, plan.kv_bytes_per_token * 304) << "whole blocks of 16";
  std::uint64_t weights = 0;
  for (const StoredTensor& t : checkpoint_.weights->tensors()) {
    if (t.view.rank == 2 && t.view.dim(0) % 16 == 0) {
      weights += static_cast<std::uint64_t>(t.view.bytes());
    } else {
      ASSERT_TRUE(t.view.rank == 1 || t.name == "token_embd.weight") << t.name;
      weights += t.view.rank == 1 ? static_cast<std::uint64_t>(t.view.bytes())
                                  : static_cast<std::uint64_t>((t.view.dim(0) + 15) / 16 * 16 *
                                                               row_bytes(t.view.dtype, 128));
    }
  }
  EXPECT_EQ(plan.weights, weights) << "groups of 16 rows are filled up";
  EXPECT_GT(plan.workspace(), 512U * 128 * 4);
  EXPECT_EQ(plan.snapshots, 0U);
  EXPECT_EQ(plan.total(), plan.weights + plan.kv + plan.workspace());
}

/// Who remembers what lies in host memory takes memory, too: a node of the prefix tree a block.
TEST_F(MemoryPlanOfLlama, HostCacheBringsItsNodes) {
  constexpr std::uint64_t kHostCache = std::uint64_t{96} << 20;
  const MemoryPlan without = plan();
  const MemoryPlan with = plan([](EngineOptions& o) { o.host_cache = kHostCache; });
  EXPECT_EQ(with.host_cache, kHostCache);
  const std::uint64_t host_blocks = kHostCache / (without.kv_bytes_per_token * 16);
  const std::uint64_t kv_blocks = without.kv / (without.kv_bytes_per_token * 16);
  const MemoryPlan twice = plan([](EngineOptions& o) { o.kv_tokens = 600; });  // as many once more
  const std::uint64_t of_a_node = (twice.bookkeeping - without.bookkeeping) /
                                  (twice.kv / (without.kv_bytes_per_token * 16) - kv_blocks);
  EXPECT_GE(with.bookkeeping - without.bookkeeping, host_blocks * of_a_node);
  EXPECT_LT(with.bookkeeping - without.bookkeeping, host_blocks * of_a_node * 11 / 10);
  const MemoryPlan off = plan([](EngineOptions& o) {
    o.host_cache = kHostCache;
    o.prefix_cache = false;
  });
  EXPECT_LE(off.total(), without.total());
}

TEST_F(MemoryPlanOfLlama, StepHoldsEverySequence) {
  const auto of = [&](std::int64_t sequences, std::int64_t step) {
    return plan([&](EngineOptions& o) {
             o.max_sequences = sequences;
             o.max_step_tokens = step;
           })
        .activations;
  };
  EXPECT_EQ(of(1000, 0), of(1000, 1000)) << "as Engine::load derives it";
  EXPECT_EQ(of(3, 0), of(3, 512));
}

TEST_F(MemoryPlanOfLlama, DescribesItselfInOneLine) {
  const std::string text = plan().describe();
  EXPECT_NE(text.find(" bytes a token), workspace "), std::string::npos) << text;
  EXPECT_EQ(text.find("activations"), std::string::npos) << text;
}

TEST_F(MemoryPlanOfLlama, FitIsTheLargestPlanWithinTheMemory) {
  for (const std::uint64_t spare : {1U << 10, 1U << 14, 1U << 17, 1U << 20}) {
    const std::uint64_t memory = plan([](EngineOptions& o) { o.context = 40; }).total() + spare;
    const MemoryFit fit = this->fit(40, 3, memory);
    const auto total = [&](std::int64_t context, std::int64_t sequences) {
      return plan([&](EngineOptions& o) {
               o.context = context;
               o.max_sequences = sequences;
             })
          .total();
    };
    ASSERT_GE(fit.max_context, 40);
    EXPECT_LE(total(fit.max_context, 3), memory);
    if (fit.max_context < 512) {
      EXPECT_GT(total(fit.max_context + 1, 3), memory);
    }
    ASSERT_GE(fit.max_sequences, 3);
    EXPECT_LE(total(40, fit.max_sequences), memory);
    EXPECT_GT(total(40, fit.max_sequences + 1), memory);
  }
}

TEST_F(MemoryPlanOfLlama, FitEndsAtWhatTheEngineTakes) {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 50;
  EXPECT_EQ(fit(100, 3, kHuge).max_context, 512) << "trained for no more";
  EXPECT_EQ(fit(100, 3, kHuge).max_sequences, kMostSequences);
  const MemoryFit none = fit(100, 3, plan().weights);
  EXPECT_EQ(none.max_context, 0);
  EXPECT_EQ(none.max_sequences, 0);
}

TEST(MemoryPlan, WeightsAreCountedAsPacked) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_K, 1).serialise());
  const Checkpoint checkpoint = open_checkpoint(file.path());
  std::uint64_t stored = 0;
  for (const StoredTensor& t : checkpoint.weights->tensors()) {
    stored += static_cast<std::uint64_t>(t.view.bytes());
  }
  const MemoryPlan plan = plan_memory(checkpoint.config, *checkpoint.weights, {});
  EXPECT_GT(plan.weights, stored * 102 / 100) << "kernels/cpu/pack.h: 102.8 % of the checkpoint's";
  EXPECT_LT(plan.weights, stored * 106 / 100);
}

TEST(MemoryPlan, WindowedLayersAreAGroupThatKeepsAllTokensOfAShortContext) {
  const test::TinyModel model({"--family", "gemma3", "--seed", "3"}, "safetensors");
  const Checkpoint checkpoint = open_checkpoint(model.path());
  std::int64_t window = 0;
  int windowed = 0;
  for (const LayerSpec& layer : checkpoint.config.layers) {
    const auto& spec = std::get<SoftmaxAttentionSpec>(layer.mixers.front());
    if (spec.window == 0) continue;
    window = spec.window;
    ++windowed;
  }
  ASSERT_GT(windowed, 0);
  const int layers = static_cast<int>(checkpoint.config.layers.size());
  EngineOptions options;
  options.context = window + 16;
  const MemoryPlan plan = plan_memory(checkpoint.config, *checkpoint.weights, options);
  ASSERT_EQ(plan.kv_groups.size(), 2U);
  const KvGroup& full = plan.kv_groups[0];
  const KvGroup& narrow = plan.kv_groups[1];
  EXPECT_EQ(full.kind, KvGroup::Kind::kFull);
  EXPECT_EQ(full.layers, layers - windowed);
  EXPECT_EQ(narrow.kind, KvGroup::Kind::kWindowed);
  EXPECT_EQ(narrow.window, window);
  EXPECT_EQ(narrow.layers, windowed);
  EXPECT_EQ(full.bytes * static_cast<std::uint64_t>(windowed),
            narrow.bytes * static_cast<std::uint64_t>(layers - windowed))
      << "a layer costs the same in both";
  EXPECT_EQ(narrow.bytes_per_sequence, 0U);
  EXPECT_EQ(plan.kv, full.bytes + narrow.bytes);
  EXPECT_DOUBLE_EQ(full.bytes_per_token + narrow.bytes_per_token,
                   static_cast<double>(plan.kv_bytes_per_token));
  EXPECT_NE(plan.describe().find("windowed "), std::string::npos) << plan.describe();

  options.context = window;
  EXPECT_EQ(plan_memory(checkpoint.config, *checkpoint.weights, options).kv_groups.size(), 1U)
      << "a window of the whole context is none";

  options.context = 8192;
  options.max_sequences = 3;
  const MemoryPlan rings = plan_memory(checkpoint.config, *checkpoint.weights, options);
  ASSERT_EQ(rings.kv_groups.size(), 2U);
  EXPECT_EQ(rings.kv_groups[1].window, window);
  EXPECT_EQ(rings.kv_groups[1].bytes_per_token, 0.0);
  EXPECT_EQ(rings.kv_groups[1].bytes_per_sequence, rings.window_bytes_per_sequence);
  EXPECT_EQ(rings.kv_groups[1].bytes, 3 * rings.window_bytes_per_sequence);
  EXPECT_EQ(rings.kv, rings.kv_groups[0].bytes + rings.kv_groups[1].bytes);
  EXPECT_NE(rings.describe().find(" a sequence in windows)"), std::string::npos)
      << rings.describe();
}

// Where layers begin to keep rings a longer context may need less than a shorter one.
TEST(MemoryPlan, FitIsTheLargestContextOfAModelWithWindows) {
  const test::TinyModel model({"--family", "gemma3", "--seed", "3"}, "safetensors");
  const Checkpoint checkpoint = open_checkpoint(model.path());
  const auto total = [&](std::int64_t context, std::int64_t sequences, std::int64_t snapshots) {
    EngineOptions options;
    options.context = context;
    options.max_sequences = sequences;
    options.snapshots = snapshots;
    return plan_memory(checkpoint.config, *checkpoint.weights, options).total();
  };
  for (const std::int64_t sequences : {1, 3}) {
    for (const std::int64_t snapshots : {0, -1, 40}) {
      for (const std::int64_t at : {500, 1000, 2000, 2111, 2112, 2300, 3000, 5000, 8191}) {
        const std::uint64_t memory = total(at, sequences, snapshots);
        EngineOptions options;
        options.context = 100;
        options.max_sequences = sequences;
        options.snapshots = snapshots;
        const std::int64_t fit =
            what_fits(checkpoint.config, *checkpoint.weights, options, memory).max_context;
        EXPECT_GE(fit, at);
        EXPECT_LE(total(fit, sequences, snapshots), memory);
        for (const std::int64_t more : {fit + 1, std::int64_t{2112}, std::int64_t{8192}}) {
          if (more <= fit || more > 8192) continue;
          EXPECT_GT(total(more, sequences, snapshots), memory) << more;
        }
      }
    }
  }
}

TEST(MemoryPlan, CompressedKeysArePartOfKv) {
  const test::TinyModel model({"--family", "minicpm4", "--seed", "3"}, "safetensors");
  const Checkpoint checkpoint = open_checkpoint(model.path());
  const MemoryPlan plan = plan_memory(checkpoint.config, *checkpoint.weights, {});
  ASSERT_EQ(plan.kv_groups.size(), 2U);
  EXPECT_EQ(plan.kv_groups[1].kind, KvGroup::Kind::kCompressed);
  EXPECT_GT(plan.kv_groups[1].bytes, 0U);
  EXPECT_EQ(plan.kv, plan.kv_groups[0].bytes + plan.kv_groups[1].bytes);
}

TEST(MemoryPlan, LimitBelowTheNeedIsRefusedBeforeLoading) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 1).serialise());
  EngineOptions options;
  options.model = file.path();
  options.memory_limit = std::uint64_t{1} << 20;
  try {
    Engine::load(options);
    FAIL() << "loaded";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kMemory);
    EXPECT_NE(std::string(e.what()).find("the memory limit allows 1.0 MiB"), std::string::npos)
        << e.what();
  }
}

TEST(MemoryPlan, MachineHasMemoryToOffer) {
  EXPECT_GT(available_memory(), std::uint64_t{64} << 20);
}

}  // namespace
}  // namespace heddle
