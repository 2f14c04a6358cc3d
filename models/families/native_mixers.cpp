// The mixers of the native format.

#include <fmt/format.h>

#include <cmath>
#include <utility>
#include <vector>

#include "models/families/fields.h"
#include "models/families/folder_rope.h"
#include "models/families/native.h"
#include "models/slopes.h"

namespace heddle {
namespace {

constexpr std::int64_t kMostTokens = ModelLimits::kContext;

int read_head_dim(const StrictObject& config) {
  const int dim = config.require_integer("head_dim", {2, ModelLimits::kHeadDim});
  if (dim % 2 != 0) {
    throw config.error("head_dim", std::to_string(dim),
                       fmt::format("even numbers from 2 to {}", ModelLimits::kHeadDim));
  }
  return dim;
}

float read_scale(const StrictObject& config, int head_dim) {
  const double usual = 1.0 / std::sqrt(static_cast<double>(head_dim));
  return static_cast<float>(config.real("scale", 1e-6, 1e6, usual));
}

float read_eps(const StrictObject& config, std::string_view key, double otherwise) {
  return static_cast<float>(config.real(key, 1e-30, 1.0, otherwise));
}

std::optional<QkNormSpec> read_qk_norm(const StrictObject& config, double eps) {
  const std::size_t kind = config.choice("qk_norm", {"none", "head", "all_heads"}, "none");
  const float own = read_eps(config, "qk_norm_eps", eps);
  if (kind == 0) return std::nullopt;
  return QkNormSpec{own, kind == 2};
}

RopeSpec read_rope(const StrictObject& config, int head_dim, int context) {
  const auto object = config.object("rope");
  if (!object) return {};
  const StrictObject strict(*object);
  for (const std::string_view key : {"rope_theta", "rope_scaling", "partial_rotary_factor",
                                     "original_max_position_embeddings"}) {
    strict.has(key);  // read below
  }
  strict.done();
  return read_folder_rope(*object, head_dim, context, 10'000.0);
}

std::optional<HeadRouterSpec> read_head_router(const StrictObject& config, int n_heads) {
  const auto object = config.object("head_router");
  if (!object) return std::nullopt;
  const StrictObject strict(*object);
  HeadRouterSpec router;
  router.n_shared = strict.integer("shared", {0, n_heads - 1}, 0);
  router.top_k = strict.require_integer("top_k", {1, n_heads - router.n_shared});
  router.by_query_norm = strict.choice("score", {"router", "query_norm"}, "router") == 1;
  strict.done();
  return router;
}

/// A multiple of 16 tokens.
int read_block(const StrictObject& config) {
  const int block = config.require_integer("block", {16, 65'536});
  if (block % 16 != 0) {
    throw config.error("block", std::to_string(block), "multiples of 16 from 16 to 65536");
  }
  return block;
}

SelectSpec read_select(const StrictObject& config, int block) {
  SelectSpec select;
  select.block = block;
  select.stride = config.integer("stride", {1, block}, std::max(1, block / 4));
  if (!is_stride_of(select.stride, block)) {
    throw config.error("stride", std::to_string(select.stride),
                       fmt::format("powers of two that divide block = {}", block));
  }
  select.kernel = config.integer("kernel", {select.stride, 65'536}, 2 * select.stride);
  if (select.kernel % select.stride != 0) {
    throw config.error("kernel", std::to_string(select.kernel),
                       fmt::format("multiples of stride = {}", select.stride));
  }
  select.init_blocks = config.integer("init_blocks", {0, 65'536}, 1);
  select.local_blocks = config.integer("local_blocks", {1, 65'536}, 4);
  const int forced = select.init_blocks + select.local_blocks;
  select.top_k = config.require_integer("top_k", {forced, 1 << 20});
  select.dense_below =
      config.integer("dense_below", {0, kMostTokens},
                     std::min<std::int64_t>(kMostTokens, std::int64_t{select.top_k} * block));
  return select;
}

SparseSpec read_sparse(const StrictObject& config) {
  const auto object = config.object("sparse");
  if (!object) return std::monostate();
  const StrictObject strict(*object);
  const std::size_t kind =
      strict.choice("kind", {"strided", "dilated", "power", "neighbourhood", "infllm"}, "");
  const int block = read_block(strict);
  SparseSpec spec;
  constexpr IntegerRange kBlocks = {1, 1 << 20};
  if (kind == 4) {
    spec = read_select(strict, block);
  } else if (kind == 3) {
    spec = PatternSpec{BlockPattern::kNeighbourhood, block, 0,
                       strict.require_integer("local", kBlocks)};
  } else if (kind == 2) {
    spec = PatternSpec{BlockPattern::kPower, block, 0, strict.integer("local", kBlocks, 5)};
  } else {
    spec = PatternSpec{kind == 0 ? BlockPattern::kStrided : BlockPattern::kDilated, block,
                       strict.require_integer("step", kBlocks), 0};
  }
  strict.done();
  return spec;
}

void refuse_window_and_blocks(const StrictObject& config, const SoftmaxAttentionSpec& spec) {
  if (spec.first_keys > 0 && spec.window == 0) {
    throw config.error("first_keys", std::to_string(spec.first_keys), "0 without a window");
  }
  if (spec.window > 0 && spec.sparse.index() != 0) {
    throw config.error("window", std::to_string(spec.window), "absent beside sparse");
  }
}

SoftmaxAttentionSpec read_softmax_spec(const StrictObject& config, const NativeLayer& layer) {
  SoftmaxAttentionSpec spec;
  spec.n_q_heads = config.require_integer("heads", {1, ModelLimits::kHeads});
  spec.n_kv_heads = config.integer("kv_heads", {1, ModelLimits::kHeads}, spec.n_q_heads);
  if (spec.n_q_heads % spec.n_kv_heads != 0) {
    throw config.error("kv_heads", std::to_string(spec.n_kv_heads),
                       fmt::format("divisors of heads = {}", spec.n_q_heads));
  }
  spec.head_dim = read_head_dim(config);
  spec.scale = read_scale(config, spec.head_dim);
  if (config.has("window")) spec.window = config.require_integer("window", {1, kMostTokens});
  spec.first_keys = config.integer("first_keys", {0, kMostTokens}, 0);
  spec.soft_cap = static_cast<float>(config.real("soft_cap", 0.0, 1e6, 0.0));
  if (config.has("log_scale")) {
    spec.log_scale = config.require_integer("log_scale", {2, kMostTokens});
  }
  spec.sinks = config.boolean("sinks", false);
  spec.output_gate = config.boolean("output_gate", false);
  spec.qk_norm = read_qk_norm(config, layer.norm_eps);
  spec.heads = read_head_router(config, spec.n_q_heads);
  spec.sparse = read_sparse(config);
  spec.rope = read_rope(config, spec.head_dim, layer.context);
  refuse_window_and_blocks(config, spec);
  return spec;
}

SoftmaxAttentionNames softmax_names(const SoftmaxAttentionSpec& spec,
                                    std::size_t biases,
                                    const NativeLayer& layer) {
  const std::int64_t q = std::int64_t{spec.n_q_heads} * spec.head_dim;
  const std::int64_t kv = std::int64_t{spec.n_kv_heads} * spec.head_dim;
  SoftmaxAttentionNames names;
  names.q = layer.matrix("q", q, layer.hidden);
  names.k = layer.matrix("k", kv, layer.hidden);
  names.v = layer.matrix("v", kv, layer.hidden);
  names.o = layer.matrix("o", layer.hidden, q);
  if (biases > 0) {
    names.q_bias = layer.vector("q.bias", q);
    names.k_bias = layer.vector("k.bias", kv);
    names.v_bias = layer.vector("v.bias", kv);
  }
  if (biases > 1) names.o_bias = layer.vector("o.bias", layer.hidden);
  if (spec.qk_norm) {
    const bool all = spec.qk_norm->all_heads;
    names.q_norm = layer.vector("q_norm.weight", all ? q : spec.head_dim);
    names.k_norm = layer.vector("k_norm.weight", all ? kv : spec.head_dim);
  }
  if (spec.output_gate) names.gate = layer.matrix("gate", q, layer.hidden);
  if (spec.sinks) names.sinks = layer.vector("sinks", spec.n_q_heads);
  if (spec.heads && !spec.heads->by_query_norm) {
    const int n_shared = spec.heads->n_shared;
    names.routed_heads = layer.matrix("routed_heads", spec.n_q_heads - n_shared, layer.hidden);
    if (n_shared > 0) {
      names.shared_heads = layer.matrix("shared_heads", n_shared, layer.hidden);
      names.head_stages = layer.matrix("head_stages", 2, layer.hidden);
    }
  }
  return names;
}

std::vector<float> read_slopes(const StrictObject& config, int n_heads, const NativeLayer& layer) {
  if (const auto numbers = config.reals("slopes")) {
    if (static_cast<int>(numbers->size()) != n_heads) {
      throw config.error("slopes", fmt::format("{} numbers", numbers->size()),
                         fmt::format("{}, one per head", n_heads));
    }
    for (const double s : *numbers) {
      if (!(s >= 0.0 && s <= 50.0)) {
        throw config.error("slopes", fmt::format("{}", s), "numbers from 0 to 50");
      }
    }
    return {numbers->begin(), numbers->end()};
  }
  if (!config.has("slope_rule")) throw config.missing("slopes", "an array, or slope_rule");
  const std::size_t rule = config.choice("slope_rule", {"alibi", "alibi_by_layer"}, "");
  const int offset = config.integer("slope_layer_offset", {0, 1}, 0);
  const std::vector<double> table = alibi_slopes(n_heads);
  return rule == 0 ? plain_slopes(table) : layer_slopes(table, layer.index, layer.n_layers, offset);
}

void read_output_norm(const StrictObject& config, double eps, LinearAttentionSpec& spec) {
  const std::size_t kind = config.choice("norm", {"none", "head", "group", "all"}, "none");
  spec.norm_weight = config.boolean("norm_weight", true) && kind > 0;
  spec.norm_eps = read_eps(config, "norm_eps", eps);
  if (kind == 1) spec.norm_groups = spec.n_heads;
  if (kind == 3) spec.norm_groups = 1;
  if (kind != 2) return;
  spec.norm_groups = config.require_integer("norm_groups", {1, spec.n_heads});
  if (spec.n_heads % spec.norm_groups != 0) {
    throw config.error("norm_groups", std::to_string(spec.norm_groups),
                       fmt::format("divisors of heads = {}", spec.n_heads));
  }
}

LinearAttentionSpec read_linear_spec(const StrictObject& config, const NativeLayer& layer) {
  LinearAttentionSpec spec;
  spec.n_heads = config.require_integer("heads", {1, ModelLimits::kHeads});
  spec.head_dim = read_head_dim(config);
  spec.scale = read_scale(config, spec.head_dim);
  spec.slopes = read_slopes(config, spec.n_heads, layer);
  spec.activation = read_native_activation(config, "activation", Activation::kIdentity);
  spec.v_activation = read_native_activation(config, "v_activation", Activation::kIdentity);
  spec.qk_norm = read_qk_norm(config, layer.norm_eps);
  spec.rope = read_rope(config, spec.head_dim, layer.context);
  spec.lrpe = config.boolean("lrpe", false);
  if (spec.lrpe && spec.rope.rotary_dim > 0) throw config.error("lrpe", "true", "false with rope");
  read_output_norm(config, layer.norm_eps, spec);
  const std::size_t gate = config.choice("gate", {"none", "multiply", "sigmoid"}, "none");
  spec.gate = static_cast<OutputGate>(gate);
  return spec;
}

LinearAttentionNames linear_names(const LinearAttentionSpec& spec, const NativeLayer& layer) {
  const std::int64_t width = std::int64_t{spec.n_heads} * spec.head_dim;
  LinearAttentionNames names;
  names.q = layer.matrix("q", width, layer.hidden);
  names.k = layer.matrix("k", width, layer.hidden);
  names.v = layer.matrix("v", width, layer.hidden);
  names.o = layer.matrix("o", layer.hidden, width);
  if (spec.qk_norm) {
    const std::int64_t n = spec.qk_norm->all_heads ? width : spec.head_dim;
    names.q_norm = layer.vector("q_norm.weight", n);
    names.k_norm = layer.vector("k_norm.weight", n);
  }
  if (spec.gate != OutputGate::kNone) names.gate = layer.matrix("gate", width, layer.hidden);
  if (spec.norm_weight) names.norm = layer.vector("norm.weight", width);
  if (spec.lrpe) names.theta = layer.vector("theta", width);
  return names;
}

using MixerAndNames = std::pair<MixerSpec, MixerNames>;

MixerAndNames read_softmax(const StrictObject& config, const NativeLayer& layer) {
  SoftmaxAttentionSpec spec = read_softmax_spec(config, layer);
  const std::size_t biases = config.choice("bias", {"none", "qkv", "qkvo"}, "none");
  config.done();
  SoftmaxAttentionNames names = softmax_names(spec, biases, layer);
  return {std::move(spec), std::move(names)};
}

MixerAndNames read_linear(const StrictObject& config, const NativeLayer& layer) {
  LinearAttentionSpec spec = read_linear_spec(config, layer);
  config.done();
  LinearAttentionNames names = linear_names(spec, layer);
  return {std::move(spec), std::move(names)};
}

struct MixerKind {
  std::string_view kind;
  MixerAndNames (*read)(const StrictObject& config, const NativeLayer& layer);
};
constexpr MixerKind kMixerKinds[] = {
    {"softmax", read_softmax},
    {"linear", read_linear},
};

}  // namespace

std::pair<MixerSpec, MixerNames> read_native_mixer(const StrictObject& config,
                                                   const NativeLayer& layer) {
  std::vector<std::string_view> kinds;
  for (const MixerKind& kind : kMixerKinds) kinds.push_back(kind.kind);
  if (!config.has("kind")) throw config.missing("kind", fmt::format("{}", fmt::join(kinds, ", ")));
  return kMixerKinds[config.choice("kind", kinds, "")].read(config, layer);
}

}  // namespace heddle
