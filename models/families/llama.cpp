// Family llama in GGUF: SmolLM2 and the dense Llama 2 and 3 shapes. RMS norms before attention and
// FFN, grouped-query softmax attention with rotary embedding, SiLU-gated FFN, no biases.

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/families/families.h"
#include "models/families/tensor_check.h"
#include "models/gguf_keys.h"
#include "models/quote_text.h"
#include "models/rope_scaling.h"

namespace heddle {
namespace {

constexpr std::int64_t kMaxLayers = 10'000;
constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr std::int64_t kMaxIntermediate = 1 << 22;
constexpr std::int64_t kMaxHeads = 65'536;
constexpr std::int64_t kMaxHeadDim = 1024;
constexpr std::int64_t kMaxContext = 1 << 30;
constexpr std::int64_t kMaxVocab = (1LL << 31) - 1;

/// Sizes of one model; the same in all layers of this family.
struct Shape {
  int layers = 0;
  int hidden = 0;
  int intermediate = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int rotary_dim = 0;
  float norm_eps = 0.0F;
  double rope_theta = 0.0;
};

int to_int(std::int64_t value) {
  return static_cast<int>(value);  // every caller bounded it
}

/// For one family's keys "llama.X".
class LlamaKeys {
 public:
  explicit LlamaKeys(const GgufDirectory& file) : keys_(file, "config") {}

  static std::string full(std::string_view field) { return fmt::format("llama.{}", field); }

  int count(std::string_view field, std::int64_t most) const {
    const auto value = keys_.uniform_integer(full(field), {1, most});
    if (!value) throw keys_.missing(full(field));
    return to_int(*value);
  }
  int count_or(std::string_view field, std::int64_t most, int otherwise) const {
    return to_int(keys_.uniform_integer(full(field), {1, most}).value_or(otherwise));
  }
  /// A key that would change the results: it may only say what this family does anyway.
  void only(std::string_view field, double neutral) const {
    const std::optional<double> value = keys_.real(full(field));
    if (value && *value != neutral && *value != 0.0) {
      throw error(field, fmt::format("{}", *value), fmt::format("{}", neutral));
    }
  }
  Error error(std::string_view field, const std::string& got, const std::string& allowed) const {
    return keys_.error(full(field), got, allowed);
  }
  const GgufKeys& raw() const { return keys_; }

 private:
  GgufKeys keys_;
};

void check_heads(const LlamaKeys& keys, Shape& shape) {
  shape.q_heads = keys.count("attention.head_count", kMaxHeads);
  shape.kv_heads = keys.count_or("attention.head_count_kv", kMaxHeads, shape.q_heads);
  if (shape.q_heads % shape.kv_heads != 0) {
    throw keys.error("attention.head_count_kv", std::to_string(shape.kv_heads),
                     fmt::format("divisors of llama.attention.head_count = {}", shape.q_heads));
  }
  if (!keys.raw().has(LlamaKeys::full("attention.key_length")) &&
      shape.hidden % shape.q_heads != 0) {
    throw keys.error("embedding_length", std::to_string(shape.hidden),
                     fmt::format("multiples of llama.attention.head_count = {}", shape.q_heads));
  }
  shape.head_dim = keys.count_or("attention.key_length", kMaxHeadDim, shape.hidden / shape.q_heads);
  if (shape.head_dim < 2 || shape.head_dim > kMaxHeadDim || shape.head_dim % 2 != 0) {
    throw keys.error("attention.key_length", std::to_string(shape.head_dim),
                     fmt::format("even numbers from 2 to {}", kMaxHeadDim));
  }
  const int value_dim = keys.count_or("attention.value_length", kMaxHeadDim, shape.head_dim);
  if (value_dim != shape.head_dim) {
    throw keys.error("attention.value_length", std::to_string(value_dim),
                     fmt::format("llama.attention.key_length = {}", shape.head_dim));
  }
  shape.rotary_dim = keys.count_or("rope.dimension_count", kMaxHeadDim, shape.head_dim);
  if (shape.rotary_dim > shape.head_dim || shape.rotary_dim % 2 != 0) {
    throw keys.error("rope.dimension_count", std::to_string(shape.rotary_dim),
                     fmt::format("even numbers from 2 to the head's {}", shape.head_dim));
  }
}

/// Keys of other models of this shape that this version does not compute.
void refuse_variations(const LlamaKeys& keys) {
  const GgufKeys& raw = keys.raw();
  if (const auto n = raw.integer("llama.expert_count", {0, kMaxHeads}); n && *n > 0) {
    throw keys.error("expert_count", std::to_string(*n),
                     "0 (this version does not read mixtures of experts)");
  }
  if (const auto n = raw.integer("llama.attention.sliding_window", {0, kMaxContext}); n && *n > 0) {
    throw keys.error("attention.sliding_window", std::to_string(*n),
                     "0 (this version does not read sliding windows)");
  }
  if (const auto causal = raw.boolean("llama.attention.causal"); causal && !*causal) {
    throw keys.error("attention.causal", "false", "true");
  }
  for (const std::string_view field : {"embedding_scale", "residual_scale", "logit_scale"}) {
    keys.only(field, 1.0);
  }
  for (const std::string_view field :
       {"attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias",
        "attn_logit_softcapping", "final_logit_softcapping"}) {
    keys.only(field, 0.0);
  }
  const std::string type(raw.text("llama.rope.scaling.type").value_or("none"));
  if (type != "none") {
    throw keys.error("rope.scaling.type", quote_text(type),
                     "'none' (llama3 scaling comes as tensor rope_freqs.weight)");
  }
  // Without a type, readers of this format take a factor as linear scaling.
  if (!raw.has("llama.rope.scaling.type")) keys.only("rope.scaling.factor", 1.0);
  keys.only("rope.scale_linear", 1.0);
  keys.only("rope.scaling.attn_factor", 1.0);
}

Shape read_shape(const LlamaKeys& keys) {
  Shape shape;
  shape.layers = keys.count("block_count", kMaxLayers);
  shape.hidden = keys.count("embedding_length", kMaxWidth);
  shape.intermediate = keys.count("feed_forward_length", kMaxIntermediate);
  check_heads(keys, shape);
  const std::string eps = LlamaKeys::full("attention.layer_norm_rms_epsilon");
  const std::optional<double> norm_eps = keys.raw().real(eps);
  if (!norm_eps) throw keys.raw().missing(eps);
  if (!(*norm_eps > 0.0 && *norm_eps <= 1.0)) {
    throw keys.raw().error(eps, fmt::format("{}", *norm_eps), "numbers above 0, up to 1");
  }
  shape.norm_eps = static_cast<float>(*norm_eps);
  shape.rope_theta = keys.raw().real(LlamaKeys::full("rope.freq_base")).value_or(10'000.0);
  if (!(shape.rope_theta >= 1.0 && shape.rope_theta <= 1e15)) {
    throw keys.error("rope.freq_base", fmt::format("{}", shape.rope_theta), "1 to 1e15");
  }
  return shape;
}

/// Frequencies of the rotation, divided by the factors in rope_freqs.weight where there is one.
std::vector<float> read_inv_freq(const Shape& shape, WeightStore& weights, TensorCheck& tensors) {
  std::vector<float> inv_freq = rope_inv_freq(shape.rope_theta, shape.rotary_dim);
  const std::string name = "rope_freqs.weight";
  if (!weights.has(name)) return inv_freq;
  tensors.vector(name, shape.rotary_dim / 2);
  const TensorView factors = weights.require(name, {shape.rotary_dim / 2}, {DType::kF32});
  for (std::size_t i = 0; i < inv_freq.size(); ++i) {
    const float factor = factors.as<float>()[i];
    if (!(factor >= 1e-6F && factor <= 1e6F)) {
      throw bad_input(fmt::format("{}: config: {}[{}], got {}, allowed 1e-06 to 1e+06",
                                  weights.source(), name, i, factor));
    }
    inv_freq[i] /= factor;
  }
  return inv_freq;
}

/// GGUF's llama stores the two halves of each head's rotated part interleaved: stored row 2i is
/// dimension i, 2i + 1 is dimension i + rotary_dim / 2. The result turns that back.
std::vector<std::int32_t> half_order(int heads, const Shape& shape) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(heads) *
                                  static_cast<std::size_t>(shape.head_dim));
  const int half = shape.rotary_dim / 2;
  std::size_t at = 0;
  for (int h = 0; h < heads; ++h) {
    const std::int32_t first = h * shape.head_dim;
    for (int j = 0; j < 2; ++j) {
      for (int i = 0; i < half; ++i) order[at++] = first + 2 * i + j;
    }
    for (int d = shape.rotary_dim; d < shape.head_dim; ++d) order[at++] = first + d;
  }
  return order;
}

LayerNames read_layer(int index, const Shape& shape, TensorCheck& tensors) {
  const std::string block = fmt::format("blk.{}.", index);
  const std::int64_t q_rows = std::int64_t{shape.q_heads} * shape.head_dim;
  const std::int64_t kv_rows = std::int64_t{shape.kv_heads} * shape.head_dim;
  LayerNames names;
  names.mixer_norm = tensors.vector(block + "attn_norm.weight", shape.hidden);
  SoftmaxAttentionNames attention;
  attention.q = tensors.matrix(block + "attn_q.weight", q_rows, shape.hidden);
  attention.k = tensors.matrix(block + "attn_k.weight", kv_rows, shape.hidden);
  attention.v = tensors.matrix(block + "attn_v.weight", kv_rows, shape.hidden);
  attention.o = tensors.matrix(block + "attn_output.weight", shape.hidden, q_rows);
  attention.q_row_order = half_order(shape.q_heads, shape);
  attention.k_row_order = half_order(shape.kv_heads, shape);
  names.mixer = std::move(attention);
  names.ffn_norm = tensors.vector(block + "ffn_norm.weight", shape.hidden);
  DenseFfnNames ffn;
  ffn.gate = tensors.matrix(block + "ffn_gate.weight", shape.intermediate, shape.hidden);
  ffn.up = tensors.matrix(block + "ffn_up.weight", shape.intermediate, shape.hidden);
  ffn.down = tensors.matrix(block + "ffn_down.weight", shape.hidden, shape.intermediate);
  names.ffn = std::move(ffn);
  // Tables that old converters wrote out; the frequencies above replace them.
  tensors.harmless(block + "attn_rot_embd.weight");
  tensors.harmless(block + "attn_rot_embd");
  tensors.harmless(block + "attn.rotary_emb.inv_freq");
  return names;
}

LayerSpec layer_spec(const Shape& shape, const std::vector<float>& inv_freq) {
  SoftmaxAttentionSpec attention;
  attention.n_q_heads = shape.q_heads;
  attention.n_kv_heads = shape.kv_heads;
  attention.head_dim = shape.head_dim;
  attention.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_dim)));
  attention.rope = {shape.rotary_dim, inv_freq, 1.0F};
  return {std::move(attention), DenseFfnSpec{shape.intermediate, Activation::kSilu},
          shape.norm_eps};
}

/// Rows of the embedding, which llama.vocab_size must repeat where it is given.
int read_vocab(const LlamaKeys& keys, const WeightStore& weights) {
  const TensorView embedding = weights.find("token_embd.weight");
  const std::optional<std::int64_t> stated = keys.raw().integer("llama.vocab_size", {1, kMaxVocab});
  if (embedding.absent()) {
    throw bad_input(fmt::format("{}: tensor 'token_embd.weight' is missing", weights.source()));
  }
  if (stated && *stated != embedding.dim(0)) {
    throw keys.error("vocab_size", std::to_string(*stated),
                     fmt::format("{} (rows of token_embd.weight)", embedding.dim(0)));
  }
  return to_int(embedding.dim(0));
}

std::string hint(std::string_view name) {
  if (name.substr(name.rfind('.') + 1) == "bias") return "this version does not read biases";
  if (name.find("_exps") != std::string_view::npos ||
      name.find("ffn_gate_inp") != std::string_view::npos) {
    return "this version does not read mixtures of experts";
  }
  return "";
}

}  // namespace

void read_llama_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const LlamaKeys keys(file);
  refuse_variations(keys);
  const Shape shape = read_shape(keys);
  WeightStore& weights = *checkpoint.weights;
  TensorCheck tensors(weights);

  ModelConfig& config = checkpoint.config;
  config.hidden = shape.hidden;
  config.context = keys.count("context_length", kMaxContext);
  config.vocab = read_vocab(keys, weights);
  config.final_norm_eps = shape.norm_eps;

  DecoderNames& names = checkpoint.names;
  names.embedding = tensors.matrix("token_embd.weight", config.vocab, config.hidden);
  names.final_norm = tensors.vector("output_norm.weight", config.hidden);
  config.tied_head = !weights.has("output.weight");
  names.head = config.tied_head ? names.embedding
                                : tensors.matrix("output.weight", config.vocab, config.hidden);
  const std::vector<float> inv_freq = read_inv_freq(shape, weights, tensors);
  for (int i = 0; i < shape.layers; ++i) {
    names.layers.push_back(read_layer(i, shape, tensors));
    config.layers.push_back(layer_spec(shape, inv_freq));
  }
  tensors.finish("llama", hint);
}

}  // namespace heddle
