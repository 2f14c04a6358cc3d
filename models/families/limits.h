#pragma once
// What a config may say at most; far above every published model, small enough that products of two
// fit 64 bits.

#include <cstdint>

namespace heddle {

struct ModelLimits {
  static constexpr std::int64_t kLayers = 10'000;
  static constexpr std::int64_t kWidth = 1 << 20;
  static constexpr std::int64_t kIntermediate = 1 << 22;
  static constexpr std::int64_t kHeads = 65'536;
  static constexpr std::int64_t kHeadDim = 1024;
  static constexpr std::int64_t kContext = 1 << 30;
  static constexpr std::int64_t kVocab = (1LL << 31) - 1;
  static constexpr double kRopeTheta = 1e15;
  static constexpr double kRopeFactor = 1e6;
};

}  // namespace heddle
