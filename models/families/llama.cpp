// Family llama: SmolLM2, Llama 2 and 3, and in GGUF everything of their shape, Mistral included
// (whose sliding window is a key). Family mistral in a folder is llama with a window in all layers.

#include "models/families/families.h"
#include "models/families/folder_dense.h"
#include "models/families/gguf_dense.h"

namespace heddle {

void read_llama_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "llama");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint);
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
