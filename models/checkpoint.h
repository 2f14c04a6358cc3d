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

/// Where a matrix or vector of the decoder is stored; resolved and checked by the family, bound by
/// WeightBinder.
struct TensorPart {
  std::string tensor;          // "": the model has none
  std::int64_t rows = 0;       // rows (elements of a vector) that are taken,
  std::int64_t first_row = 0;  // from this one on,
  std::int64_t of_rows = 0;    // of this many in the file: more than `rows` in a fused tensor
  /// Permutation among the rows taken, applied when packing (GGUF llama stores the rows of q and k
  /// for interleaved rotation; packed rows are in NeoX order); empty: as stored.
  std::vector<std::int32_t> row_order;
  float add = 0.0F;  // vectors: added to every element (norms that store w - 1)
  /// With a row_order that takes some of the rows only (the q of heads stored as q|k|v): it picks
  /// from this many rows after first_row; 0: from `rows`.
  std::int64_t picked_from = 0;
  /// The tensor's shape where it is not [of_rows, cols], or [of_rows] of a vector: experts'
  /// matrices in one tensor of rank 3, a matrix taken as a vector, a vector taken as a row.
  std::vector<std::int64_t> shape = {};

  bool absent() const { return tensor.empty(); }
};

/// The tensors of one decoder.
struct SoftmaxAttentionNames {
  TensorPart q, k, v, o;
  TensorPart q_bias, k_bias, v_bias, o_bias;
  TensorPart q_norm, k_norm;
  TensorPart gate;                                     // with output_gate
  TensorPart sinks;                                    // [n_q_heads]
  TensorPart routed_heads, shared_heads, head_stages;  // with a HeadRouterSpec that has weights
};
struct LinearAttentionNames {
  TensorPart q, k, v, o;
  TensorPart q_norm, k_norm;
  TensorPart gate;   // unless OutputGate::kNone
  TensorPart norm;   // [n_heads * head_dim], with norm_weight
  TensorPart theta;  // [n_heads * head_dim], with lrpe
};
struct DenseFfnNames {
  TensorPart gate, up, down;
  TensorPart gate_bias, up_bias, down_bias;
};
struct MoeFfnNames {
  TensorPart router, router_bias, choice_bias;
  std::vector<TensorPart> gate, up, down;                 // per expert
  std::vector<TensorPart> gate_bias, up_bias, down_bias;  // per expert, or empty
  DenseFfnNames shared;
  TensorPart shared_gate;  // [1, hidden]
};
using MixerNames = std::variant<SoftmaxAttentionNames, LinearAttentionNames>;
using FfnNames = std::variant<DenseFfnNames, MoeFfnNames>;
struct LayerNames {
  TensorPart mixer_norm, ffn_norm;            // absent where LayerSpec has no such norm or weight
  TensorPart mixer_post_norm, ffn_post_norm;  // with LayerSpec::post_norms
  std::vector<MixerNames> mixers;
  FfnNames ffn;
};
struct DecoderNames {
  TensorPart embedding, final_norm, head;  // head is the embedding if tied
  std::vector<LayerNames> layers;
};

struct Checkpoint {
  ModelConfig config;
  DecoderNames names;
  std::unique_ptr<const Tokenizer> tokenizer;
  /// Ids that end an answer by the file's own word (eos, eot, eom); ascending, may be empty.
  std::vector<TokenId> stop_ids;
  std::string chat_template;         // "" if the checkpoint has none
  std::string chat_template_source;  // "FILE: KEY", for errors
  std::unique_ptr<WeightStore> weights;
  std::uint64_t file_bytes = 0;
};

/// Opens a `.gguf` file, a model folder in Hugging Face layout (config.json and safetensors), a
/// folder that holds one `.gguf` file, or, by one of its `.safetensors` files, the folder around
/// it. Validates everything it will ever trust and every shape against the config, before any
/// allocation that depends on them. Throws kBadInput.
Checkpoint open_checkpoint(const std::string& path);

}  // namespace heddle
