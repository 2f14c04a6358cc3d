#include "engine/numerics_id.h"

#include <algorithm>
#include <string_view>
#include <variant>

#include "base/sha256.h"
#include "models/overloaded.h"

namespace heddle {

namespace {

/// Feeds plain values; a length goes before every text and list.
class Hasher {
 public:
  void bytes(const void* data, std::size_t n) { hash_.update(data, n); }
  template <typename T>
  void value(T v) {
    bytes(&v, sizeof v);
  }
  void text(std::string_view t) {
    value(t.size());
    bytes(t.data(), t.size());
  }
  std::string hex() { return hash_.hex(); }

 private:
  Sha256 hash_;
};

void add(Hasher& h, const RopeSpec& rope) {
  h.value(rope.rotary_dim);
  h.value(rope.scale);
  h.value(rope.inv_freq.size());
  h.bytes(rope.inv_freq.data(), rope.inv_freq.size() * sizeof(float));
}

void add(Hasher& h, const std::optional<QkNormSpec>& norm) {
  h.value(norm ? norm->eps : -1.0F);
  h.value(norm && norm->all_heads);
}

void add(Hasher& h, const SparseSpec& sparse) {
  h.value(sparse.index());
  std::visit(Overloaded{[](std::monostate) {},
                        [&](const PatternSpec& s) {
                          h.value(s.pattern);
                          for (const int n : {s.block, s.step, s.local}) h.value(n);
                        },
                        [&](const SelectSpec& s) {
                          for (const int n : {s.block, s.kernel, s.stride, s.init_blocks,
                                              s.local_blocks, s.top_k, s.dense_below}) {
                            h.value(n);
                          }
                        }},
             sparse);
}

void add(Hasher& h, const SoftmaxAttentionSpec& s) {
  for (const int n : {s.n_q_heads, s.n_kv_heads, s.head_dim, s.window, s.first_keys, s.log_scale}) {
    h.value(n);
  }
  for (const float x : {s.scale, s.soft_cap}) h.value(x);
  for (const bool flag : {s.sinks, s.output_gate, s.heads.has_value()}) h.value(flag);
  if (s.heads) {
    for (const int n : {s.heads->n_shared, s.heads->top_k}) h.value(n);
    h.value(s.heads->by_query_norm);
  }
  add(h, s.qk_norm);
  add(h, s.sparse);
  add(h, s.rope);
}

void add(Hasher& h, const LinearAttentionSpec& s) {
  for (const int n : {s.n_heads, s.head_dim, s.norm_groups}) h.value(n);
  for (const float x : {s.scale, s.norm_eps}) h.value(x);
  for (const float slope : s.slopes) h.value(slope);
  for (const Activation a : {s.activation, s.v_activation}) h.value(a);
  for (const bool flag : {s.lrpe, s.norm_weight}) h.value(flag);
  h.value(s.gate);
  add(h, s.qk_norm);
  add(h, s.rope);
}

void add(Hasher& h, const DenseFfnSpec& s) {
  h.value(s.intermediate);
  h.value(s.activation);
}

void add(Hasher& h, const MoeFfnSpec& s) {
  const RouterSpec& r = s.router;
  for (const int n :
       {r.n_experts, r.top_k, r.n_groups, r.top_groups, s.intermediate, s.shared_intermediate}) {
    h.value(n);
  }
  h.value(r.score);
  for (const bool flag : {r.renormalise, r.bias, r.choice_bias, s.bias}) h.value(flag);
  for (const float x : {r.scale, s.limit, s.up_add}) h.value(x);
  h.value(s.activation);
  h.value(s.shared);
}

void add(Hasher& h, const ResidualSpec& r) {
  h.value(r.residual);
  h.value(r.branch);
  h.value(r.of_norm);
}

void add(Hasher& h, const ModelConfig& config) {
  for (const int n : {config.hidden, config.vocab}) h.value(n);
  h.value(config.tied_head);
  h.value(config.embedding_scale);
  h.value(config.logit_scale);
  h.value(config.final_norm_eps);
  h.value(config.final_soft_cap);
  for (const LayerSpec& layer : config.layers) {
    h.value(layer.norm_eps);
    for (const bool flag :
         {layer.norm_weights, layer.pre_norms, layer.post_norms, layer.parallel}) {
      h.value(flag);
    }
    add(h, layer.mixer_residual);
    add(h, layer.ffn_residual);
    h.value(layer.mixers.size());
    for (const MixerSpec& mixer : layer.mixers) {
      h.value(mixer.index());
      std::visit([&](const auto& spec) { add(h, spec); }, mixer);
    }
    h.value(layer.ffn.index());
    std::visit([&](const auto& spec) { add(h, spec); }, layer.ffn);
  }
}

/// 64 bytes of every 16 KiB, and the end: a fine-tune changes all over, and loading stays fast.
void add(Hasher& h, const StoredTensor& tensor) {
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
  Hasher h;
  add(h, checkpoint.config);
  for (const StoredTensor& tensor : checkpoint.weights->tensors()) add(h, tensor);
  h.value(*options.kv_dtype);
  h.value(kAttentionTile);
  h.value(kLinearBlock);
  h.value(kArithmetic);
  h.value(backend.kind());
  for (const auto& [op, variant] : options.backend.forced) {
    // The fast CPU variants agree bit for bit, so only ref changes the result.
    if (variant == "ref") h.text(op);
  }
  return h.hex().substr(0, 16);
}

}  // namespace heddle
