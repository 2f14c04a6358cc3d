// kv_write (contract: kernels/api/attention.h). A slot that no page has, a negative one above all,
// is a row of a captured step that has no token: nothing is written for it. (On the CPU it is an
// error; the host does not see slots here.)
//
// `tiles`  One block of 32 x 8 threads to 32 tokens and 32 dimensions of a head: K passes through
//   shared memory (a 32 x 33 tile of floats) and is written with the tokens along the lanes, so
//   that neighbouring tokens of a prompt fill whole sectors; V is written straight.
//   Bound: device memory. Taken from 8 tokens on.
// `plain`  One block to a token, one (head, dimension) to a thread.

#include "kernels/cuda/convert.cuh"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/launch.h"

namespace heddle::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 32;
constexpr int kTileRows = 8;
constexpr std::int64_t kTileTokens = 8;  // from which tiles pay

template <typename T>
struct Call {
  const float* k;
  const float* v;
  const std::int32_t* slots;
  T* k_pages;
  T* v_pages;
  std::int64_t n_tokens;
  std::int64_t n_slots;
  int n_heads;
  int head_dim;
  int block_tokens;

  /// Of a slot's element d of head h; the slot is one that exists.
  __device__ __forceinline__ std::int64_t k_at(std::int32_t slot, int h, int d) const {
    return (head_at(slot, h) * head_dim + d) * block_tokens + slot % block_tokens;
  }
  __device__ __forceinline__ std::int64_t v_at(std::int32_t slot, int h, int d) const {
    return (head_at(slot, h) * block_tokens + slot % block_tokens) * head_dim + d;
  }
  __device__ __forceinline__ std::int64_t head_at(std::int32_t slot, int h) const {
    return static_cast<std::int64_t>(slot / block_tokens) * n_heads + h;
  }
  __device__ __forceinline__ bool exists(std::int32_t slot) const {
    return slot >= 0 && slot < n_slots;
  }
};

template <typename T>
__global__ void __launch_bounds__(kThreads) kv_write_plain(Call<T> call) {
  const std::int64_t t = blockIdx.x;
  const std::int32_t slot = call.slots[t];
  if (!call.exists(slot)) return;
  const int width = call.n_heads * call.head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) {
    const int h = i / call.head_dim;
    const int d = i % call.head_dim;
    call.k_pages[call.k_at(slot, h, d)] = from_f32<T>(call.k[t * width + i]);
    call.v_pages[call.v_at(slot, h, d)] = from_f32<T>(call.v[t * width + i]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kTile* kTileRows) kv_write_tiles(Call<T> call) {
  __shared__ float tile[kTile][kTile + 1];
  const int n_tiles = (call.head_dim + kTile - 1) / kTile;
  const int h = static_cast<int>(blockIdx.y) / n_tiles;
  const int first = static_cast<int>(blockIdx.y) % n_tiles * kTile;
  const std::int64_t t0 = static_cast<std::int64_t>(blockIdx.x) * kTile;
  const int lane = static_cast<int>(threadIdx.x);
  const int d = first + lane;
  for (int j = static_cast<int>(threadIdx.y); j < kTile; j += kTileRows) {
    const std::int64_t t = t0 + j;
    if (t >= call.n_tokens || d >= call.head_dim) continue;
    const std::int64_t from = (t * call.n_heads + h) * call.head_dim + d;
    tile[j][lane] = call.k[from];
    const std::int32_t slot = call.slots[t];
    if (call.exists(slot)) call.v_pages[call.v_at(slot, h, d)] = from_f32<T>(call.v[from]);
  }
  __syncthreads();
  const std::int64_t t = t0 + lane;
  if (t >= call.n_tokens) return;
  const std::int32_t slot = call.slots[t];
  if (!call.exists(slot)) return;
  for (int j = static_cast<int>(threadIdx.y); j < kTile; j += kTileRows) {
    if (first + j >= call.head_dim) return;
    call.k_pages[call.k_at(slot, h, first + j)] = from_f32<T>(tile[lane][j]);
  }
}

void check(const KvWriteArgs& args) {
  const TensorView& pages = args.pages.k;
  const std::int64_t n = args.slots.dim(0);
  HEDDLE_CHECK(pages.rank == 4 && is_i32(args.slots, {n}));
  const std::int64_t n_heads = args.pages.n_kv_heads();
  const std::int64_t dim = args.pages.head_dim();
  const std::int64_t tokens = args.pages.block_tokens();
  HEDDLE_CHECK(is_f32(args.k, {n, n_heads, dim}) && is_f32(args.v, {n, n_heads, dim}));
  HEDDLE_CHECK(is_view(pages, pages.dtype, {pages.dim(0), n_heads, dim, tokens}));
  HEDDLE_CHECK(is_view(args.pages.v, pages.dtype, {pages.dim(0), n_heads, tokens, dim}));
  HEDDLE_CHECK(n_heads >= 1 && n_heads <= 1024 && dim >= 1 && dim <= 1024 && tokens >= 1);
}

template <typename Launch>
void with_call(const KvWriteArgs& args, const Launch& launch) {
  check(args);
  if (args.slots.dim(0) == 0) return;
  const bool known = with_float_type(args.pages.k.dtype, [&]<typename T>() {
    launch(Call<T>{
        args.k.as<float>(), args.v.as<float>(), args.slots.as<std::int32_t>(), args.pages.k.as<T>(),
        args.pages.v.as<T>(), args.slots.dim(0), args.pages.k.dim(0) * args.pages.block_tokens(),
        static_cast<int>(args.pages.n_kv_heads()), static_cast<int>(args.pages.head_dim()),
        static_cast<int>(args.pages.block_tokens())});
  });
  HEDDLE_CHECK(known);
  check_launch("kv_write");
}

void run_tiles(const KvWriteArgs& args, CudaContext& context) {
  with_call(args, [&]<typename T>(const Call<T>& call) {
    const int n_tiles = (call.head_dim + kTile - 1) / kTile;
    const dim3 grid(blocks_for(call.n_tokens, kTile),
                    static_cast<unsigned>(call.n_heads * n_tiles));
    kv_write_tiles<T><<<grid, dim3(kTile, kTileRows), 0, context.stream>>>(call);
  });
}

void run_plain(const KvWriteArgs& args, CudaContext& context) {
  with_call(args, [&]<typename T>(const Call<T>& call) {
    kv_write_plain<T><<<blocks_for(call.n_tokens, 1), kThreads, 0, context.stream>>>(call);
  });
}

bool accepts_tiles(const KvWriteArgs& args, const DeviceCaps& /*caps*/) {
  return args.slots.dim(0) >= kTileTokens;
}

constexpr Variant<KvWriteArgs, CudaContext> kVariants[] = {
    {"tiles", accepts_tiles, run_tiles},
    {"plain", accepts_all<KvWriteArgs, DeviceCaps>, run_plain},
};

}  // namespace

const Table<KvWriteArgs>& kv_write_table() {
  static const Table<KvWriteArgs> table{"kv_write", kVariants};
  return table;
}

}  // namespace heddle::cuda
