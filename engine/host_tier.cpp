#include "engine/host_tier.h"

#include <algorithm>
#include <string_view>
#include <variant>

#include "engine/cache_rings.h"
#include "engine/cache_storage.h"

namespace heddle {
namespace {

/// Floating-point operations in the time that a byte takes from the device to the host.
constexpr double kCpuFlopsPerByte = 12.0;       // 100 GFLOP/s by 8 GB/s
constexpr double kCudaFlopsPerByte = 10'000.0;  // 500 TFLOP/s by 50 GB/s

/// Parameters that a token is multiplied with: of experts, those that are chosen.
double active_parameters(const ModelConfig& config, const WeightStore& weights) {
  double all = 0.0;
  double experts = 0.0;
  for (const StoredTensor& tensor : weights.tensors()) {
    const auto n = static_cast<double>(tensor.view.elements());
    all += n;
    if (std::string_view(tensor.name).find("exp") != std::string_view::npos) experts += n;
  }
  double share = 1.0;
  for (const LayerSpec& layer : config.layers) {
    if (const auto* moe = std::get_if<MoeFfnSpec>(&layer.ffn)) {
      share = std::min(share, static_cast<double>(moe->router.top_k) / moe->router.n_experts);
    }
  }
  return all - experts + experts * share;
}

}  // namespace

HostTier host_tier(const ModelConfig& config,
                   const WeightStore& weights,
                   const EngineOptions& options) {
  HostTier tier;
  if (options.host_cache == 0 || !options.prefix_cache) return tier;
  const std::vector<CacheNeed> needs = placed_needs(config, options);
  const std::uint64_t state =
      state_bytes(needs) + ring_bytes(needs, *options.kv_dtype, options.block_tokens);
  const std::uint64_t block = kv_block_bytes(needs, *options.kv_dtype, options.block_tokens);
  std::uint64_t room = options.host_cache;
  if (state > 0) {
    const std::uint64_t most = 64 + 4 * static_cast<std::uint64_t>(options.max_sequences);
    const std::uint64_t n = std::min(room / (block > 0 ? 2 : 1) / state, most);
    tier.n_slots = static_cast<std::int64_t>(n);
    room -= n * state;
  }
  constexpr std::uint64_t kMostBlocks = 1U << 30U;
  // Blocks without bytes are where states lie in the tree of prefixes.
  const std::int64_t no_bytes =
      (options.kv_tokens + options.block_tokens - 1) / options.block_tokens;
  tier.n_blocks =
      block > 0 ? static_cast<std::int64_t>(std::min(room / block, kMostBlocks)) : no_bytes;
  const double flops_of_token = 2.0 * std::max(1.0, active_parameters(config, weights));
  const double rate =
      options.backend.device == DeviceKind::kCpu ? kCpuFlopsPerByte : kCudaFlopsPerByte;
  const auto copied = [&](std::uint64_t bytes) {
    return 2.0 * static_cast<double>(bytes) * rate / flops_of_token;
  };
  tier.block_copy_tokens = copied(block);
  tier.state_copy_tokens = copied(state);
  return tier;
}

}  // namespace heddle
