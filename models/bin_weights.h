#pragma once
// PyTorch's checkpoint files (*.bin), as torch.save has written them since 1.6: a zip archive of
// NAME/data.pkl, a pickled dict of tensors, and their storages NAME/data/KEY. Nothing in them is
// run: see pickle_tensors.h for what is read, and what is refused.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/folder.h"
#include "models/pickle_tensors.h"
#include "models/tensor_table.h"

namespace heddle {

/// One tensor of a file. Several may share bytes (tied matrices).
struct BinTensor {
  std::string name;
  std::string_view dtype_name;  // "BF16", "I64"; a constant
  std::optional<DType> dtype;   // where kernels read it: F32, F16, BF16
  std::vector<std::int64_t> dims;
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

/// The tensors of one file, in the dict's order. Throws kBadInput, one line that starts with
/// `source`; what follows is "zip_archive: ..." or "pickle: ...".
std::vector<BinTensor> read_bin(std::span<const std::byte> file, const std::string& source);

/// The tensors of a model folder in such files: pytorch_model.bin, or the shards that
/// pytorch_model.bin.index.json names (its metadata.total_size is not compared: writers do not
/// agree how often a shared storage counts). Storages are used where they are mapped.
class BinWeights final : public TensorTable {
 public:
  /// Whether the folder has such files and no safetensors of a model.
  static bool chosen(const Folder& folder);
  /// Maps the files and validates their headers. Throws kBadInput.
  static std::unique_ptr<BinWeights> open(const Folder& folder);

  const std::vector<std::string>& files() const { return files_; }  // names, ascending
  std::uint64_t file_bytes() const { return file_bytes_; }

 private:
  using TensorTable::TensorTable;
  std::vector<BinTensor> map_shard(const Folder& folder, const std::string& name);
  void open_index(const Folder& folder);
  void add_tensors(std::vector<BinTensor>& tensors, std::span<const std::byte> file);

  std::vector<std::string> files_;
  std::vector<std::span<const std::byte>> mapped_;  // by file
  std::uint64_t file_bytes_ = 0;
};

}  // namespace heddle
