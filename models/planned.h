#pragma once
// A model without a checkpoint: its shapes from a config.json in Heddle's own format, its weights
// random. For the memory and speed of models that are not at hand.

#include <string>

#include "models/checkpoint.h"

namespace heddle {

/// Reads the config at `path`; tensors have the shapes it says, matrices are BF16, vectors F32, and
/// values are random once something asks for them (the same every time). The tokenizer knows ids
/// only. `layers` > 0 leaves out all after the first so many (slopes stay those of the whole
/// model). Throws kBadInput.
Checkpoint planned_checkpoint(const std::string& path, int layers = 0);

}  // namespace heddle
