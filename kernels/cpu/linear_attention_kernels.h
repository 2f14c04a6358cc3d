#pragma once
// The inner loops of the fast linear attention variants, one set per instruction set;
// linear_attention.cpp cuts the work, these do it (linear_attention_impl.h).

#include <cstdint>

namespace heddle::cpu {

inline constexpr std::int64_t kLinearRows = 16;  // B

/// LinearAttentionArgs as plain pointers and counts.
struct LinearProblem {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  float* out = nullptr;
  float* s = nullptr;
  const float* tail_k = nullptr;
  const float* tail_v = nullptr;
  std::int64_t n_heads = 0;
  std::int64_t key_dim = 0;
  std::int64_t value_dim = 0;  // a multiple of 16
  float scale = 0.0F;
};

/// exp(-s m) of a head.
struct LinearDecay {
  float power[kLinearRows + 1] = {};  // [m]
  /// S decays in a fold as fma(fold, S, S) if fold_is_minus_one, else as fold * S.
  float fold = 0.0F;
  bool fold_is_minus_one = false;
};

/// Rows of one sequence, one head, columns [column_begin, column_end) of the values. Writes `out`
/// and S, not the tail, which other tasks may still read.
struct LinearTask {
  std::int64_t first_row = 0;
  std::int64_t n_rows = 0;
  std::int64_t position = 0;  // of the first row
  std::int64_t head = 0;
  std::int64_t state = 0;  // slot * n_heads + head
  std::int64_t column_begin = 0;
  std::int64_t column_end = 0;
  LinearDecay decay;
};

struct LinearKernels {
  /// f32 elements of scratch memory that `run` needs for so many columns, 64-byte aligned.
  std::int64_t (*scratch)(std::int64_t key_dim, std::int64_t n_columns) = nullptr;
  void (*run)(const LinearProblem& problem, const LinearTask& task, float* scratch) = nullptr;
};

const LinearKernels& linear_kernels_portable();
/// Null where the build is for another processor.
const LinearKernels* linear_kernels_avx2();
const LinearKernels* linear_kernels_avx512();

}  // namespace heddle::cpu
