#pragma once
#include <memory>
#include <span>
#include <string>

#include "models/folder.h"
#include "models/gguf.h"
#include "models/tensor_table.h"

namespace heddle {

/// The tensors of one GGUF file, as views into its mapping.
class GgufWeights final : public TensorTable {
 public:
  /// Maps the file and validates its directory. Throws kBadInput.
  static std::unique_ptr<GgufWeights> open(const std::string& path);
  /// The same for a file of a folder, which is never left.
  static std::unique_ptr<GgufWeights> open(const Folder& folder, const std::string& name);
  /// Over bytes that outlive the store.
  static std::unique_ptr<GgufWeights> over(std::span<const std::byte> bytes,
                                           const std::string& source);

  const GgufDirectory& directory() const { return directory_; }

 private:
  explicit GgufWeights(GgufDirectory directory);
  static std::unique_ptr<GgufWeights> from(MappedFile file);

  GgufDirectory directory_;
};

}  // namespace heddle
