#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/layer_spec.h"

namespace heddle {

/// Sampling defaults that a checkpoint ships (generation_config.json or GGUF keys); absent: greedy.
struct GenerationDefaults {
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
};

/// Immutable, validated facts of one checkpoint. Nobody re-reads the file's metadata after this
/// exists, and no default is invented later.
struct ModelConfig {
  std::string name;    // the checkpoint's own name, "" if it gives none
  std::string family;  // "llama"
  int hidden = 0;
  int vocab = 0;    // rows of the embedding
  int context = 0;  // trained context length in tokens
  bool tied_head = false;
  float embedding_scale = 1.0F;
  float logit_scale = 1.0F;  // on the input of the head
  float final_norm_eps = 0.0F;
  float final_soft_cap =
      0.0F;  // logits l become final_soft_cap * tanh(l / final_soft_cap); 0: none
  std::vector<LayerSpec> layers;
  GenerationDefaults generation;
};

/// The config for sequences of up to `context` tokens: longrope's choice of frequencies is made.
ModelConfig for_context(ModelConfig config, std::int64_t context);

}  // namespace heddle
