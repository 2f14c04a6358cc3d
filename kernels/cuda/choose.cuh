#pragma once
// Choosing the best of a row's scores, and softmax sums, by one warp: for route and route_heads.

#include "kernels/cuda/exp.cuh"

namespace heddle::cuda {

/// Whether a comes before b in descending order; a NaN is smaller than all else.
template <typename Key>
__device__ __forceinline__ bool above(Key a, Key b) {
  return a > b || (b != b && a == a);
}

/// The best of keys[0 .. n) whose open[i] is not 0, among equals the lowest index: the same for
/// every lane. At least one must be open.
template <typename Key>
__device__ __forceinline__ int best_open(const Key* keys, const unsigned char* open, int n) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Key key{};
  int best = n;
  const auto offer = [&](Key other, int i) {
    if (i >= n) return;
    const bool better = best >= n || above(other, key) || (!above(key, other) && i < best);
    if (!better) return;
    key = other;
    best = i;
  };
  for (int i = lane; i < n; i += 32) {
    if (open[i] != 0) offer(keys[i], i);
  }
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    const Key other = __shfl_xor_sync(0xffffffffU, key, mask);
    const int i = __shfl_xor_sync(0xffffffffU, best, mask);
    offer(other, i);
  }
  return best;
}

/// e[i] = exp(x[i] - max x), e may be x; returns their sum in f64, ascending, to every lane.
__device__ __forceinline__ double exps(const float* x, float* e, int n) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float max = -INFINITY;
  for (int i = lane; i < n; i += 32) max = x[i] > max ? x[i] : max;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) {
    max = fmaxf(max, __shfl_xor_sync(0xffffffffU, max, mask));
  }
  for (int i = lane; i < n; i += 32) e[i] = exp_nonpositive(x[i] - max);
  __syncwarp();
  double sum = 0.0;
  for (int i = 0; i < n; ++i) sum += e[i];  // every lane the same
  return sum;
}

}  // namespace heddle::cuda
