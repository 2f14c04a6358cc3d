#include "models/decoder.h"

#include <algorithm>
#include <utility>

#include "models/ffn/ffn.h"
#include "models/mixers/mixer.h"
#include "models/weight_binder.h"

namespace heddle {
namespace {

/// What stands around mixers or FFN.
struct Branch {
  DeviceVector norm, post_norm;  // [hidden], or absent: all ones
  ResidualSpec residual;
};

struct Layer {
  Branch mixer_branch, ffn_branch;
  bool pre_norms = true;
  bool post_norms = false;
  bool parallel = false;
  float norm_eps = 0.0F;
  std::vector<Mixer> mixers;
  std::size_t first_cache = 0;  // of its mixers
  Ffn ffn;
};

/// The branch's result cannot go where its input is, nor straight into the stream.
bool needs_own_rows(const LayerSpec& layer) {
  const bool direct = layer.mixer_residual.plain() && layer.ffn_residual.plain();
  return layer.post_norms ? layer.mixers.size() > 1 || !layer.pre_norms || !direct : !direct;
}

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
    const StepSize size{limits.max_tokens, limits.max_positions};
    for (const LayerSpec& layer : config.layers) {
      if (needs_own_rows(layer)) branch = stream;
      for (const MixerSpec& mixer : layer.mixers) {
        workspace = std::max(workspace, workspace_bytes(mixer, size));
      }
      workspace = std::max(workspace, workspace_bytes(layer.ffn, config.hidden, size));
    }
  }
  std::size_t stream, gathered, logits;
  std::size_t branch = 0;
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
  Buffer stream, normed, branch, gathered, logits, workspace_memory;
  Workspace workspace;
  std::uint64_t weight_bytes = 0;
  std::vector<std::string> warnings;
  Tap tap;

  void bind(Checkpoint& checkpoint, bool allow_nonfinite);
  void allocate();
  std::vector<TensorView> rope_tables(const ForwardBatch& batch);
  void bind_layer(const LayerSpec& spec,
                  const LayerNames& names,
                  std::vector<RopeSpec>& specs,
                  WeightBinder& binder);
  void run_layer(int index,
                 const TensorView& stream_rows,
                 LayerStep& step,
                 const std::vector<MixerCache>& caches);
  TensorView view(const Buffer& buffer, std::int64_t rows, std::int64_t width) const {
    return {buffer.data(), DType::kF32, {rows, width}, backend.kind()};
  }
  void observe(std::string_view name, int layer, const TensorView& value) const {
    if (!tap) return;
    backend.synchronize();
    tap(name, layer, value);
  }
};

void Decoder::Impl::bind_layer(const LayerSpec& spec,
                               const LayerNames& names,
                               std::vector<RopeSpec>& specs,
                               WeightBinder& binder) {
  const bool ffn_norm = spec.pre_norms && !spec.parallel;
  HEDDLE_CHECK(!spec.mixers.empty() && spec.mixers.size() == names.mixers.size());
  HEDDLE_CHECK(spec.pre_norms || spec.post_norms);
  HEDDLE_CHECK(!spec.parallel || (spec.pre_norms && !spec.post_norms &&
                                  spec.mixer_residual.plain() && spec.ffn_residual.plain()));
  const auto check = [](bool wanted, const TensorPart& part) {
    HEDDLE_CHECK(wanted != part.absent());
  };
  check(spec.norm_weights && spec.pre_norms, names.mixer_norm);
  check(spec.norm_weights && ffn_norm, names.ffn_norm);
  check(spec.norm_weights && spec.post_norms, names.mixer_post_norm);
  check(spec.norm_weights && spec.post_norms, names.ffn_post_norm);
  Layer layer;
  layer.norm_eps = spec.norm_eps;
  layer.pre_norms = spec.pre_norms;
  layer.post_norms = spec.post_norms;
  layer.parallel = spec.parallel;
  layer.mixer_branch.residual = spec.mixer_residual;
  layer.ffn_branch.residual = spec.ffn_residual;
  layer.mixer_branch.norm = binder.norm(names.mixer_norm);
  if (!layers.empty()) layer.first_cache = layers.back().first_cache + layers.back().mixers.size();
  for (std::size_t i = 0; i < spec.mixers.size(); ++i) {
    layer.mixers.push_back(
        bind_mixer(spec.mixers[i], names.mixers[i], config.hidden, specs, binder));
  }
  layer.mixer_branch.post_norm = binder.norm(names.mixer_post_norm);
  layer.ffn_branch.norm = binder.norm(names.ffn_norm);
  layer.ffn = bind_ffn(spec.ffn, names.ffn, config.hidden, binder);
  layer.ffn_branch.post_norm = binder.norm(names.ffn_post_norm);
  layers.push_back(std::move(layer));
}

void Decoder::Impl::bind(Checkpoint& checkpoint, bool allow_nonfinite) {
  WeightBinder binder(*checkpoint.weights, backend, allow_nonfinite);
  const DecoderNames& names = checkpoint.names;
  embedding = binder.matrix(names.embedding, config.hidden);
  std::vector<RopeSpec> specs;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    bind_layer(config.layers[i], names.layers[i], specs, binder);
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
  branch = backend.allocate_sparse(sizes.branch);
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

void Decoder::Impl::run_layer(int index,
                              const TensorView& stream_rows,
                              LayerStep& step,
                              const std::vector<MixerCache>& caches) {
  const Layer& layer = layers[static_cast<std::size_t>(index)];
  const LayerSpec& spec = config.layers[static_cast<std::size_t>(index)];
  const TensorView normed_rows = step.normed;
  const TensorView own_rows =
      needs_own_rows(spec) ? view(branch, stream_rows.dim(0), stream_rows.dim(1)) : normed_rows;
  const auto norm = [&](const DeviceVector& weight, std::string_view name) {
    step.normed = layer.pre_norms ? normed_rows : stream_rows;
    if (!layer.pre_norms) return;
    step.ops.rms_norm(
        {.x = stream_rows, .weight = weight.view, .out = step.normed, .eps = layer.norm_eps});
    observe(name, index, step.normed);
  };
  // y is in own_rows unless it went straight into the stream
  const auto direct = [&](const Branch& b) { return !layer.post_norms && b.residual.plain(); };
  const auto aim = [&](const Branch& b) {
    step.workspace.reset();
    step.residual = direct(b) ? stream_rows : TensorView();
    step.out = direct(b) ? stream_rows : own_rows;
  };
  const auto join = [&](const Branch& b, std::string_view name) {
    if (!direct(b)) {
      const bool plain = b.residual.plain();
      if (layer.post_norms) {
        step.ops.rms_norm({.x = own_rows,
                           .weight = b.post_norm.view,
                           .out = plain ? stream_rows : own_rows,
                           .eps = layer.norm_eps,
                           .residual = plain ? stream_rows : TensorView()});
      }
      if (!plain) {
        step.ops.add_scaled({.x = b.residual.of_norm ? step.normed : stream_rows,
                             .y = own_rows,
                             .out = stream_rows,
                             .a = b.residual.residual,
                             .b = b.residual.branch});
      }
    }
    observe(name, index, stream_rows);
  };
  norm(layer.mixer_branch.norm, "input_layernorm");
  for (std::size_t i = 0; i < layer.mixers.size(); ++i) {
    aim(layer.mixer_branch);
    if (i > 0) step.residual = step.out;  // the mixers' sum
    step.cache = &caches[layer.first_cache + i];
    heddle::forward(layer.mixers[i], step);
  }
  join(layer.mixer_branch, "self_attn");
  if (!layer.parallel) {
    norm(layer.ffn_branch.norm,
         layer.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm");
  }
  aim(layer.ffn_branch);
  heddle::forward(layer.ffn, step);
  join(layer.ffn_branch, "mlp");
  step.normed = normed_rows;
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

TensorView Decoder::forward(const ForwardBatch& batch, const std::vector<MixerCache>& caches) {
  Impl& d = *impl_;
  Ops& ops = d.backend.ops();
  const std::int64_t hidden = d.config.hidden;
  HEDDLE_CHECK(batch.n_tokens > 0 && batch.n_tokens <= d.limits.max_tokens);
  HEDDLE_CHECK(batch.n_outputs <= d.limits.max_outputs);
  HEDDLE_CHECK(caches.size() == d.layers.back().first_cache + d.layers.back().mixers.size());

  const TensorView stream = d.view(d.stream, batch.n_tokens, hidden);
  const TensorView normed = d.view(d.normed, batch.n_tokens, hidden);
  ops.embed(
      {.ids = batch.ids, .table = &d.embedding, .scale = d.config.embedding_scale, .out = stream});
  d.observe("embed_tokens", -1, stream);
  const std::vector<TensorView> rope_tables = d.rope_tables(batch);
  for (std::size_t i = 0; i < d.layers.size(); ++i) {
    const int layer = static_cast<int>(i);
    LayerStep step{ops,   batch,       nullptr,     d.tap ? &d.tap : nullptr,
                   layer, rope_tables, d.workspace, normed,
                   {},    {}};
    d.run_layer(layer, stream, step, caches);
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
  if (d.config.logit_scale != 1.0F) {
    ops.add_scaled({.x = gathered, .out = gathered, .a = d.config.logit_scale});
  }
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
  for (const LayerSpec& layer : config.layers) {
    for (const MixerSpec& mixer : layer.mixers) needs.push_back(cache_need(mixer));
  }
  return needs;
}

std::uint64_t activation_bytes(const ModelConfig& config, const DecoderLimits& limits) {
  const ActivationSizes sizes(config, limits);
  std::vector<const RopeSpec*> ropes;
  std::uint64_t rope_bytes = 0;
  for (const LayerSpec& layer : config.layers) {
    for (const MixerSpec& mixer : layer.mixers) {
      const RopeSpec& own = rope(mixer);
      const bool known = std::any_of(ropes.begin(), ropes.end(),
                                     [&](const RopeSpec* other) { return *other == own; });
      if (known) continue;
      ropes.push_back(&own);
      rope_bytes += f32_bytes(limits.max_tokens * own.rotary_dim);
    }
  }
  return 2 * sizes.stream + sizes.branch + sizes.gathered + sizes.logits + sizes.workspace +
         rope_bytes;
}

}  // namespace heddle
