// embed and gather_rows (contracts: kernels/api/embed.h).
//
// `plain`  One block of 256 threads to an output row, one element to a thread at a time. The table
//   lies as WeightLayout::kRows: the checkpoint's rows, each on a 16-byte boundary
//   (weight_row_stride). An id or row number that the table does not have gives a row of NaN: the
//   host does not see it, and a fault would end the process (a failed sample is token -1).
//   Bound: latency for the few rows of a step; device memory for a long prompt.

#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/weight_rows.cuh"
#include "kernels/cuda/weight_rows.h"

namespace heddle::cuda {
namespace {

constexpr int kThreads = 256;

struct Rows {
  const std::byte* rows;
  std::int64_t stride_bytes;
  std::int64_t n_rows;
  std::int64_t width;
  DType dtype;
  int block_elements;
  int block_bytes;
};

__global__ void __launch_bounds__(kThreads)
    embed_plain(Rows table, const std::int32_t* ids, float scale, float* out) {
  const std::int64_t t = blockIdx.x;
  const std::int32_t id = ids[t];
  const bool known = id >= 0 && id < table.n_rows;
  const std::byte* const row = table.rows + (known ? id : 0) * table.stride_bytes;
  for (std::int64_t k = threadIdx.x; k < table.width; k += kThreads) {
    float value = nanf("");
    if (known) value = weight_at(table.dtype, row, k, table.block_elements, table.block_bytes);
    out[t * table.width + k] = value * scale;
  }
}

__global__ void __launch_bounds__(kThreads) gather_rows_plain(
    const float* x, std::int64_t n_rows, const std::int32_t* rows, std::int64_t width, float* out) {
  const std::int64_t i = blockIdx.x;
  const std::int32_t row = rows[i];
  const bool known = row >= 0 && row < n_rows;
  for (std::int64_t k = threadIdx.x; k < width; k += kThreads) {
    out[i * width + k] = known ? x[row * width + k] : nanf("");
  }
}

bool accepts_rows(const EmbedArgs& args, const DeviceCaps& /*caps*/) {
  if (args.table == nullptr || args.table->layout != WeightLayout::kRows) return false;
  const DType dtype = args.table->dtype;
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 ||
         info(dtype).quantised();
}

void run_embed(const EmbedArgs& args, CudaContext& context) {
  const PackedMatrix& matrix = *args.table;
  const std::int64_t n = args.ids.dim(0);
  HEDDLE_CHECK(is_i32(args.ids, {n}) && is_f32(args.out, {n, matrix.n_cols}));
  if (n == 0) return;
  const DTypeInfo& type = info(matrix.dtype);
  const Rows table{matrix.data.data(),
                   weight_row_stride(matrix.dtype, matrix.n_cols),
                   matrix.n_rows,
                   matrix.n_cols,
                   matrix.dtype,
                   static_cast<int>(type.block_elements),
                   static_cast<int>(type.block_bytes)};
  embed_plain<<<blocks_for(n, 1), kThreads, 0, context.stream>>>(table, args.ids.as<std::int32_t>(),
                                                                 args.scale, args.out.as<float>());
  check_launch("embed");
}

void run_gather(const GatherRowsArgs& args, CudaContext& context) {
  HEDDLE_CHECK(args.x.rank == 2 && args.rows.rank == 1);
  const std::int64_t n = args.rows.dim(0);
  const std::int64_t width = args.x.dim(1);
  HEDDLE_CHECK(is_f32(args.x, {args.x.dim(0), width}) && is_i32(args.rows, {n}));
  HEDDLE_CHECK(is_f32(args.out, {n, width}));
  if (n == 0) return;
  HEDDLE_CHECK(args.out.data != args.x.data);
  gather_rows_plain<<<blocks_for(n, 1), kThreads, 0, context.stream>>>(
      args.x.as<float>(), args.x.dim(0), args.rows.as<std::int32_t>(), width, args.out.as<float>());
  check_launch("gather_rows");
}

constexpr Variant<EmbedArgs, CudaContext> kEmbed[] = {{"plain", accepts_rows, run_embed}};
constexpr Variant<GatherRowsArgs, CudaContext> kGather[] = {
    {"plain", accepts_all<GatherRowsArgs, DeviceCaps>, run_gather}};

}  // namespace

const Table<EmbedArgs>& embed_table() {
  static const Table<EmbedArgs> table{"embed", kEmbed};
  return table;
}
const Table<GatherRowsArgs>& gather_rows_table() {
  static const Table<GatherRowsArgs> table{"gather_rows", kGather};
  return table;
}

}  // namespace heddle::cuda
