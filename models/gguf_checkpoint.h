#pragma once
#include <memory>

#include "models/checkpoint.h"
#include "models/gguf_weights.h"

namespace heddle {

/// What open_checkpoint does once the file is mapped and its directory is known.
Checkpoint checkpoint_from_gguf(std::unique_ptr<GgufWeights> weights);

}  // namespace heddle
