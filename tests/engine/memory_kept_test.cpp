// The memory plan against what is really taken: buffer by buffer as the backend is asked for them,
// the kernels' scratch after the largest steps, and the process's own memory.

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/batch_builder.h"
#include "engine/cache_rings.h"
#include "engine/cache_storage.h"
#include "engine/engine.h"
#include "engine/memory_plan.h"
#include "models/families/families.h"
#include "tests/support/sanitizers.h"
#include "tests/support/small_llama.h"
#include "tests/support/tiny_model.h"

namespace heddle {
namespace {

/// Adds up what it is asked for.
class CountingBackend : public Backend {
 public:
  explicit CountingBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  /// Bytes since the last call.
  std::uint64_t taken() { return std::exchange(bytes_, 0); }

  Ops& ops() override { return inner_->ops(); }
  DeviceKind kind() const override { return inner_->kind(); }
  DeviceCaps caps() const override { return inner_->caps(); }
  int threads() const override { return inner_->threads(); }
  std::string describe() const override { return inner_->describe(); }
  Buffer allocate(std::size_t bytes) override { return inner_->allocate(counted(bytes)); }
  Buffer allocate_sparse(std::size_t bytes) override {
    return inner_->allocate_sparse(counted(bytes));
  }
  Buffer allocate_host(std::size_t bytes) override { return inner_->allocate_host(counted(bytes)); }
  void copy_to_device(void* to, const void* from, std::size_t bytes) override {
    inner_->copy_to_device(to, from, bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    inner_->copy_to_host(to, from, bytes);
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes) override {
    inner_->copy_on_device(to, from, bytes);
  }
  void zero(void* to, std::size_t bytes) override { inner_->zero(to, bytes); }
  std::unique_ptr<Event> record() override { return inner_->record(); }
  void synchronize() override { inner_->synchronize(); }
  PackedMatrix pack(const TensorView& rows,
                    const std::vector<std::int32_t>& row_order,
                    const ReadCallback& read) override {
    PackedMatrix packed = inner_->pack(rows, row_order, read);
    counted(packed.data.bytes());
    return packed;
  }
  std::vector<DType> weight_dtypes() const override { return inner_->weight_dtypes(); }

 private:
  std::size_t counted(std::size_t bytes) {
    bytes_ += bytes;
    return bytes;
  }
  std::unique_ptr<Backend> inner_;
  std::uint64_t bytes_ = 0;
};

/// A family of make_tiny_model.py, and a format that it exists in.
using NameAndFormat = std::pair<std::string, std::string>;

std::vector<NameAndFormat> cases() {
  std::vector<NameAndFormat> cases;
  for (const Family& family : families()) {
    cases.emplace_back(family.name, family.read_gguf != nullptr ? "gguf" : "safetensors");
  }
  cases.emplace_back("moh_llama3", "safetensors");
  return cases;
}

class MemoryKept : public testing::TestWithParam<NameAndFormat> {
 protected:
  MemoryKept() : model_({"--family", GetParam().first, "--seed", "5"}, GetParam().second) {
    options_.model = model_.path();
    options_.backend.threads = 3;
    // Layers with windows keep rings then, where the model has such layers.
    options_.context = std::min(2400, open_checkpoint(model_.path()).config.context);
    options_.max_sequences = 5;
    options_.max_step_tokens = 64;
    options_.kv_dtype = DType::kBF16;
    options_.block_tokens = 32;
  }

  test::TinyModel model_;
  EngineOptions options_;
};

TEST_P(MemoryKept, BuffersAreThoseOfThePlan) {
  Checkpoint checkpoint = open_checkpoint(model_.path());
  checkpoint.config = for_context(std::move(checkpoint.config), options_.context);
  const ModelConfig config = checkpoint.config;
  const MemoryPlan plan = plan_memory(config, *checkpoint.weights, options_);
  CountingBackend backend(make_backend(options_.backend));

  const Decoder decoder(checkpoint, backend, decoder_limits(options_));
  EXPECT_EQ(backend.taken(), decoder.weight_bytes() + plan.activations);
  constexpr std::uint64_t kConstants = 4096;  // frequencies of rotations, slopes
  EXPECT_LE(decoder.weight_bytes(), plan.weights + kConstants);
  EXPECT_GE(decoder.weight_bytes() * 11 / 10, plan.weights);

  const std::vector<CacheNeed> needs = placed_needs(config, options_);
  EXPECT_EQ(ring_sizes(needs).empty(), plan.window_bytes_per_sequence == 0);
  EXPECT_EQ(ring_sizes(needs).empty(), ring_contexts(config).empty());
  const std::int64_t n_blocks = (options_.context * 5 + 31) / 32;
  const std::int64_t n_slots = 5 + Engine::load(options_)->options().snapshots;
  const CacheStorage cache(needs,
                           {.kv_dtype = DType::kBF16,
                            .n_blocks = n_blocks,
                            .block_tokens = 32,
                            .n_state_slots = n_slots},
                           backend);
  EXPECT_EQ(backend.taken(), plan.kv + plan.state + plan.snapshots);

  const BatchCapacity capacity{.max_tokens = 64,
                               .max_sequences = 5,
                               .max_outputs = 64,
                               .max_blocks = (options_.context + 31) / 32,
                               .block_tokens = 32,
                               .rings = ring_sizes(needs)};
  const BatchBuilder builder(capacity, backend);
  const std::uint64_t arrays = backend.taken();
  EXPECT_EQ(arrays, batch_bytes(capacity));
  EXPECT_LE(arrays, plan.bookkeeping);
}

TEST_P(MemoryKept, ScratchOfKernelsStaysWithinThePlan) {
  for (const bool long_chunks : {true, false}) {
    options_.max_step_tokens = long_chunks ? 300 : 64;
    options_.max_chunk = long_chunks ? 0 : 7;  // few rows: attention shares out their keys
    const auto engine = Engine::load(options_);
    for (int i = 0; i < 5; ++i) {
      Request request;
      for (int t = 0; t < 500 + 10 * i; ++t) request.prompt.push_back(3 + (t * 37 + i * 11) % 200);
      request.max_new_tokens = 8;
      request.ignore_eos = true;
      request.sampling.temperature = 1.0F;
      engine->submit(std::move(request), [](const RequestEvent&) {});
    }
    engine->run();
    const std::uint64_t used = engine->backend().scratch_bytes();
    EXPECT_GT(used, 0U);
    EXPECT_LE(used, engine->memory().kernel_scratch) << "long chunks: " << long_chunks;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, MemoryKept, testing::ValuesIn(cases()), [](const auto& param) {
  return param.param.first + "_" + param.param.second;
});

TEST(MemoryKeptOf, ScratchOfEveryWeightTypeStaysWithinThePlan) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kQ4_1, DType::kQ8_0, DType::kQ6_K}) {
    const test::TemporaryFile file(".gguf", test::small_llama(dtype, 1).serialise());
    for (const char* forced : {"", "ref"}) {
      EngineOptions options;
      options.model = file.path();
      options.backend.threads = 2;
      if (*forced != '\0') options.backend.forced["all"] = forced;
      const auto engine = Engine::load(options);
      Request request;
      for (int t = 0; t < 80; ++t) request.prompt.push_back(3 + t);
      request.max_new_tokens = 2;
      engine->submit(std::move(request), [](const RequestEvent&) {});
      engine->run();
      EXPECT_LE(engine->backend().scratch_bytes(), engine->memory().kernel_scratch)
          << name(dtype) << " " << forced;
    }
  }
}

/// A "VmRSS:  123 kB" line of this process, in bytes.
std::int64_t status(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return -1;
}

struct Measured {
  std::int64_t grown = 0;  // of the process at its highest
  MemoryPlan plan;
};

/// Loads a model and fills every sequence up to its last token, side by side.
Measured fill(EngineOptions options) {
  constexpr std::int64_t kAnswer = 48;  // the first one writes while the last prompt is read
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts again from here
  const std::int64_t before = status("VmRSS");
  Measured measured;
  {
    const auto engine = Engine::load(options);
    for (std::int64_t i = 0; i < options.max_sequences; ++i) {
      Request request;
      for (std::int64_t t = 0; t + kAnswer < options.context; ++t) {
        request.prompt.push_back(static_cast<std::int32_t>(3 + (t * 37 + i * 11) % 200));
      }
      request.max_new_tokens = kAnswer;
      request.ignore_eos = true;
      request.sampling.temperature = 1.0F;
      engine->submit(std::move(request), [](const RequestEvent&) {});
    }
    engine->run();
    EXPECT_EQ(engine->stats().preemptions, 0);
    measured.plan = engine->memory();
    measured.grown = status("VmHWM") - before;
  }
  return measured;
}

class ProcessMemory : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (test::kSanitized) GTEST_SKIP() << "a sanitizer's own memory grows with the program's";
    model_.emplace(std::vector<std::string>{"--family", GetParam(), "--seed", "5"}, "safetensors");
  }
  EngineOptions two_sequences() const {
    EngineOptions options;
    options.model = model_->path();
    options.backend.threads = 2;
    options.any_context = true;
    options.max_sequences = 2;
    return options;
  }

 private:
  std::optional<test::TinyModel> model_;
};

/// Two loads of one model that differ in context: what the second one takes more.
TEST_P(ProcessMemory, GrowsByWhatThePlanSays) {
  EngineOptions options = two_sequences();
  options.kv_dtype = DType::kF32;
  const auto run = [&](std::int64_t context) {
    options.context = context;
    return fill(options);
  };
  run(512);  // what is made once for all
  const Measured small = run(512);
  const Measured large = run(8192);
  constexpr std::int64_t kSlack = std::int64_t{1} << 20;
  const auto planned = static_cast<std::int64_t>(large.plan.total() - small.plan.total());
  const auto kv = static_cast<std::int64_t>(large.plan.kv - small.plan.kv);
  ASSERT_GT(planned, 4 * kSlack);
  EXPECT_LE(large.grown - small.grown, planned + kSlack);
  EXPECT_GE(large.grown - small.grown, kv - kSlack) << "every block was written";
}

/// All of it, what does not grow with the context too: beyond the plan there is room for what is
/// made once for all (threads, tables, the heap's own) and for what the heap rounds up.
TEST_P(ProcessMemory, IsNoMoreThanThePlansTotal) {
  EngineOptions options = two_sequences();
  options.context = 4096;
  const Measured measured = fill(options);
  const auto planned = static_cast<double>(measured.plan.total());
  constexpr double kSlack = 4.0 * 1024 * 1024;
  EXPECT_LE(static_cast<double>(measured.grown), planned * 1.05 + kSlack)
      << measured.plan.describe();
}

INSTANTIATE_TEST_SUITE_P(
    Families,
    ProcessMemory,
    testing::Values("llama", "gemma3", "minicpm4", "minimax_text_01", "gpt_oss"),
    [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace heddle
