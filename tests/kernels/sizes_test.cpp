// What scratch_bytes() says of an op alone, against what the backend holds after calls of that op:
// never less, and no more than a few times it.

#include "kernels/sizes.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/attention_support.h"
#include "tests/support/random.h"
#include "tests/support/weights.h"

namespace heddle {
namespace {

constexpr int kThreads = 3;

std::unique_ptr<Backend> backend() {
  return make_backend({.threads = kThreads});
}

void expect_bounded(const Backend& backend, ScratchShape shape, double most_above) {
  shape.threads = kThreads;
  const auto used = static_cast<double>(backend.scratch_bytes());
  const auto bound = static_cast<double>(scratch_bytes(shape));
  EXPECT_GT(used, 0);
  EXPECT_LE(used, bound);
  EXPECT_LE(bound, used * most_above);
}

TEST(ScratchBytes, OfMatmulIsXInEveryFormThatWeightsWant) {
  constexpr std::int64_t kRows = 300;
  constexpr std::int64_t kCols = 1024;
  test::Random rng(1);
  std::vector<float> x(kRows * kCols);
  for (float& v : x) v = rng.normal();
  const std::vector<std::vector<DType>> cases = {
      {DType::kQ4_1}, {DType::kQ4_K}, {DType::kBF16}, {DType::kQ8_0, DType::kQ6_K, DType::kF32}};
  for (const std::vector<DType>& types : cases) {
    const auto cpu = backend();
    std::vector<PackedMatrix> weights;
    std::vector<std::vector<float>> outs;
    MatmulArgs args;
    args.x = TensorView(x.data(), DType::kF32, {kRows, kCols});
    for (const DType type : types) {
      weights.push_back(cpu->pack(test::random_weights(type, 32, kCols, rng).view()));
      outs.emplace_back(kRows * 32);
    }
    args.n_targets = static_cast<int>(types.size());
    for (std::size_t i = 0; i < types.size(); ++i) {
      args.targets[i] = {&weights[i], {}, TensorView(outs[i].data(), DType::kF32, {kRows, 32})};
    }
    cpu->ops().matmul(args);
    expect_bounded(
        *cpu,
        {.n_rows = kRows, .weight_types = types, .x_elements = kRows * kCols, .x_width = kCols},
        1.1);
  }
}

TEST(ScratchBytes, OfSampleIsTheVocabularyForEachThread) {
  constexpr std::int64_t kVocab = 20'000;
  for (const std::int64_t rows : {1, 64}) {
    const auto cpu = backend();
    const std::vector<float> logits(static_cast<std::size_t>(rows * kVocab), 0.5F);
    const std::vector<SampleParams> params(static_cast<std::size_t>(rows),
                                           SampleParams{.temperature = 1.0F});
    std::vector<std::int32_t> tokens(params.size());
    std::vector<float> logprobs(params.size());
    SampleArgs args;
    args.logits = TensorView(logits.data(), DType::kF32, {rows, kVocab});
    args.params = params.data();
    args.tokens = TensorView(tokens.data(), DType::kI32, {rows});
    args.logprobs = TensorView(logprobs.data(), DType::kF32, {rows});
    cpu->ops().sample(args);
    expect_bounded(*cpu, {.n_sequences = rows, .vocab = kVocab}, 1.1 * kThreads);
  }
}

/// Rows of sequences of such lengths, `rows` of each at its end.
void attend(Backend& cpu,
            const test::Shape& shape,
            const std::vector<std::int64_t>& lengths,
            std::int64_t rows) {
  const test::Cache cache(shape, lengths);
  AttentionArgs args;
  cache.view(args);
  std::vector<std::int32_t> sequence;
  std::vector<std::int32_t> positions;
  for (std::size_t s = 0; s < lengths.size(); ++s) {
    for (std::int64_t i = lengths[s] - rows; i < lengths[s]; ++i) {
      sequence.push_back(static_cast<std::int32_t>(s));
      positions.push_back(static_cast<std::int32_t>(i));
    }
  }
  const auto n = static_cast<std::int64_t>(sequence.size());
  const std::vector<float> q(static_cast<std::size_t>(n * shape.n_q * shape.dim), 0.1F);
  std::vector<float> out(q.size());
  args.q = TensorView(q.data(), DType::kF32, {n, shape.n_q, shape.dim});
  args.out = TensorView(out.data(), DType::kF32, {n, shape.n_q, shape.dim});
  args.sequence = TensorView(sequence.data(), DType::kI32, {n});
  args.positions = TensorView(positions.data(), DType::kI32, {n});
  args.scale = 0.1F;
  cpu.ops().attention(args);
}

TEST(ScratchBytes, OfAttentionCoversWorkersTasksAndPartialResults) {
  const test::Shape shape{.n_q = 16, .n_kv = 2, .dim = 64};
  const std::vector<std::int64_t> lengths = {3000, 1500, 700};
  for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 40, 300}) {
    SCOPED_TRACE(rows);
    const auto cpu = backend();
    attend(*cpu, shape, lengths, rows);
    const bool shared_out = rows == 1 || rows == 2 || rows == 4;  // 8, 16 and twice 16 pairs
    expect_bounded(*cpu,
                   {.n_rows = rows * 3,
                    .n_sequences = 3,
                    .n_positions = 3000,
                    .n_keys = 5200,
                    .n_q_heads = shape.n_q,
                    .n_kv_heads = shape.n_kv,
                    .head_dim = shape.dim},
                   shared_out ? 6 : 40);
  }
}

}  // namespace
}  // namespace heddle
