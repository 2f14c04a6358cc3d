#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "base/error.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_tables.h"

namespace heddle::cuda {
namespace {

template <typename F>
void for_each_table(const F& f) {
  f(rms_norm_table());
  f(glu_table());
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text;
}

bool contains(const std::vector<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// The op's own entry, else that of "all" where the op has such a variant, else "".
template <typename Args>
std::string forced_variant(const ForcedVariants& forced, const Table<Args>& table) {
  if (const auto own = forced.find(table.op); own != forced.end()) return own->second;
  const auto general = forced.find("all");
  if (general == forced.end()) return {};
  for (const auto& v : table.variants) {
    if (v.name == general->second) return general->second;
  }
  return {};
}

[[noreturn]] void no_kernel(std::string_view op) {
  throw Error(ErrorKind::kDevice,
              "op '" + std::string(op) + "' has no CUDA kernel in this version");
}

[[noreturn]] void refuse(std::string_view op, const std::string& why) {
  throw runtime_failure("internal: " + std::string(op) + ": " + why);
}

std::string text(std::string_view what, const TensorView& view) {
  return std::string(what) + " " + shape_text(view);
}

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

bool same_shape(const TensorView& a, const TensorView& b) {
  return a.rank == b.rank && a.dims == b.dims;
}

/// [n_tokens, width] of F32, F16 or BF16 in device memory, aligned to its elements.
void check_rows(std::string_view op, std::string_view what, const TensorView& v) {
  if (v.rank != 2 || v.dim(0) < 0 || v.dim(1) < 1) {
    refuse(op, text(what, v) + ", wanted [n_tokens, width]");
  }
  if (!is_float(v.dtype)) refuse(op, text(what, v) + ", wanted F32, F16 or BF16");
  if (v.device != DeviceKind::kCuda) refuse(op, text(what, v) + " is not in CUDA memory");
  if (v.dim(0) > 0 && v.absent()) refuse(op, text(what, v) + " is absent");
  const auto size = static_cast<std::uintptr_t>(info(v.dtype).block_bytes);
  if (reinterpret_cast<std::uintptr_t>(v.data) % size != 0) {
    refuse(op, text(what, v) + " is not aligned to its elements");
  }
}

/// `out` is like `in`, and either the same memory or apart from it.
void check_output(std::string_view op,
                  std::string_view what,
                  const TensorView& in,
                  const TensorView& out) {
  check_rows(op, "out", out);
  if (!same_shape(in, out) || in.dtype != out.dtype) {
    refuse(op, text("out", out) + " is not like " + text(what, in));
  }
  const auto a = reinterpret_cast<std::uintptr_t>(in.data);
  const auto b = reinterpret_cast<std::uintptr_t>(out.data);
  const auto bytes = static_cast<std::uintptr_t>(in.bytes());
  if (a != b && a < b + bytes && b < a + bytes) {
    refuse(op, text("out", out) + " overlaps " + std::string(what) + " in part");
  }
}

/// A call within the contract that no variant takes.
template <typename Args>
void require_kernel(const Table<Args>& table,
                    const Args& args,
                    const DeviceCaps& caps,
                    const std::string& call) {
  const auto takes = [&](const auto& v) { return v.accepts(args, caps); };
  if (std::any_of(table.variants.begin(), table.variants.end(), takes)) return;
  throw Error(ErrorKind::kDevice, "op '" + std::string(table.op) + "' with " + call +
                                      " has no CUDA kernel in this version");
}

template <typename Args>
void run(const Table<Args>& table,
         const Args& args,
         std::string_view forced,
         CudaContext& context) {
  check(cudaSetDevice(context.device), "cudaSetDevice");
  table.pick(args, context.caps, forced).run(args, context);
}

}  // namespace

std::vector<std::pair<std::string, std::vector<std::string>>> variants() {
  std::vector<std::pair<std::string, std::vector<std::string>>> all;
  for_each_table([&](const auto& table) {
    std::vector<std::string> names;
    for (const auto& v : table.variants) names.emplace_back(v.name);
    all.emplace_back(std::string(table.op), std::move(names));
  });
  return all;
}

void check_forced(const ForcedVariants& forced) {
  const auto known = variants();
  for (const auto& [op, variant] : forced) {
    std::vector<std::string> ops;
    std::vector<std::string> names;
    for (const auto& [known_op, known_names] : known) {
      ops.push_back(known_op);
      if (op != "all" && op != known_op) continue;
      for (const std::string& n : known_names) {
        if (!contains(names, n)) names.push_back(n);
      }
    }
    if (names.empty()) {
      throw bad_input("--force-kernel: op '" + op + "' has no CUDA kernel; known: all, " +
                      joined(ops));
    }
    if (!contains(names, variant)) {
      throw bad_input("--force-kernel " + op + ": variant '" + variant +
                      "' is unknown on CUDA; known: " + joined(names));
    }
  }
}

CudaOps::CudaOps(CudaContext& context, const ForcedVariants& forced)
    : context_(context),
      rms_norm_(forced_variant(forced, rms_norm_table())),
      glu_(forced_variant(forced, glu_table())) {}

void CudaOps::rms_norm(const RmsNormArgs& args) {
  check_rows("rms_norm", "x", args.x);
  check_output("rms_norm", "x", args.x, args.out);
  const TensorView& w = args.weight;
  require_kernel(rms_norm_table(), args, context_.caps,
                 std::string(w.absent() ? "no weight, " : "a weight, ") +
                     std::to_string(args.groups) + " groups and " + std::to_string(args.segments) +
                     " segments");
  if (w.rank != 1 || w.dim(0) != args.x.dim(1) || w.device != DeviceKind::kCuda ||
      (w.dtype != args.x.dtype && w.dtype != DType::kF32)) {
    refuse("rms_norm", text("weight", w) + " does not go with " + text("x", args.x));
  }
  if (!(args.eps >= 0.0F) || !std::isfinite(args.eps)) {
    refuse("rms_norm", "eps is " + std::to_string(args.eps) + ", wanted >= 0 and finite");
  }
  if (!args.residual.absent()) {
    check_rows("rms_norm", "residual", args.residual);
    check_output("rms_norm", "residual", args.residual, args.out);
  }
  if (args.x.dim(0) > std::numeric_limits<std::int32_t>::max() || args.x.dim(1) > (1 << 30)) {
    refuse("rms_norm", text("x", args.x) + " has more than 2^31-1 rows or 2^30 columns");
  }
  if (args.x.dim(0) == 0) return;
  run(rms_norm_table(), args, rms_norm_, context_);
}

void CudaOps::glu(const GluArgs& args) {
  check_rows("glu", "gate", args.gate);
  check_rows("glu", "up", args.up);
  if (!same_shape(args.gate, args.up) || args.gate.dtype != args.up.dtype) {
    refuse("glu", text("up", args.up) + " is not like " + text("gate", args.gate));
  }
  check_output("glu", "gate", args.gate, args.out);
  check_output("glu", "up", args.up, args.out);
  require_kernel(glu_table(), args, context_.caps,
                 "activation " + std::string(name(args.activation)) + ", limit " +
                     std::to_string(args.limit) + " and up_add " + std::to_string(args.up_add));
  if (args.gate.dim(0) == 0) return;
  run(glu_table(), args, glu_, context_);
}

void CudaOps::embed(const EmbedArgs& /*args*/) {
  no_kernel("embed");
}
void CudaOps::gather_rows(const GatherRowsArgs& /*args*/) {
  no_kernel("gather_rows");
}
void CudaOps::matmul(const MatmulArgs& /*args*/) {
  no_kernel("matmul");
}
void CudaOps::rope_angles(const RopeAnglesArgs& /*args*/) {
  no_kernel("rope_angles");
}
void CudaOps::rope(const RopeArgs& /*args*/) {
  no_kernel("rope");
}
void CudaOps::kv_write(const KvWriteArgs& /*args*/) {
  no_kernel("kv_write");
}
void CudaOps::attention(const AttentionArgs& /*args*/) {
  no_kernel("attention");
}
void CudaOps::linear_attention(const LinearAttentionArgs& /*args*/) {
  no_kernel("linear_attention");
}
void CudaOps::pattern_blocks(const PatternBlocksArgs& /*args*/) {
  no_kernel("pattern_blocks");
}
void CudaOps::compress_keys(const CompressKeysArgs& /*args*/) {
  no_kernel("compress_keys");
}
void CudaOps::select_blocks(const SelectBlocksArgs& /*args*/) {
  no_kernel("select_blocks");
}
void CudaOps::soft_cap(const SoftCapArgs& /*args*/) {
  no_kernel("soft_cap");
}
void CudaOps::route(const RouteArgs& /*args*/) {
  no_kernel("route");
}
void CudaOps::expert_matmul(const ExpertMatmulArgs& /*args*/) {
  no_kernel("expert_matmul");
}
void CudaOps::expert_sum(const ExpertSumArgs& /*args*/) {
  no_kernel("expert_sum");
}
void CudaOps::route_heads(const RouteHeadsArgs& /*args*/) {
  no_kernel("route_heads");
}
void CudaOps::activate(const ActivateArgs& /*args*/) {
  no_kernel("activate");
}
void CudaOps::add_scaled(const AddScaledArgs& /*args*/) {
  no_kernel("add_scaled");
}
void CudaOps::log_scale(const LogScaleArgs& /*args*/) {
  no_kernel("log_scale");
}
void CudaOps::scale_heads(const ScaleHeadsArgs& /*args*/) {
  no_kernel("scale_heads");
}
void CudaOps::lrpe(const LrpeArgs& /*args*/) {
  no_kernel("lrpe");
}
void CudaOps::sample(const SampleArgs& /*args*/) {
  no_kernel("sample");
}

}  // namespace heddle::cuda
