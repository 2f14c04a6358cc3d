#pragma once
// Sixteen bytes of elements: what one thread loads or stores with one instruction.

#include <cstdint>

namespace heddle::cuda {

template <typename T>
inline constexpr int kPackElements = 16 / static_cast<int>(sizeof(T));

/// N elements of T; 16-byte aligned, moved as uint4.
template <typename T, int N = kPackElements<T>>
struct alignas(16) Pack {
  static_assert(sizeof(T) * N % 16 == 0);
  T v[N];
};

inline bool is_aligned_16(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
}

/// from[0 .. N) with 16-byte loads; `from` is 16-byte aligned.
template <typename T, int N>
__device__ __forceinline__ void load_whole(Pack<T, N>& pack, const T* from) {
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(pack) / 16); ++i) {
    reinterpret_cast<uint4*>(&pack)[i] = reinterpret_cast<const uint4*>(from)[i];
  }
}

/// The same for memory that nothing writes while the kernel runs, so that the load may move freely.
template <typename T, int N>
__device__ __forceinline__ void load_constant(Pack<T, N>& pack, const T* from) {
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(pack) / 16); ++i) {
    reinterpret_cast<uint4*>(&pack)[i] = __ldg(reinterpret_cast<const uint4*>(from) + i);
  }
}

/// Makes the compiler forget what it has computed from the pack, so that it keeps the 16 bytes in
/// registers and not, say, their conversion to f32 as well.
template <typename T, int N>
__device__ __forceinline__ void forget(Pack<T, N>& pack) {
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(pack) / 4); ++i) {
    asm volatile("" : "+r"(reinterpret_cast<std::uint32_t*>(&pack)[i]));
  }
}

/// The first n of from[0 .. N), element by element; the others become 0.
template <typename T, int N>
__device__ __forceinline__ void load_part(Pack<T, N>& pack, const T* from, int n) {
#pragma unroll
  for (int i = 0; i < N; ++i) pack.v[i] = i < n ? from[i] : T(0.0F);
}

template <typename T, int N>
__device__ __forceinline__ void store_whole(T* to, const Pack<T, N>& pack) {
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(pack) / 16); ++i) {
    reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(&pack)[i];
  }
}

template <typename T, int N>
__device__ __forceinline__ void store_part(T* to, const Pack<T, N>& pack, int n) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < n) to[i] = pack.v[i];
  }
}

}  // namespace heddle::cuda
