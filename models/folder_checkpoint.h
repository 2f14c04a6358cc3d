#pragma once
#include "models/checkpoint.h"
#include "models/model_folder.h"

namespace heddle {

/// What open_checkpoint does once the folder's weights are mapped and their headers are known;
/// takes the weights.
Checkpoint checkpoint_from_folder(ModelFolder& folder);

}  // namespace heddle
