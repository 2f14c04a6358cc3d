#pragma once
#include "base/sip_hash.h"
#include "models/weight_store.h"

namespace heddle {

/// Of every tensor's bytes, names and shapes, as the checkpoint stores them. Reads all of the
/// mapped files with so many threads, and gives their pages back as it goes on; the threads decide
/// nothing.
Hash128 weights_hash(WeightStore& weights, int threads);

}  // namespace heddle
