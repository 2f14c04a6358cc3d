// Families qwen2 (biases on q, k and v) and qwen3 (a norm on each head of q and k instead).

#include <string>

#include "models/families/families.h"
#include "models/families/folder_dense.h"
#include "models/families/gguf_dense.h"

namespace heddle {
namespace {

DenseModel read_gguf(const GgufFields& fields, TensorCheck& tensors, Checkpoint& checkpoint) {
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint);
  if (const int window = read_gguf_window(fields); window > 0) {
    // Which layers it is of has no key in this format.
    throw fields.error("attention.sliding_window", std::to_string(window), "0");
  }
  refuse_gguf_key(fields, "attn_logit_softcapping");
  refuse_gguf_key(fields, "final_logit_softcapping");
  return model;
}

}  // namespace

void read_qwen2_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "qwen2");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf(fields, tensors, checkpoint);
  model.qkv_bias = true;
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_qwen3_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "qwen3");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf(fields, tensors, checkpoint);
  model.qk_norm = true;
  model.qkv_bias = checkpoint.weights->has("blk.0.attn_q.bias");
  model.o_bias = checkpoint.weights->has("blk.0.attn_output.bias");
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_qwen2_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, {.kv_heads = 32, .context = 32'768});
  folder.model.qkv_bias = true;
  folder.window_from_layer();
  folder.build();
}

void read_qwen3_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, {.head_dim = 128, .kv_heads = 32, .context = 32'768});
  folder.model.qk_norm = true;
  folder.model.qkv_bias = folder.model.o_bias = folder.flag("attention_bias", false);
  folder.window_from_layer();
  folder.build();
}

}  // namespace heddle
