#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const KvWriteArgs& args) {
  const TensorView& pages = args.pages.k;
  HEDDLE_CHECK(args.slots.rank == 1 && args.slots.dtype == DType::kI32);
  for (const TensorView* const v : {&args.k, &args.v}) {
    HEDDLE_CHECK(v->rank == 3 && v->dtype == DType::kF32);
    HEDDLE_CHECK(v->dim(0) == args.slots.dim(0));
    HEDDLE_CHECK(v->dim(1) == args.pages.n_kv_heads() && v->dim(2) == args.pages.head_dim());
  }
  HEDDLE_CHECK(pages.rank == 4 && args.pages.v.rank == 4 && pages.dtype == args.pages.v.dtype);
  HEDDLE_CHECK(pages.dtype == DType::kF32 || pages.dtype == DType::kF16 ||
               pages.dtype == DType::kBF16);
  HEDDLE_CHECK(args.pages.v.dim(0) == pages.dim(0) && args.pages.v.dim(1) == pages.dim(1));
  HEDDLE_CHECK(args.pages.v.dim(2) == pages.dim(3) && args.pages.v.dim(3) == pages.dim(2));
  const std::int64_t n_slots = pages.dim(0) * args.pages.block_tokens();
  for (std::int64_t t = 0; t < args.slots.dim(0); ++t) {
    const std::int32_t slot = args.slots.as<const std::int32_t>()[t];
    HEDDLE_CHECK(slot >= 0 && slot < n_slots);
  }
}

// One token's K (a column of each head's [head_dim][block_tokens]) and V (a row). `round(x, out,
// n)` converts to the pages' element type T.
template <typename T, typename Round>
void write_token(const KvWriteArgs& args, std::int64_t t, const Round& round) {
  const std::int64_t n_heads = args.pages.n_kv_heads();
  const std::int64_t dim = args.pages.head_dim();
  const std::int64_t tokens = args.pages.block_tokens();
  const std::int32_t slot = args.slots.as<const std::int32_t>()[t];
  const std::int64_t first = slot / tokens * n_heads * tokens * dim;
  const std::int64_t offset = slot % tokens;
  for (std::int64_t h = 0; h < n_heads; ++h) {
    const float* const k = args.k.as<const float>() + (t * n_heads + h) * dim;
    const float* const v = args.v.as<const float>() + (t * n_heads + h) * dim;
    T* const page = args.pages.k.as<T>() + first + h * tokens * dim + offset;
    constexpr std::int64_t kSome = 64;
    T some[kSome];
    for (std::int64_t d = 0; d < dim; d += kSome) {
      const std::int64_t n = dim - d < kSome ? dim - d : kSome;
      round(k + d, some, n);
      for (std::int64_t i = 0; i < n; ++i) page[(d + i) * tokens] = some[i];
    }
    round(v, args.pages.v.as<T>() + first + (h * tokens + offset) * dim, dim);
  }
}

template <typename T, typename Round>
void write_all(const KvWriteArgs& args, CpuContext& context, const Round& round) {
  // Neighbouring tokens write to the same cache lines of K, so a task takes as many as a line
  // holds: two threads on one line wait for each other at every element.
  constexpr std::int64_t kTogether = 32;
  const std::int64_t n = args.slots.dim(0);
  // K is scattered element by element: about four times a copy
  const std::int64_t cost = 4 * kTogether * args.pages.n_kv_heads() * args.pages.head_dim();
  for_rows(context, (n + kTogether - 1) / kTogether, cost, [&](std::int64_t task) {
    const std::int64_t end = std::min(n, (task + 1) * kTogether);
    for (std::int64_t t = task * kTogether; t < end; ++t) write_token<T>(args, t, round);
  });
}

void copy(const float* x, float* out, std::int64_t n) {
  std::memcpy(out, x, static_cast<std::size_t>(n) * sizeof(float));
}

void fast(const KvWriteArgs& args, CpuContext& context, const RowKernels& kernels) {
  check(args);
  if (args.pages.k.dtype == DType::kF16) {
    write_all<F16>(args, context, kernels.to_f16);
  } else if (args.pages.k.dtype == DType::kBF16) {
    write_all<BF16>(args, context, kernels.to_bf16);
  } else {
    write_all<float>(args, context, copy);
  }
}

template <typename T, typename Round>
void write_ref(const KvWriteArgs& args, const Round& round) {
  const std::int64_t n_heads = args.pages.n_kv_heads();
  const std::int64_t dim = args.pages.head_dim();
  const std::int64_t tokens = args.pages.block_tokens();
  for (std::int64_t t = 0; t < args.slots.dim(0); ++t) {
    const std::int64_t block = args.slots.as<const std::int32_t>()[t] / tokens;
    const std::int64_t offset = args.slots.as<const std::int32_t>()[t] % tokens;
    for (std::int64_t h = 0; h < n_heads; ++h) {
      for (std::int64_t d = 0; d < dim; ++d) {
        const std::int64_t from = (t * n_heads + h) * dim + d;
        const std::int64_t head = block * n_heads + h;
        args.pages.k.as<T>()[(head * dim + d) * tokens + offset] =
            round(args.k.as<const float>()[from]);
        args.pages.v.as<T>()[(head * tokens + offset) * dim + d] =
            round(args.v.as<const float>()[from]);
      }
    }
  }
}

void ref(const KvWriteArgs& args, CpuContext&) {
  check(args);
  if (args.pages.k.dtype == DType::kF16) {
    write_ref<std::uint16_t>(args, f32_to_f16);
  } else if (args.pages.k.dtype == DType::kBF16) {
    write_ref<std::uint16_t>(args, f32_to_bf16);
  } else {
    write_ref<float>(args, [](float x) { return x; });
  }
}

}  // namespace

const Table<KvWriteArgs>& kv_write_table() {
  static constexpr Table<KvWriteArgs> kTable = {"kv_write",
                                                RowVariants<KvWriteArgs, fast, ref>::kAll};
  return kTable;
}

}  // namespace heddle::cpu
