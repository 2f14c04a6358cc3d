#pragma once
#include <cstddef>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "models/weight_store.h"

namespace heddle {

/// A tensor of a folder's file as the store lists it: `foreign` where no kernel reads its type
/// (`dtype` then is nullopt) or its rank.
StoredTensor stored_tensor(std::string name,
                           std::string_view dtype_name,
                           std::optional<DType> dtype,
                           std::span<const std::int64_t> dims,
                           std::span<const std::byte> bytes);

/// What the stores of all formats share: named views into mapped files, and who asked for which. A
/// format fills it and adds nothing but its own metadata.
class TensorTable : public WeightStore {
 public:
  TensorView require(std::string_view name,
                     std::initializer_list<std::int64_t> shape,
                     std::initializer_list<DType> dtypes = {}) final;
  bool has(std::string_view name) const final { return index(name).has_value(); }
  TensorView find(std::string_view name) const final;
  void ignore(std::string_view name) final;
  void release(const TensorView& view, std::size_t begin, std::size_t end) final;
  void drop_made() final { copies_.clear(); }
  void check_all_bound() const final;
  const std::vector<StoredTensor>& tensors() const final { return tensors_; }
  const std::string& source() const final { return source_; }

 protected:
  /// `source` begins every error text.
  explicit TensorTable(std::string source) : source_(std::move(source)) {}
  /// The file stays mapped as long as the table lives; its bytes.
  std::span<const std::byte> keep(MappedFile file);
  /// The name must be new.
  void add(StoredTensor tensor);

 private:
  std::optional<std::size_t> index(std::string_view name) const;
  const StoredTensor& readable(std::size_t at) const;
  TensorView aligned(const TensorView& view);

  std::string source_;
  std::vector<MappedFile> files_;
  std::vector<StoredTensor> tensors_;
  std::vector<bool> bound_;
  std::unordered_map<std::string, std::size_t> by_name_;
  std::deque<std::vector<std::byte>> copies_;  // of tensors that lie at odd addresses
};

}  // namespace heddle
