#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "models/checkpoint.h"
#include "models/weight_store.h"

namespace heddle {

/// Holds a checkpoint's tensors against what its config makes of them, before anything is bound.
class TensorCheck {
 public:
  explicit TensorCheck(WeightStore& store) : store_(store) {}

  /// A matrix of this shape must be there.
  TensorPart matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  /// Rows [first, first + rows) of a matrix of of_rows must be there.
  TensorPart rows(const std::string& name,
                  std::int64_t of_rows,
                  std::int64_t cols,
                  std::int64_t first,
                  std::int64_t rows);
  /// [n, rows, cols], the matrices of n experts: the part of each.
  std::vector<TensorPart> stacked(const std::string& name,
                                  std::int64_t n,
                                  std::int64_t rows,
                                  std::int64_t cols);
  /// A tensor of plain numbers of any shape, taken as a vector.
  TensorPart flat(const std::string& name, std::initializer_list<std::int64_t> shape);
  /// [cols], taken as a matrix of one row.
  TensorPart row(const std::string& name, std::int64_t cols);
  /// Some rows of a matrix of of_rows: packed row i is row_order[i].
  TensorPart picked(const std::string& name,
                    std::int64_t of_rows,
                    std::int64_t cols,
                    std::vector<std::int32_t> row_order);
  /// A vector of plain (not block-quantised) numbers must be there.
  TensorPart vector(const std::string& name, std::int64_t n, float add = 0.0F);
  /// The tensor, where there is one, does not change the model's results.
  void harmless(const std::string& name);
  /// Refuses tensors that none of the calls named, and says what they are where the name tells.
  void finish(std::string_view family) const;

  WeightStore& store() const { return store_; }

 private:
  TensorView expect(const std::string& name, std::initializer_list<std::int64_t> shape);
  void require_plain(const std::string& name, const TensorView& view) const;

  WeightStore& store_;
  std::unordered_set<std::string> known_;
};

}  // namespace heddle
