#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_set>

#include "models/weight_store.h"

namespace heddle {

/// Holds a checkpoint's tensors against what its config makes of them, before anything is bound.
class TensorCheck {
 public:
  explicit TensorCheck(WeightStore& store) : store_(store) {}

  /// A matrix of this shape must be there. Returns `name` for the decoder's names.
  std::string matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
  /// A vector of plain (not block-quantised) numbers must be there.
  std::string vector(const std::string& name, std::int64_t n);
  /// The tensor, where there is one, does not change the model's results.
  void harmless(const std::string& name);
  /// Refuses tensors that none of the calls named; `hint(name)` may add why, "" if it has nothing.
  void finish(std::string_view family,
              const std::function<std::string(std::string_view name)>& hint) const;

 private:
  TensorView expect(const std::string& name, std::initializer_list<std::int64_t> shape);

  WeightStore& store_;
  std::unordered_set<std::string> known_;
};

}  // namespace heddle
