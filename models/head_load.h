#pragma once
// How often a mixture of heads takes each of its heads.

#include <cstdint>
#include <map>
#include <vector>

#include "models/layer_step.h"

namespace heddle {

/// Counts while its tap is set on a decoder of the CPU, which it must outlive.
class HeadLoad {
 public:
  struct Layer {
    std::int64_t n_tokens = 0;
    std::vector<std::int64_t> taken;  // [n_q_heads] tokens that the head was on for
  };
  Tap tap();
  const std::map<int, Layer>& layers() const { return layers_; }

 private:
  std::map<int, Layer> layers_;
};

}  // namespace heddle
