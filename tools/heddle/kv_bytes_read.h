#pragma once
#include <cstdint>

#include "engine/engine.h"

namespace heddle::cli {

/// Bytes of keys and values, compressed keys included, that the token at position n_keys - 1 reads
/// in all layers.
double kv_bytes_read(const Engine& engine, std::int64_t n_keys);

}  // namespace heddle::cli
