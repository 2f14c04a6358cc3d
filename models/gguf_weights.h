#pragma once
#include <memory>
#include <span>
#include <string>

#include "models/folder.h"
#include "models/gguf.h"
#include "models/tensor_table.h"

namespace heddle {

/// The tensors of one GGUF model, as views into its mapped file, or files: of a model in parts
/// (NAME-00001-of-00003.gguf) all are opened, whichever of them was named.
class GgufWeights final : public TensorTable {
 public:
  /// Maps the file and validates its directory. Other parts are looked for beside it. Throws
  /// kBadInput.
  static std::unique_ptr<GgufWeights> open(const std::string& path);
  /// The same for a file of a folder, which is never left.
  static std::unique_ptr<GgufWeights> open(const Folder& folder, const std::string& name);
  /// Over the bytes of one file with a whole model, which outlive the store.
  static std::unique_ptr<GgufWeights> over(std::span<const std::byte> bytes,
                                           const std::string& source);

  /// Of the first part, which has the model's keys; of its tensors only its own.
  const GgufDirectory& directory() const { return directory_; }
  std::uint64_t file_bytes() const { return file_bytes_; }  // of all parts

 private:
  explicit GgufWeights(GgufDirectory directory);
  void add_tensors(const GgufDirectory& part);
  void add_parts(const Folder& folder, const std::string& name);
  void check_part(const GgufDirectory& part, std::uint64_t number) const;

  GgufDirectory directory_;
  std::uint64_t file_bytes_ = 0;
};

}  // namespace heddle
