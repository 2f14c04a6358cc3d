// Row look-ups: bound by memory, a row or a few per step, so one plain form serves every processor.

#include <cstring>

#include "base/error.h"
#include "kernels/cpu/cpu_tables.h"
#include "kernels/cpu/pack.h"

namespace heddle::cpu {
namespace {

// Below this many output elements a parallel region costs more than it saves.
constexpr std::int64_t kInlineElements = 16384;

void check(const EmbedArgs& args) {
  HEDDLE_CHECK(args.table != nullptr);
  HEDDLE_CHECK(args.ids.rank == 1 && args.ids.dtype == DType::kI32);
  HEDDLE_CHECK(args.out.rank == 2 && args.out.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.dim(0) == args.ids.dim(0) && args.out.dim(1) == args.table->n_cols);
}

void check(const GatherRowsArgs& args) {
  HEDDLE_CHECK(args.x.rank == 2 && args.x.dtype == DType::kF32);
  HEDDLE_CHECK(args.rows.rank == 1 && args.rows.dtype == DType::kI32);
  HEDDLE_CHECK(args.out.rank == 2 && args.out.dtype == DType::kF32);
  HEDDLE_CHECK(args.out.dim(0) == args.rows.dim(0) && args.out.dim(1) == args.x.dim(1));
  HEDDLE_CHECK(args.out.elements() == 0 || args.out.data != args.x.data);
}

void embed_row(const EmbedArgs& args, std::int64_t t) {
  const std::int32_t id = args.ids.as<const std::int32_t>()[t];
  HEDDLE_CHECK(id >= 0 && id < args.table->n_rows);
  const std::int64_t width = args.table->n_cols;
  float* const out = args.out.as<float>() + t * width;
  dequantise_row(*args.table, id, out);
  if (args.scale == 1.0F) return;
  for (std::int64_t i = 0; i < width; ++i) out[i] *= args.scale;
}

void embed_portable(const EmbedArgs& args, CpuContext& context) {
  check(args);
  const std::int64_t n = args.ids.dim(0);
  if (n * args.table->n_cols <= kInlineElements) {
    for (std::int64_t t = 0; t < n; ++t) embed_row(args, t);
  } else {
    context.pool.run(n, [&](std::int64_t t, int) { embed_row(args, t); });
  }
}

void embed_ref(const EmbedArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t t = 0; t < args.ids.dim(0); ++t) embed_row(args, t);
}

void gather_row(const GatherRowsArgs& args, std::int64_t i) {
  const std::int32_t row = args.rows.as<const std::int32_t>()[i];
  HEDDLE_CHECK(row >= 0 && row < args.x.dim(0));
  const std::int64_t width = args.x.dim(1);
  std::memcpy(args.out.as<float>() + i * width, args.x.as<const float>() + row * width,
              static_cast<std::size_t>(width) * sizeof(float));
}

void gather_rows_ref(const GatherRowsArgs& args, CpuContext&) {
  check(args);
  for (std::int64_t i = 0; i < args.rows.dim(0); ++i) gather_row(args, i);
}

template <typename Args>
bool always(const Args&, const DeviceCaps&) {
  return true;
}

constexpr Variant<EmbedArgs, CpuContext> kEmbed[] = {
    {"portable", always<EmbedArgs>, embed_portable},
    {"ref", always<EmbedArgs>, embed_ref},
};
constexpr Variant<GatherRowsArgs, CpuContext> kGatherRows[] = {
    {"ref", always<GatherRowsArgs>, gather_rows_ref},
};

}  // namespace

const Table<EmbedArgs>& embed_table() {
  static const Table<EmbedArgs> kTable = {"embed", kEmbed};
  return kTable;
}

const Table<GatherRowsArgs>& gather_rows_table() {
  static const Table<GatherRowsArgs> kTable = {"gather_rows", kGatherRows};
  return kTable;
}

}  // namespace heddle::cpu
