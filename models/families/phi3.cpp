// Family phi3: q, k and v in one matrix, gate and up in another, longrope, a window everywhere.

#include "models/families/families.h"
#include "models/families/folder_dense.h"
#include "models/families/gguf_dense.h"

namespace heddle {

void read_phi3_gguf(const GgufDirectory& file, Checkpoint& checkpoint) {
  const GgufFields fields(file, "phi3");
  TensorCheck tensors(*checkpoint.weights);
  DenseModel model = read_gguf_dense(fields, tensors, checkpoint);
  refuse_gguf_key(fields, "attn_logit_softcapping");
  refuse_gguf_key(fields, "final_logit_softcapping");
  model.fused_qkv = true;
  model.fused_gate_up = true;
  model.windows.assign(static_cast<std::size_t>(model.layers), read_gguf_window(fields));
  build_dense(model, DenseNaming::gguf(), tensors, checkpoint);
}

void read_phi3_folder(const ConfigJson& config, Checkpoint& checkpoint) {
  FolderDense folder(config, checkpoint, {.context = 4096, .norm_eps = 1e-5});
  folder.model.fused_qkv = true;
  folder.model.fused_gate_up = true;
  folder.window_everywhere(0);
  folder.build();
}

}  // namespace heddle
