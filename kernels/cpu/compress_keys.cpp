#include "base/error.h"
#include "base/half.h"
#include "kernels/cpu/compressed_keys.h"
#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/simd16_variants.h"

namespace heddle::cpu {
namespace {

void check(const CompressKeysArgs& args) {
  check_compressed_keys(args.keys);
  HEDDLE_CHECK(args.k.rank == 4 && args.k.dim(3) == args.keys.block_tokens);
  HEDDLE_CHECK(args.k.dtype == DType::kF32 || args.k.dtype == DType::kF16 ||
               args.k.dtype == DType::kBF16);
  HEDDLE_CHECK(args.k.dim(0) == args.keys.k1.dim(0) && args.k.dim(1) == args.keys.k1.dim(1));
  HEDDLE_CHECK(args.k.dim(2) == args.keys.k1.dim(3));
  check_rows(args.block_tables, args.sequence, args.positions, args.keys.block_tokens);
}

const std::int32_t* table_of(const CompressKeysArgs& args, std::int64_t t) {
  return args.block_tables.as<const std::int32_t>() +
         args.sequence.as<const std::int32_t>()[t] * args.block_tables.dim(1);
}

// The mean of the window whose last key is `last`, of one kv head; sums in Sum. `widen` gives the
// stored element as f32.
template <typename Sum, typename T, typename Widen>
void mean(const CompressKeysArgs& args,
          const KeyLevel& level,
          const std::int32_t* table,
          std::int64_t last,
          std::int64_t g,
          const Widen& widen) {
  const std::int64_t tokens = level.block_tokens;
  const std::int64_t first = last + 1 - level.length;
  float* const entry = level.entry(table, last, g);
  for (std::int64_t d = 0; d < level.head_dim; ++d) {
    Sum sum = 0;
    for (std::int64_t s = first; s <= last;) {
      const std::int64_t end = std::min(last + 1, (s / tokens + 1) * tokens);
      const T* const keys =
          args.k.as<const T>() +
          ((table[s / tokens] * level.n_kv_heads + g) * level.head_dim + d) * tokens + s % tokens;
      for (std::int64_t i = 0; i < end - s; ++i) sum += static_cast<Sum>(widen(keys[i]));
      s = end;
    }
    entry[d] = static_cast<float>(sum / static_cast<Sum>(level.length));
  }
}

template <typename Sum>
void row(const CompressKeysArgs& args, const KeyLevel& level, std::int64_t t, std::int64_t g) {
  const std::int64_t position = args.positions.as<const std::int32_t>()[t];
  if (!level.ends_at(position)) return;
  const std::int32_t* const table = table_of(args, t);
  if (args.k.dtype == DType::kF16) {
    mean<Sum, std::uint16_t>(args, level, table, position, g, f16_to_f32);
  } else if (args.k.dtype == DType::kBF16) {
    mean<Sum, std::uint16_t>(args, level, table, position, g, bf16_to_f32);
  } else {
    mean<Sum, float>(args, level, table, position, g, [](float x) { return x; });
  }
}

template <typename Sum>
void run(const CompressKeysArgs& args, CpuContext& context) {
  check(args);
  const KeyLevel levels[] = {level_1(args.keys), level_2(args.keys)};
  const std::int64_t n_heads = levels[0].n_kv_heads;
  const std::int64_t per_row = 2 * args.keys.kernel / args.keys.stride * levels[0].head_dim;
  for_rows(context, args.positions.dim(0) * n_heads, per_row, [&](std::int64_t i) {
    for (const KeyLevel& level : levels) row<Sum>(args, level, i / n_heads, i % n_heads);
  });
}

bool always(const CompressKeysArgs&, const DeviceCaps&) {
  return true;
}

constexpr Variant<CompressKeysArgs, CpuContext> kVariants[] = {{"portable", always, run<float>},
                                                               {"ref", always, run<double>}};

}  // namespace

const Table<CompressKeysArgs>& compress_keys_table() {
  static constexpr Table<CompressKeysArgs> kTable = {"compress_keys", kVariants};
  return kTable;
}

}  // namespace heddle::cpu
