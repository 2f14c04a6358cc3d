#pragma once
// What the vector types of the fast CPU kernels share.
//
// A kernel is written once, as a template over a type V of 16 f32 lanes, and compiled once per
// instruction set: simd16_avx512.h, simd16_avx2.h and simd16_portable.h each define such a V. Every
// operation of V is one IEEE operation per lane (fma is fused), and the horizontal ones are the
// halving tree 16 -> 8 -> 4 -> 2 -> 1 (lane i and lane i + half), so the three give the same bits;
// only the sign and payload of a NaN may differ.
//
// Link-time trap: a function that is compiled for AVX-512 in one file and for plain x86 in another
// under one name is merged into either. Hence everything that a file with extra instructions
// compiles is in an anonymous namespace, and such files call nothing from std:: and no inline
// function of other headers.
//
// V's operations:
//   F32: zero set1 load store load_n store_n  add sub mul div fma(a,b,c) = a b + c
//        max(a,b) = a > b ? a : b    min(a,b) = a < b ? a : b      (a NaN in a gives b)
//        select_lt(a,b,t,f) = a < b ? t : f     first_n(v,n,fill): lanes >= n replaced by fill
//        neg abs  reduce_add reduce_max  any_nan
//   halves: load / store of F16* and BF16*, rounded to nearest even as base/half.h does
//   I32 (opaque): bits(v), from_bits(i), iadd, isub, shift_left<n>, shift_right<n> (arithmetic)
//   F64: D with dzero, dadd(d, v) (widened), dadd_grid(d, v) (widened, rounded to a multiple of
//        2^-34), dreduce

#include <cstdint>

#ifndef HEDDLE_SIMD  // sanitizer builds of the portable form leave the choice to the compiler
#define HEDDLE_SIMD inline __attribute__((always_inline))
#endif

namespace heddle::cpu {

inline constexpr int kSimdLanes = 16;

/// Storage of the two 16-bit float formats, so that loads and stores overload by type.
struct F16 {
  std::uint16_t bits = 0;
};
struct BF16 {
  std::uint16_t bits = 0;
};

}  // namespace heddle::cpu
