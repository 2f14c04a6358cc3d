#include "models/decoder.h"

#include <algorithm>
#include <utility>

#include "models/ffn/ffn.h"
#include "models/mixers/mixer.h"
#include "models/weight_binder.h"

namespace heddle {
namespace {

struct Layer {
  DeviceVector mixer_norm, ffn_norm;            // [hidden]
  DeviceVector mixer_post_norm, ffn_post_norm;  // [hidden], with post_norms only
  float norm_eps = 0.0F;
  Mixer mixer;
  Ffn ffn;
};

/// Frequencies of one RopeSpec and the step's table for it.
struct RopeTable {
  RopeSpec spec;
  DeviceVector inv_freq;
  Buffer cos_sin;  // [max_tokens, 2, rotary_dim / 2]
};

std::size_t f32_bytes(std::int64_t n) {
  return Workspace::f32_bytes(n);
}

/// Bytes of each activation buffer, from shapes alone.
struct ActivationSizes {
  ActivationSizes(const ModelConfig& config, const DecoderLimits& limits)
      : stream(f32_bytes(limits.max_tokens * config.hidden)),
        gathered(f32_bytes(limits.max_outputs * config.hidden)),
        logits(f32_bytes(limits.max_outputs * config.vocab)) {
    for (const LayerSpec& layer : config.layers) {
      workspace = std::max({workspace, workspace_bytes(layer.mixer, limits.max_tokens),
                            workspace_bytes(layer.ffn, limits.max_tokens)});
    }
  }
  std::size_t stream, gathered, logits;
  std::size_t workspace = 0;
};

}  // namespace

struct Decoder::Impl {
  Impl(Backend& b, ModelConfig c) : backend(b), config(std::move(c)) {}

  Backend& backend;
  ModelConfig config;
  DecoderLimits limits;
  std::vector<Layer> layers;
  std::vector<RopeTable> ropes;
  PackedMatrix embedding, head;
  DeviceVector final_norm;
  Buffer stream, normed, gathered, logits, workspace_memory;
  Workspace workspace;
  std::uint64_t weight_bytes = 0;
  std::vector<std::string> warnings;
  Tap tap;

  void bind(Checkpoint& checkpoint, bool allow_nonfinite);
  void allocate();
  std::vector<TensorView> rope_tables(const ForwardBatch& batch);
  void run_layer(int index, const TensorView& stream_rows, LayerStep& step);
  TensorView view(const Buffer& buffer, std::int64_t rows, std::int64_t width) const {
    return {buffer.data(), DType::kF32, {rows, width}, backend.kind()};
  }
  void observe(std::string_view name, int layer, const TensorView& value) const {
    if (!tap) return;
    backend.synchronize();
    tap(name, layer, value);
  }
};

void Decoder::Impl::bind(Checkpoint& checkpoint, bool allow_nonfinite) {
  WeightBinder binder(*checkpoint.weights, backend, allow_nonfinite);
  const DecoderNames& names = checkpoint.names;
  embedding = binder.matrix(names.embedding, config.hidden);
  std::vector<RopeSpec> specs;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const LayerSpec& spec = config.layers[i];
    const LayerNames& n = names.layers[i];
    Layer layer;
    layer.norm_eps = spec.norm_eps;
    layer.mixer_norm = binder.norm(n.mixer_norm);
    layer.mixer = bind_mixer(spec.mixer, n.mixer, config.hidden, specs, binder);
    layer.mixer_post_norm = binder.norm(n.mixer_post_norm);
    layer.ffn_norm = binder.norm(n.ffn_norm);
    layer.ffn = bind_ffn(spec.ffn, n.ffn, config.hidden, binder);
    layer.ffn_post_norm = binder.norm(n.ffn_post_norm);
    HEDDLE_CHECK(spec.post_norms != layer.mixer_post_norm.view.absent() &&
                 spec.post_norms != layer.ffn_post_norm.view.absent());
    layers.push_back(std::move(layer));
  }
  final_norm = binder.norm(names.final_norm);
  if (!config.tied_head) head = binder.matrix(names.head, config.hidden);
  for (RopeSpec& spec : specs) {
    DeviceVector inv_freq = binder.constant(spec.inv_freq);
    ropes.push_back({std::move(spec), std::move(inv_freq), {}});
  }
  checkpoint.weights->check_all_bound();
  weight_bytes = binder.bytes();
  warnings = binder.warnings();
}

void Decoder::Impl::allocate() {
  const ActivationSizes sizes(config, limits);
  stream = backend.allocate_sparse(sizes.stream);
  normed = backend.allocate_sparse(sizes.stream);
  gathered = backend.allocate_sparse(sizes.gathered);
  logits = backend.allocate_sparse(sizes.logits);
  workspace_memory = backend.allocate_sparse(sizes.workspace);
  workspace = Workspace(workspace_memory.data(), sizes.workspace, backend.kind());
  for (RopeTable& rope : ropes) {
    rope.cos_sin = backend.allocate(f32_bytes(limits.max_tokens * rope.spec.rotary_dim));
  }
}

std::vector<TensorView> Decoder::Impl::rope_tables(const ForwardBatch& batch) {
  std::vector<TensorView> tables;
  for (const RopeTable& rope : ropes) {
    const std::int64_t half = rope.spec.rotary_dim / 2;
    const TensorView table(rope.cos_sin.data(), DType::kF32, {batch.n_tokens, 2, half},
                           backend.kind());
    backend.ops().rope_angles({.positions = batch.positions,
                               .inv_freq = rope.inv_freq.view,
                               .scale = rope.spec.scale,
                               .cos_sin = table});
    tables.push_back(table);
  }
  return tables;
}

void Decoder::Impl::run_layer(int index, const TensorView& stream_rows, LayerStep& step) {
  const Layer& layer = layers[static_cast<std::size_t>(index)];
  const auto branch = [&](const DeviceVector& norm, const DeviceVector& post_norm,
                          const auto& module, std::string_view norm_name, std::string_view name) {
    step.ops.rms_norm(
        {.x = stream_rows, .weight = norm.view, .out = step.normed, .eps = layer.norm_eps});
    observe(norm_name, index, step.normed);
    step.workspace.reset();
    const bool post = !post_norm.view.absent();
    step.residual = post ? TensorView() : stream_rows;
    step.out = post ? step.normed : stream_rows;
    heddle::forward(module, step);
    if (post) {
      step.ops.rms_norm({.x = step.out,
                         .weight = post_norm.view,
                         .out = stream_rows,
                         .eps = layer.norm_eps,
                         .residual = stream_rows});
    }
    observe(name, index, stream_rows);
  };
  branch(layer.mixer_norm, layer.mixer_post_norm, layer.mixer, "input_layernorm", "self_attn");
  branch(
      layer.ffn_norm, layer.ffn_post_norm, layer.ffn,
      layer.ffn_post_norm.view.absent() ? "post_attention_layernorm" : "pre_feedforward_layernorm",
      "mlp");
}

Decoder::Decoder(Checkpoint& checkpoint,
                 Backend& backend,
                 const DecoderLimits& limits,
                 bool allow_nonfinite)
    : impl_(std::make_unique<Impl>(backend, checkpoint.config)) {
  impl_->limits = limits;
  impl_->bind(checkpoint, allow_nonfinite);
  impl_->allocate();
}

Decoder::~Decoder() = default;

TensorView Decoder::forward(const ForwardBatch& batch, const std::vector<LayerCache>& caches) {
  Impl& d = *impl_;
  Ops& ops = d.backend.ops();
  const std::int64_t hidden = d.config.hidden;
  HEDDLE_CHECK(batch.n_tokens > 0 && batch.n_tokens <= d.limits.max_tokens);
  HEDDLE_CHECK(batch.n_outputs <= d.limits.max_outputs && caches.size() == d.layers.size());

  const TensorView stream = d.view(d.stream, batch.n_tokens, hidden);
  const TensorView normed = d.view(d.normed, batch.n_tokens, hidden);
  ops.embed(
      {.ids = batch.ids, .table = &d.embedding, .scale = d.config.embedding_scale, .out = stream});
  d.observe("embed_tokens", -1, stream);
  const std::vector<TensorView> rope_tables = d.rope_tables(batch);
  for (std::size_t i = 0; i < d.layers.size(); ++i) {
    LayerStep step{ops, batch, caches[i], rope_tables, d.workspace, normed, {}, {}};
    d.run_layer(static_cast<int>(i), stream, step);
  }
  const TensorView logits = d.view(d.logits, batch.n_outputs, d.config.vocab);
  if (batch.n_outputs == 0) return logits;
  const TensorView gathered = d.view(d.gathered, batch.n_outputs, hidden);
  ops.gather_rows({.x = stream, .rows = batch.output_rows, .out = gathered});
  ops.rms_norm({.x = gathered,
                .weight = d.final_norm.view,
                .out = gathered,
                .eps = d.config.final_norm_eps});
  d.observe("norm", -1, gathered);
  ops.matmul(
      {.x = gathered, .targets = {{{d.config.tied_head ? &d.embedding : &d.head, {}, logits}}}});
  if (d.config.final_soft_cap != 0.0F) ops.soft_cap({.x = logits, .cap = d.config.final_soft_cap});
  d.observe("lm_head", -1, logits);
  return logits;
}

void Decoder::set_tap(Tap tap) {
  impl_->tap = std::move(tap);
}
const ModelConfig& Decoder::config() const {
  return impl_->config;
}
const std::vector<std::string>& Decoder::warnings() const {
  return impl_->warnings;
}
std::uint64_t Decoder::weight_bytes() const {
  return impl_->weight_bytes;
}

std::vector<CacheNeed> cache_needs(const ModelConfig& config) {
  std::vector<CacheNeed> needs;
  for (const LayerSpec& layer : config.layers) needs.push_back(cache_need(layer.mixer));
  return needs;
}

std::uint64_t activation_bytes(const ModelConfig& config, const DecoderLimits& limits) {
  const ActivationSizes sizes(config, limits);
  int widest_rope = 0;
  for (const LayerSpec& layer : config.layers) {
    widest_rope = std::max(widest_rope, rotary_dim(layer.mixer));
  }
  return 2 * sizes.stream + sizes.gathered + sizes.logits + sizes.workspace +
         f32_bytes(limits.max_tokens * widest_rope);
}

}  // namespace heddle
