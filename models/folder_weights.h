#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/folder.h"
#include "models/safetensors.h"
#include "models/tensor_table.h"

namespace heddle {

/// The tensors of a model folder: model.safetensors, or the shards that
/// model.safetensors.index.json names. Other weight files (consolidated.safetensors) are not read;
/// for *.bin see bin_weights.h.
class FolderWeights final : public TensorTable {
 public:
  /// Maps the files and validates their headers. Throws kBadInput; `bin_allowed` is for the text.
  static std::unique_ptr<FolderWeights> open(const Folder& folder, bool bin_allowed = false);

  const std::vector<std::string>& files() const { return files_; }  // names, ascending
  std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  using TensorTable::TensorTable;
  SafetensorsDirectory map_shard(const Folder& folder, const std::string& name);
  void open_index(const Folder& folder);
  void add_tensors(const SafetensorsDirectory& directory, std::span<const std::byte> bytes);

  std::vector<std::string> files_;
  std::vector<std::span<const std::byte>> mapped_;  // by file
  std::uint64_t file_bytes_ = 0;
};

}  // namespace heddle
