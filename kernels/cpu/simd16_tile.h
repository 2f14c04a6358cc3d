#pragma once
// Register tiles over V (simd16.h): some rows of scalars times some columns of 16.

#include "kernels/cpu/simd16.h"

namespace heddle::cpu {
namespace {

// Calls f.template operator()<R>() for R = rows in 1 .. kMax.
template <int kMax, typename Fn>
HEDDLE_SIMD void with_rows(int rows, const Fn& f) {
  if constexpr (kMax > 1) {
    if (rows != kMax) {
      with_rows<kMax - 1>(rows, f);
      return;
    }
  }
  f.template operator()<kMax>();
}

// sum[r][c] += x(r) * the 16 elements at p[c], in an order that keeps sums in registers.
template <typename V, int R, int C, typename T, typename X>
HEDDLE_SIMD void multiply_add(typename V::F (&sum)[R][C], const T* const (&p)[C], const X& x) {
  if constexpr (V::kColumnsFirst && C > 1) {
    typename V::F row[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) row[r] = x(r);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) V::template add_column<R, C>(sum, c, row, p[c]);
  } else {
    typename V::F column[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) column[c] = V::load(p[c]);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto row = x(r);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum[r][c] = V::fma(row, column[c], sum[r][c]);
    }
  }
}

}  // namespace
}  // namespace heddle::cpu
