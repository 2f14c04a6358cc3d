#include "models/spec_hash.h"

#include <optional>
#include <type_traits>
#include <variant>
#include <vector>

#include "kernels/api/attention.h"
#include "kernels/api/linear_attention.h"

namespace heddle {
namespace {

/// Structs are taken apart by name, so that a member which is added to one and forgotten here does
/// not compile. A mixer also gives the constants that its op's order of sums depends on.
class SpecHash {
 public:
  explicit SpecHash(ValueHash& hash) : hash_(hash) {}

  template <typename... T>
  void all(const T&... fields) {
    (add(fields), ...);
  }

 private:
  template <typename T>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T>) void add(T value) { hash_.value(value); }

  template <typename T>
  void add(const std::vector<T>& list) {
    hash_.value(list.size());
    for (const T& element : list) add(element);
  }

  template <typename T>
  void add(const std::optional<T>& value) {
    hash_.value(value.has_value());
    if (value) add(*value);
  }

  template <typename... T>
  void add(const std::variant<T...>& value) {
    hash_.value(value.index());
    std::visit([this](const auto& held) { this->add(held); }, value);
  }

  void add(std::monostate) {}

  void add(const RopeSpec& spec) {
    // The last two are what for_context() has chosen from.
    const auto& [rotary_dim, inv_freq, scale, long_inv_freq, short_context] = spec;
    all(rotary_dim, inv_freq, scale);
  }

  void add(const QkNormSpec& spec) {
    const auto& [eps, all_heads] = spec;
    all(eps, all_heads);
  }

  void add(const HeadRouterSpec& spec) {
    const auto& [n_shared, top_k, by_query_norm] = spec;
    all(n_shared, top_k, by_query_norm);
  }

  void add(const PatternSpec& spec) {
    const auto& [pattern, block, step, local] = spec;
    all(pattern, block, step, local);
  }

  void add(const SelectSpec& spec) {
    const auto& [block, kernel, stride, init_blocks, local_blocks, top_k, dense_below] = spec;
    all(block, kernel, stride, init_blocks, local_blocks, top_k, dense_below);
  }

  void add(const SoftmaxAttentionSpec& spec) {
    const auto& [n_q_heads, n_kv_heads, head_dim, scale, window, first_keys, soft_cap, log_scale,
                 sinks, output_gate, qk_norm, heads, sparse, rope] = spec;
    all(n_q_heads, n_kv_heads, head_dim, scale, window, first_keys, soft_cap, log_scale, sinks,
        output_gate, qk_norm, heads, sparse, rope, kAttentionTile);
  }

  void add(const LinearAttentionSpec& spec) {
    const auto& [n_heads, head_dim, scale, slopes, activation, v_activation, qk_norm, rope, lrpe,
                 norm_groups, norm_weight, norm_eps, gate] = spec;
    all(n_heads, head_dim, scale, slopes, activation, v_activation, qk_norm, rope, lrpe,
        norm_groups, norm_weight, norm_eps, gate, kLinearBlock);
  }

  void add(const DenseFfnSpec& spec) {
    const auto& [intermediate, activation] = spec;
    all(intermediate, activation);
  }

  void add(const RouterSpec& spec) {
    const auto& [n_experts, top_k, score, renormalise, scale, n_groups, top_groups, bias,
                 choice_bias] = spec;
    all(n_experts, top_k, score, renormalise, scale, n_groups, top_groups, bias, choice_bias);
  }

  void add(const MoeFfnSpec& spec) {
    const auto& [router, intermediate, activation, limit, up_add, bias, shared,
                 shared_intermediate] = spec;
    all(router, intermediate, activation, limit, up_add, bias, shared, shared_intermediate);
  }

  void add(const ResidualSpec& spec) {
    const auto& [residual, branch, of_norm] = spec;
    all(residual, branch, of_norm);
  }

  void add(const LayerSpec& spec) {
    const auto& [mixers, ffn, norm_eps, norm_weights, pre_norms, post_norms, parallel,
                 mixer_residual, ffn_residual] = spec;
    all(mixers, ffn, norm_eps, norm_weights, pre_norms, post_norms, parallel, mixer_residual,
        ffn_residual);
  }

  ValueHash& hash_;
};

}  // namespace

void hash_config(const ModelConfig& config, ValueHash& hash) {
  // Names, the trained context and sampling defaults change no bit of a logit.
  const auto& [name, family, hidden, vocab, context, tied_head, embedding_scale, logit_scale,
               final_norm_eps, final_soft_cap, layers, generation] = config;
  SpecHash(hash).all(hidden, vocab, tied_head, embedding_scale, logit_scale, final_norm_eps,
                     final_soft_cap, layers);
}

}  // namespace heddle
