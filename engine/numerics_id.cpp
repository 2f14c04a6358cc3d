#include "engine/numerics_id.h"

#include <algorithm>

#include "models/spec_hash.h"

namespace heddle {

namespace {

/// 64 bytes of every 16 KiB, and the end: a fine-tune changes all over, and loading stays fast.
void add(ValueHash& h, const StoredTensor& tensor) {
  constexpr std::size_t kSample = 64;
  constexpr std::size_t kStride = 16384;
  h.text(tensor.name);
  h.text(shape_text(tensor.view));
  const std::span<const std::byte> bytes = tensor.bytes();
  const std::size_t n = bytes.size();
  const std::byte* const data = bytes.data();
  for (std::size_t at = 0; at < n; at += kStride) h.bytes(data + at, std::min(kSample, n - at));
  h.bytes(data + n - std::min(kSample, n), std::min(kSample, n));
}

// Raised when the contract of an op in kernels/api changes bits: what was kept from before is then
// not taken for the same. 2: x of K types has a scale for 256.
constexpr int kArithmetic = 2;

}  // namespace

std::string numerics_id(const Checkpoint& checkpoint,
                        const EngineOptions& options,
                        Backend& backend) {
  ValueHash h;
  hash_config(checkpoint.config, h);
  for (const StoredTensor& tensor : checkpoint.weights->tensors()) add(h, tensor);
  h.value(*options.kv_dtype);
  h.value(kArithmetic);
  h.value(backend.kind());
  for (const auto& [op, variant] : options.backend.forced) {
    // The fast CPU variants agree bit for bit, so only ref changes the result.
    if (variant == "ref") h.text(op);
  }
  return h.hex().substr(0, 16);
}

}  // namespace heddle
