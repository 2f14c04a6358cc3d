#pragma once
// `--attention MODE`: another pattern of keys for the softmax layers of any model, without
// training.

#include <string>
#include <string_view>

#include "models/model_config.h"

namespace heddle {

/// Applies `mode` to the softmax layers that see all keys (layers with a window or a pattern of
/// their own keep it). t is the query's position, s the key's, d = t/BLOCK - s/BLOCK; all patterns
/// are causal:
///   dense                   all keys
///   sliding:W               t - s < W
///   streaming:SINK,W        s < SINK or t - s < W
///   strided:BLOCK,STRIDE    d < 4 or STRIDE divides d, and block 0
///   dilated:BLOCK,RATE      RATE divides d and d < 16 RATE, and block 0
///   power:BLOCK[,LOCAL]     d < LOCAL (5) or d a power of two, and block 0
///   infllm:BLOCK,TOPK       block 0, d < 4 and the TOPK best others by InfLLM-V2; all keys for
///                           positions below (TOPK + 5) BLOCK
/// BLOCK is a multiple of 16. MODE@LAYERS with LAYERS like 0-7,12 is for these layers; several are
/// divided by ";", one for each layer. A mode that changes no layer is refused. Throws kBadInput:
/// "--attention: 'power:7x': BLOCK, got '7x', allowed ...".
void apply_attention_mode(std::string_view mode, ModelConfig& config);

/// Throws as apply_attention_mode() would for any model.
void check_attention_mode(std::string_view mode);

}  // namespace heddle
