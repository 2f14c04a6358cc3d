#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/weight_store.h"

namespace heddle {

/// A store whose MXFP4 matrices are stored as two tensors (gpt-oss): NAME_blocks [..., n, 16] U8,
/// in each byte two neighbouring values, the lower in the low half, and NAME_scales [..., n] U8.
/// They appear as one tensor NAME [..., 32 n] of MXFP4 in the layout that kernels read (GGUF's),
/// made when it is required; the next one takes its place. All else is the inner store's.
class Mxfp4Weights final : public WeightStore {
 public:
  explicit Mxfp4Weights(std::unique_ptr<WeightStore> inner);

  TensorView require(std::string_view name,
                     std::initializer_list<std::int64_t> shape,
                     std::initializer_list<DType> dtypes) override;
  bool has(std::string_view name) const override;
  TensorView find(std::string_view name) const override;
  void ignore(std::string_view name) override;
  void release(const TensorView& view, std::size_t begin, std::size_t end) override;
  void drop_made() override;
  void check_all_bound() const override { inner_->check_all_bound(); }
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  const std::string& source() const override { return inner_->source(); }

 private:
  struct Pair {
    TensorView blocks, scales;
    TensorView whole;  // shape and dtype; its data are the blocks'
  };
  void assemble(const Pair& pair);

  std::unique_ptr<WeightStore> inner_;
  std::map<std::string, Pair, std::less<>> pairs_;
  std::vector<StoredTensor> tensors_;
  std::string made_;  // which pair values_ holds
  std::vector<std::byte> values_;
};

}  // namespace heddle
