#pragma once
// The row kernels of the small ops (norm, rotation, activation, rounding, sampling), one set per
// instruction set; the .cpp of each op cuts the work, these do it. simd16_kernels_impl.h has the
// loops, written once.

#include <cstdint>

#include "kernels/api/activation.h"
#include "kernels/cpu/simd16.h"

namespace heddle::cpu {

/// What a first pass over a row of logits finds.
struct LogitScan {
  float max = 0.0F;
  bool nan = false;
  std::int64_t argmax = 0;  // lowest index of max; meaningless if nan
};

/// Sums over a row of e_i = exp_f32((logits[i] - max) / temperature).
struct LogitSums {
  double lanes = 0;  // of e_i: 16 f64 lanes (i mod 16) in ascending order, then the halving tree
  double grid = 0;   // of e_i rounded to multiples of 2^-34: exact, so any order gives this
};

/// One row of RmsNormArgs, or one of its groups.
struct NormRow {
  static constexpr int kMaxSegments = 8;
  const float* x = nullptr;
  const float* weight = nullptr;    // or null
  const float* residual = nullptr;  // or null; may be out
  float* out = nullptr;
  std::int64_t width = 0;
  int segments = 1;  // 1, 2, 4, 8; divides width
  float eps = 0.0F;
};

/// Elements of GluArgs.
struct GluRow {
  const float* gate = nullptr;
  const float* up = nullptr;
  float* out = nullptr;  // may be gate or up
  std::int64_t n = 0;
  Activation activation = Activation::kSilu;
  float limit = 0.0F;  // 0: none
  float up_add = 0.0F;
};

/// One row of ExpertSumArgs: out = residual + sum_j weights[j] y[j].
struct WeightedSum {
  const float* y = nullptr;         // [n, width]
  const float* weights = nullptr;   // [n]
  const float* residual = nullptr;  // [width] or null; may be out
  float* out = nullptr;
  std::int64_t n = 0;
  std::int64_t width = 0;
};

/// out = fma(b, y, a x).
struct ScaledSumRow {
  const float* x = nullptr;
  const float* y = nullptr;
  float* out = nullptr;
  std::int64_t n = 0;
  float a = 1.0F;
  float b = 1.0F;
};

struct RowKernels {
  void (*rms_norm)(const NormRow& row) = nullptr;
  /// One head's 2 * half rotated elements, in place.
  void (*rope)(const float* cos, const float* sin, float* head, std::int64_t half) = nullptr;
  void (*glu)(const GluRow& row) = nullptr;
  // Elementwise; out may be x or y.
  void (*activate)(Activation activation, const float* x, float* out, std::int64_t n) = nullptr;
  /// out = a x.
  void (*scale)(float a, const float* x, float* out, std::int64_t n) = nullptr;
  void (*add_scaled)(const ScaledSumRow& row) = nullptr;
  /// out = x y.
  void (*multiply)(const float* x, const float* y, float* out, std::int64_t n) = nullptr;
  /// x = cap * tanh(x * (1 / cap)), in place.
  void (*soft_cap)(float* x, std::int64_t n, float cap) = nullptr;
  void (*weighted_sum)(const WeightedSum& row) = nullptr;
  /// In the lanes and the tree of rms_norm.
  float (*sum_squares)(const float* x, std::int64_t n) = nullptr;
  void (*to_f16)(const float* x, F16* out, std::int64_t n) = nullptr;
  void (*to_bf16)(const float* x, BF16* out, std::int64_t n) = nullptr;

  LogitScan (*scan)(const float* logits, std::int64_t n) = nullptr;
  /// e: where to store the e_i, or null.
  LogitSums (*exp_sums)(
      const float* logits, std::int64_t n, float max, float temperature, float* e) = nullptr;

  // The functions behind the ops, for their own tests.
  void (*exp_any)(const float* x, float* out, std::int64_t n) = nullptr;
  void (*exp_nonpositive)(const float* x, float* out, std::int64_t n) = nullptr;
  void (*tanh)(const float* x, float* out, std::int64_t n) = nullptr;
  void (*from_f16)(const F16* x, float* out, std::int64_t n) = nullptr;    // n % 16 == 0
  void (*from_bf16)(const BF16* x, float* out, std::int64_t n) = nullptr;  // n % 16 == 0
};

const RowKernels& row_kernels_portable();
/// Null where the build is for another processor.
const RowKernels* row_kernels_avx2();
const RowKernels* row_kernels_avx512();

}  // namespace heddle::cpu
