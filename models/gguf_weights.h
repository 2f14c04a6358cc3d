#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "models/gguf.h"
#include "models/weight_store.h"

namespace heddle {

/// The tensors of one GGUF file, as views into its mapping.
class GgufWeights final : public WeightStore {
 public:
  /// Maps the file and validates its directory. Throws kBadInput.
  static std::unique_ptr<GgufWeights> open(const std::string& path);
  /// Over bytes that outlive the store.
  static std::unique_ptr<GgufWeights> over(std::span<const std::byte> bytes,
                                           const std::string& source);

  const GgufDirectory& directory() const { return directory_; }

  TensorView require(std::string_view name,
                     std::initializer_list<std::int64_t> shape,
                     std::initializer_list<DType> dtypes = {}) override;
  bool has(std::string_view name) const override;
  TensorView find(std::string_view name) const override;
  void ignore(std::string_view name) override;
  void release(const TensorView& view, std::size_t begin, std::size_t end) override;
  void check_all_bound() const override;
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  const std::string& source() const override { return directory_.source(); }

 private:
  GgufWeights(std::optional<MappedFile> file, GgufDirectory directory);
  std::optional<std::size_t> index(std::string_view name) const;

  std::optional<MappedFile> file_;
  GgufDirectory directory_;
  std::vector<StoredTensor> tensors_;  // same order as directory_.tensors()
  std::vector<bool> bound_;
};

}  // namespace heddle
