#include "tests/scheduler/model/op_stream.h"

#include <fmt/format.h>

#include <algorithm>

namespace heddle::test {
namespace {

constexpr std::array<const char*, Op::kKinds> kNames = {"add",    "run",   "plan",   "commit",
                                                        "fail",   "late",  "remove", "preempt",
                                                        "sicken", "clear", "stray",  "adopt"};

template <std::size_t kSize>
int choose(std::uint8_t byte, const std::array<int, kSize>& from) {
  return from[byte % kSize];
}

}  // namespace

OpStream decode(std::span<const std::uint8_t> bytes) {
  OpStream stream;
  const std::size_t n = std::min(bytes.size(), kHeaderBytes);
  std::copy_n(bytes.begin(), n, stream.header.begin());
  for (std::size_t at = kHeaderBytes; at < bytes.size(); at += kOpBytes) {
    Op op;
    op.kind = static_cast<std::uint8_t>(bytes[at] % Op::kKinds);
    const auto args = bytes.subspan(at + 1, std::min(kOpBytes, bytes.size() - at) - 1);
    std::copy(args.begin(), args.end(), op.args.begin());
    stream.ops.push_back(op);
  }
  return stream;
}

std::vector<std::uint8_t> encode(const OpStream& stream) {
  std::vector<std::uint8_t> bytes(stream.header.begin(), stream.header.end());
  for (const Op& op : stream.ops) {
    bytes.push_back(op.kind);
    bytes.insert(bytes.end(), op.args.begin(), op.args.end());
  }
  return bytes;
}

StreamOptions options_of(const OpStream& stream) {
  const auto& h = stream.header;
  StreamOptions o;
  SchedulerOptions& s = o.scheduler;
  s.max_running = 1 + h[0] % 6;
  s.max_step_tokens = 1 + h[1] % 32;
  s.max_step_outputs = std::max<std::int64_t>(s.max_running, 1 + h[2] % 8);
  s.max_chunk = 1 + h[3] % s.max_step_tokens;
  s.max_sequence_tokens = choose(h[4], std::array{24, 48, 80, 140});
  s.block_tokens = choose(h[5], std::array{4, 1, 2, 3, 5, 8, 16, 64});
  const int one = static_cast<int>(s.max_sequence_tokens + s.block_tokens - 1) / s.block_tokens;
  // From a pool that the longest request does not fit in to one that never evicts.
  s.n_blocks =
      std::max(1, one - 1 + h[6] % 4 + (h[7] % 8) * one / 2 + (h[7] >= 224 ? 30 * one : 0));
  const bool states = h[8] % 3 > 0;
  const int spare = choose(h[9], std::array{0, 1, 2, 4, 8, 64});
  s.n_state_slots = states ? static_cast<int>(s.max_running) + spare : 0;
  s.state_block_tokens = choose(h[10], std::array{1, 2, 4, 8, 16});
  s.snapshot_every = choose(h[11], std::array{0, 1, 2, 3, 5, 8, 16, 64});
  s.n_host_blocks = h[16] >= 128 ? h[16] % 9 * one / 3 : 0;
  s.n_host_slots = states && h[17] >= 128 ? h[17] % 7 : 0;
  s.block_copy_tokens = h[18] % 13;
  s.state_copy_tokens = h[19] % 11;
  s.prefix_cache = h[12] % 16 != 15;
  s.cache_key = {h[12], 7};
  s.shuffle_seed = h[13];
  s.few_children = choose(static_cast<std::uint8_t>(h[18] / 13), std::array{16, 1, 4});
  s.chunk_seed = h[14] % 2 == 0 ? 0 : h[14];
  o.vocab = 2 + (h[15] % 4);
  o.flight = h[15] % 8 < 4 ? 1 : 2;
  return o;
}

OpStream random_stream(std::mt19937& rng, int n_ops) {
  constexpr std::array<int, Op::kKinds> kWeights = {30, 14, 18, 14, 4, 1, 5, 5, 4, 1, 2, 2};
  const auto byte = [&rng] { return static_cast<std::uint8_t>(rng() >> 13); };
  OpStream stream;
  std::generate(stream.header.begin(), stream.header.end(), byte);
  int total = 0;
  for (const int weight : kWeights) total += weight;
  for (int i = 0; i < n_ops; ++i) {
    Op op;
    int left = static_cast<int>(rng() % static_cast<unsigned>(total));
    while (left >= kWeights[op.kind]) left -= kWeights[op.kind++];
    std::generate(op.args.begin(), op.args.end(), byte);
    stream.ops.push_back(op);
  }
  return stream;
}

std::string describe(const OpStream& stream) {
  const StreamOptions o = options_of(stream);
  const SchedulerOptions& s = o.scheduler;
  std::string text = fmt::format(
      "max_step_tokens {} max_step_outputs {} max_running {} max_chunk {} max_sequence_tokens {} "
      "block_tokens {} n_blocks {} n_state_slots {} state_block_tokens {} snapshot_every {} "
      "prefix_cache {} shuffle {} chunk_seed {} vocab {} flight {} host {} and {}\n",
      s.max_step_tokens, s.max_step_outputs, s.max_running, s.max_chunk, s.max_sequence_tokens,
      s.block_tokens, s.n_blocks, s.n_state_slots, s.state_block_tokens, s.snapshot_every,
      s.prefix_cache, s.shuffle_seed, s.chunk_seed, o.vocab, o.flight, s.n_host_blocks,
      s.n_host_slots);
  for (std::size_t i = 0; i < stream.ops.size(); ++i) {
    text += fmt::format("  {:3}: {:8}", i, kNames[stream.ops[i].kind]);
    for (const std::uint8_t arg : stream.ops[i].args) text += fmt::format(" {:3}", arg);
    text += '\n';
  }
  text += "to keep it: xxd -r -p > tests/fuzz/corpus/scheduler/NAME <<< ";
  for (const std::uint8_t byte : encode(stream)) text += fmt::format("{:02x}", byte);
  return text + '\n';
}

}  // namespace heddle::test
