#pragma once
#include <string>

#include "engine/engine_options.h"
#include "models/checkpoint.h"

namespace heddle {

/// 16 hex digits over what decides the bits of a result: the checkpoint (config, and of every
/// tensor name, type, shape and the bytes at both ends), KV dtype, forced kernel variants, block
/// sizes and the device. The rest (threads, batch, chunk, block layout) changes no bit. `options`
/// with every value filled in.
std::string numerics_id(const Checkpoint& checkpoint,
                        const EngineOptions& options,
                        Backend& backend);

}  // namespace heddle
