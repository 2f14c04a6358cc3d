#pragma once
// Sums in a fixed order: the same bits whatever the grid, on every run.

namespace heddle::cuda {

/// v[i] += v[i + N/2], N halved until one is left. N is a power of two; v is overwritten.
template <int N>
__device__ __forceinline__ float halving_sum(float (&v)[N]) {
#pragma unroll
  for (int half = N / 2; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  }
  return v[0];
}

/// Sum over the 32 lanes as a halving tree (lane l with l xor 16, then 8, 4, 2, 1). An addition
/// does not depend on its operands' order, so every lane gets the same bits.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) x += __shfl_xor_sync(0xffffffffU, x, mask);
  return x;
}

/// Sum over `n_warps` (1 .. 32) warps of a block: warp_sum in each, then warp_sum over the warps'
/// sums with 0 for absent ones. Every thread gets the result. `scratch` holds 32 floats of shared
/// memory; a second use of the same scratch needs a barrier between.
__device__ __forceinline__ float block_sum(
    float x, float* scratch, int warp, int lane, int n_warps) {
  x = warp_sum(x);
  if (n_warps == 1) return x;
  if (lane == 0) scratch[warp] = x;
  __syncthreads();
  return warp_sum(lane < n_warps ? scratch[lane] : 0.0F);
}

/// How many threads of the block before this one have the flag, and how many there are in all.
/// `scratch` holds 32 ints of shared memory; every thread of whole warps takes part.
struct Rank {
  int before;
  int total;
};
__device__ __forceinline__ Rank block_rank(bool flag, int* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int n_warps = static_cast<int>(blockDim.x) / 32;
  const unsigned votes = __ballot_sync(0xffffffffU, flag);
  __syncthreads();  // the scratch's last use
  if (lane == 0) scratch[warp] = __popc(votes);
  __syncthreads();
  Rank rank{__popc(votes & ((1U << lane) - 1U)), 0};
  for (int w = 0; w < n_warps; ++w) {
    if (w < warp) rank.before += scratch[w];
    rank.total += scratch[w];
  }
  return rank;
}

}  // namespace heddle::cuda
