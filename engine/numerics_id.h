#pragma once
#include <string>

#include "engine/engine_options.h"
#include "models/checkpoint.h"

namespace heddle {

/// 16 hex digits over what decides the bits of a result: hash_config() of the config, of every
/// tensor name, type, shape and 64 bytes of each 16 KiB, the KV dtype, ops forced to `ref` and the
/// device. The rest (threads, batch, chunk, block size and layout) changes no bit. `options` with
/// every value filled in.
std::string numerics_id(const Checkpoint& checkpoint,
                        const EngineOptions& options,
                        Backend& backend);

}  // namespace heddle
