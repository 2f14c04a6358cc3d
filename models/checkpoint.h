#pragma once
// A published checkpoint opened: config, tokenizer, chat template and tensors, before
// anything is packed. Opening reads metadata only.

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "models/model_config.h"
#include "models/tokenizer/tokenizer.h"
#include "models/weight_store.h"

namespace heddle {

/// Names of the tensors of one decoder, resolved by the family; what the decoder's builder binds.
/// `q_row_order`/`k_row_order`: permutation to apply when packing (GGUF llama stores q and k rows
/// permuted for interleaved rotation; packed rows are in NeoX order), empty: as stored.
struct SoftmaxAttentionNames {
  std::string q, k, v, o;
  std::vector<std::int32_t> q_row_order, k_row_order;
};
struct DenseFfnNames {
  std::string gate, up, down;
};
using MixerNames = std::variant<SoftmaxAttentionNames>;
using FfnNames = std::variant<DenseFfnNames>;
struct LayerNames {
  std::string mixer_norm, ffn_norm;
  MixerNames mixer;
  FfnNames ffn;
};
struct DecoderNames {
  std::string embedding, final_norm, head;  // head == embedding if tied
  std::vector<LayerNames> layers;
};

struct Checkpoint {
  ModelConfig config;
  DecoderNames names;
  std::unique_ptr<const Tokenizer> tokenizer;
  /// Ids that end an answer by the file's own word (eos, eot, eom); ascending, may be empty.
  std::vector<TokenId> stop_ids;
  std::string chat_template;  // "" if the checkpoint has none
  std::unique_ptr<WeightStore> weights;
  std::uint64_t file_bytes = 0;
};

/// Opens a `.gguf` file, a model folder in Hugging Face layout (config.json and safetensors), a
/// folder that holds one `.gguf` file, or, by one of its `.safetensors` files, the folder around
/// it. Validates everything it will ever trust and every shape against the config, before any
/// allocation that depends on them. Throws kBadInput.
Checkpoint open_checkpoint(const std::string& path);

}  // namespace heddle
