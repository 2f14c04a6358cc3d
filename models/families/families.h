#pragma once
// One entry per checkpoint family: from a file's metadata and tensor names to a validated
// ModelConfig and the names that the decoder binds.

#include <span>
#include <string_view>

#include "models/checkpoint.h"
#include "models/gguf.h"
#include "models/model_folder.h"

namespace heddle {

struct Family {
  std::string_view name;  // GGUF's general.architecture
  /// Fills config and names of `checkpoint`; checks every tensor of checkpoint.weights against
  /// them, and marks the known harmless ones as ignored. Throws kBadInput.
  void (*read_gguf)(const GgufDirectory& file, Checkpoint& checkpoint) = nullptr;
  /// config.json's model_type, where the family is read from folders.
  std::string_view model_type = "";
  /// The same as read_gguf for a model folder, whose weights are checkpoint.weights already.
  /// nullptr: not read from folders.
  void (*read_folder)(const ModelFolder& folder, Checkpoint& checkpoint) = nullptr;
};

std::span<const Family> families();

void read_llama_gguf(const GgufDirectory& file, Checkpoint& checkpoint);

}  // namespace heddle
