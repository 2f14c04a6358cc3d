#pragma once
// What choosing experts (route) and choosing heads (route_heads) share.

#include <cstdint>
#include <vector>

#include "kernels/cpu/simd16_kernels.h"

namespace heddle::cpu {

/// Whether a comes before b in descending order; a NaN is smaller than all else.
template <typename Key>
bool above(Key a, Key b) {
  return a > b || (b != b && a == a);
}

/// The k best of the indices offered, which must ascend: ids holds them in descending order of key,
/// among equals the lowest index first.
template <typename Key>
class TopK {
 public:
  /// ids: [k], written; not owned, nor are the keys.
  TopK(const Key* keys, std::int32_t* ids, std::int64_t k) : keys_(keys), ids_(ids), k_(k) {}

  void offer(std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) {
      if (count_ == k_ && !above(keys_[i], keys_[ids_[k_ - 1]])) continue;
      std::int64_t at = count_ < k_ ? count_++ : k_ - 1;
      for (; at > 0 && above(keys_[i], keys_[ids_[at - 1]]); --at) ids_[at] = ids_[at - 1];
      ids_[at] = static_cast<std::int32_t>(i);
    }
  }

 private:
  const Key* keys_;
  std::int32_t* ids_;
  std::int64_t k_;
  std::int64_t count_ = 0;
};

/// e[i] = exp(x[i] - max x), e may be x; returns their sum, ascending.
double exps(const float* x, float* e, std::int64_t n, const RowKernels& kernels);

/// For ref: the softmax in f64, and a search for the best of those left.
std::vector<double> softmax_ref(const std::vector<double>& x);
std::size_t best_left(const std::vector<double>& keys, const std::vector<bool>& left);

}  // namespace heddle::cpu
