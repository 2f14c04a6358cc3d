// Linear attention: decode steps on many states, and a prefill.

#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "tools/heddle/kernel_case_list.h"

namespace heddle::cli {
namespace {

constexpr std::int64_t kTailBytes = kQHeads * kLinearBlock * 2 * kHeadDim * 4;
constexpr std::int64_t kStateBytes = kQHeads * kHeadDim * kHeadDim * 4;
constexpr std::int64_t kRowBytes = kQHeads * 4 * kHeadDim * 4;  // q, k, v and out

struct LinearMemory {
  std::vector<float> q, k, v, out, slopes;
  std::vector<std::int32_t> slots, sequence, positions;
};

/// The next n_rows tokens of each of n_sequences sequences. Decode steps of a sequence stand in
/// another place of their block than those of its neighbours, so that a call folds a 16th of the
/// states.
Job<LinearAttentionArgs> linear_attention(Workbench& bench,
                                          std::int64_t n_sequences,
                                          std::int64_t n_rows) {
  const auto own = std::make_shared<LinearMemory>();
  const std::int64_t n = n_sequences * n_rows;
  own->q = own->k = own->v = random_floats(n * kQHeads * kHeadDim);
  own->out.resize(own->q.size());
  for (std::int64_t h = 0; h < kQHeads; ++h) {
    own->slopes.push_back(std::exp2(-8.0F * static_cast<float>(h + 1) / kQHeads));
  }
  for (std::int64_t i = 0; i < n_sequences; ++i) {
    own->slots.push_back(static_cast<std::int32_t>(i));
    own->sequence.insert(own->sequence.end(), static_cast<std::size_t>(n_rows),
                         static_cast<std::int32_t>(i));
  }
  own->positions.resize(static_cast<std::size_t>(n));
  auto* const state = reinterpret_cast<float*>(bench.sink());
  std::fill_n(state, n_sequences * (kStateBytes + kTailBytes) / 4, 0.5F);
  float* const tail = state + n_sequences * kStateBytes / 4;
  Job<LinearAttentionArgs> job;
  job.args.q = f32(own->q.data(), {n, kQHeads, kHeadDim});
  job.args.k = f32(own->k.data(), {n, kQHeads, kHeadDim});
  job.args.v = f32(own->v.data(), {n, kQHeads, kHeadDim});
  job.args.out = f32(own->out.data(), {n, kQHeads, kHeadDim});
  job.args.slopes = f32(own->slopes.data(), {kQHeads});
  job.args.state.s = f32(state, {n_sequences, kQHeads, kHeadDim, kHeadDim});
  job.args.state.tail_k = f32(tail, {n_sequences, kQHeads, kLinearBlock, kHeadDim});
  job.args.state.tail_v =
      f32(tail + n_sequences * kTailBytes / 8, {n_sequences, kQHeads, kLinearBlock, kHeadDim});
  job.args.slots = TensorView(own->slots.data(), DType::kI32, {n_sequences});
  job.args.sequence = TensorView(own->sequence.data(), DType::kI32, {n});
  job.args.positions = TensorView(own->positions.data(), DType::kI32, {n});
  job.args.scale = 0.125F;
  job.shape = n_rows == 1 ? fmt::format("decode {}", n_sequences)
                          : fmt::format("prefill {} tokens", n_rows);
  job.shape += fmt::format(", heads {} d {}", kQHeads, kHeadDim);
  const double folds = number(n) / kLinearBlock;
  const double tail_bytes = n_rows == 1 ? kTailBytes / 2.0 : 0.0;  // on average
  job.bytes = number(n_sequences) * (kStateBytes + tail_bytes) + folds * kStateBytes +
              number(n * kRowBytes);
  job.operations = number(n * kQHeads * kHeadDim) * (4.0 * kHeadDim + 4.0 * kLinearBlock);
  job.owned = own;
  job.next = [own, n_rows](LinearAttentionArgs&, std::int64_t repetition) {
    for (std::size_t t = 0; t < own->positions.size(); ++t) {
      const auto row = static_cast<std::int64_t>(t);
      own->positions[t] = static_cast<std::int32_t>(
          kLinearBlock + row % n_rows + (n_rows == 1 ? (row + repetition) % kLinearBlock : 0));
    }
  };
  return job;
}

}  // namespace

void add_linear_attention_cases(Cases& cases) {
  const std::int64_t most = cases.arena() / 2 / (kStateBytes + kTailBytes);
  const auto add = [&](std::int64_t max_size, const auto& make) {
    cases.add(cpu::linear_attention_table(), DType::kF32, Arithmetic::kF32, max_size, make);
  };
  add(most, [](Workbench& b, std::int64_t size) { return linear_attention(b, size, 1); });
  add(kPrompt, [](Workbench& b, std::int64_t size) { return linear_attention(b, 1, size); });
}

}  // namespace heddle::cli
