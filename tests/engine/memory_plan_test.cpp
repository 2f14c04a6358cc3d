#include "engine/memory_plan.h"

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "tests/support/small_llama.h"

namespace heddle {
namespace {

TEST(MemoryPlan, CountsWhatShapesSay) {
  const test::TemporaryFile file(".gguf", test::small_llama(DType::kQ4_1, 1).serialise());
  const Checkpoint checkpoint = open_checkpoint(file.path());
  EngineOptions options;
  options.context = 100;
  options.max_sequences = 3;
  const MemoryPlan plan = plan_memory(checkpoint.config, *checkpoint.weights, options);
  EXPECT_EQ(plan.kv_bytes_per_token, 2U * 2 * 2 * 16 * 2);  // layers, K and V, heads, dim, f16
  EXPECT_EQ(plan.kv, plan.kv_bytes_per_token * 300);
  std::uint64_t weights = 0;
  for (const StoredTensor& t : checkpoint.weights->tensors()) {
    weights += static_cast<std::uint64_t>(t.view.bytes());
  }
  EXPECT_EQ(plan.weights, weights);
  EXPECT_GT(plan.activations, 512U * 128 * 4);
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
