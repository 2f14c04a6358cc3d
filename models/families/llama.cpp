// Family llama: SmolLM2, Llama 2 and 3, and in GGUF everything of their shape, Mistral included
// (whose sliding window is a key). Family mistral in a folder is llama with a window in all layers.

#include <optional>

#include "models/families/families.h"
#include "models/families/folder_dense.h"
#include "models/families/gguf_dense.h"
#include "models/families/limits.h"
#include "models/strict_object.h"

namespace heddle {
namespace {

bool is_moh_llama3(int vocab, int heads) {
  return vocab == 160'896 && heads == 32;
}

HeadRouterSpec moh_llama3_router() {
  HeadRouterSpec router;
  router.by_query_norm = true;
  router.n_shared = 16;
  router.top_k = 8;
  return router;
}

/// MoH-LLaMA3-8B is published as a llama without router weights: what tells it is the vocabulary
/// and the code that comes with it. Its heads 16 to 31 are chosen by the norm of their query, 8 of
/// them. "moh" says the same openly.
std::optional<HeadRouterSpec> read_head_router(const FolderDense& folder, int vocab) {
  const ConfigJson& config = folder.config();
  const int heads = folder.model.q_heads;
  HeadRouterSpec router;
  router.by_query_norm = true;
  if (const auto moh = config.object("moh")) {
    const StrictObject strict(*moh);
    router.n_shared = strict.require_integer("shared_heads", {0, heads - 1});
    router.top_k = strict.require_integer("top_k", {1, heads - router.n_shared});
    strict.choice("score", {"query_norm"}, "query_norm");
    strict.done();
    return router;
  }
  if (is_moh_llama3(vocab, heads)) return moh_llama3_router();
  if (config.has("auto_map")) {
    throw config.error("auto_map", "code of the checkpoint's own",
                       "no auto_map, which a plain llama does not need (MoH-LLaMA3-8B is known by "
                       "160896 tokens and 32 heads, or by \"moh\")");
  }
  return std::nullopt;
}

}  // namespace

void read_llama_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "llama");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint, {.experts = true});
  const auto n_experts = fields.integer("expert_count", {0, ModelLimits::kHeads});
  if (n_experts && *n_experts > 0) read_gguf_experts(fields, true, model);  // Mixtral
  if (is_moh_llama3(checkpoint.config.vocab, model.q_heads)) model.heads = moh_llama3_router();
  refuse_gguf_key(fields, "attn_logit_softcapping");
  refuse_gguf_key(fields, "final_logit_softcapping");
  model.interleaved_rows = true;
  model.qkv_bias = checkpoint.weights->has("blk.0.attn_q.bias");
  model.o_bias = checkpoint.weights->has("blk.0.attn_output.bias");
  model.ffn_bias = checkpoint.weights->has("blk.0.ffn_down.bias");
  model.windows.assign(static_cast<std::size_t>(model.layers), read_gguf_window(fields));
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_llama_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, {});
  DenseModel& model = folder.model;
  model.heads = read_head_router(folder, checkpoint.config.vocab);
  model.qkv_bias = model.o_bias = folder.flag("attention_bias", false);
  model.ffn_bias = folder.flag("mlp_bias", false);
  folder.build();
}

void read_mistral_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, {.kv_heads = 8, .context = 4096 * 32});
  folder.window_everywhere(4096);
  folder.build();
}

}  // namespace heddle
