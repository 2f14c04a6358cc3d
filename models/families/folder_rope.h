#pragma once
#include <string_view>

#include "models/config_json.h"
#include "models/layer_spec.h"

namespace heddle {

/// The rotation that config.json describes for heads of head_dim: "rope_parameters" (by layer type
/// where it is nested: `layer_type` picks), else "rope_theta" and "rope_scaling". Types default,
/// linear, llama3, yarn, longrope. Throws kBadInput for others, naming the known ones.
RopeSpec read_folder_rope(const ConfigJson& config,
                          int head_dim,
                          int context,
                          double theta_or,
                          std::string_view layer_type = "full_attention");

}  // namespace heddle
