#include "kernels/cuda/call_checks.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/error.h"

namespace heddle::cuda {
namespace {

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

}  // namespace

void check_call(const RmsNormArgs& args) {
  check_rows("rms_norm", "x", args.x);
  check_output("rms_norm", "x", args.x, args.out);
  const TensorView& w = args.weight;
  if (!w.absent() && (w.rank != 1 || w.dim(0) != args.x.dim(1) || w.device != DeviceKind::kCuda ||
                      (w.dtype != args.x.dtype && w.dtype != DType::kF32))) {
    refuse("rms_norm", text("weight", w) + " does not go with " + text("x", args.x));
  }
  if (!(args.eps >= 0.0F) || !std::isfinite(args.eps)) {
    refuse("rms_norm", "eps is " + std::to_string(args.eps) + ", wanted >= 0 and finite");
  }
  const int s = args.segments;
  if ((s != 1 && s != 2 && s != 4 && s != 8) || args.groups < 1 ||
      args.x.dim(1) % (std::int64_t{args.groups} * s) != 0) {
    refuse("rms_norm", std::to_string(args.groups) + " groups of " + std::to_string(s) +
                           " segments do not divide " + text("x", args.x));
  }
  if (!args.residual.absent()) {
    check_rows("rms_norm", "residual", args.residual);
    check_output("rms_norm", "residual", args.residual, args.out);
  }
  if (args.x.dim(0) * args.groups > std::numeric_limits<std::int32_t>::max() ||
      args.x.dim(1) > (1 << 30)) {
    refuse("rms_norm", text("x", args.x) + " has more than 2^31-1 rows or 2^30 columns");
  }
}

void check_call(const GluArgs& args) {
  check_rows("glu", "gate", args.gate);
  check_rows("glu", "up", args.up);
  if (!same_shape(args.gate, args.up) || args.gate.dtype != args.up.dtype) {
    refuse("glu", text("up", args.up) + " is not like " + text("gate", args.gate));
  }
  check_output("glu", "gate", args.gate, args.out);
  check_output("glu", "up", args.up, args.out);
  if (!(args.limit >= 0.0F) || !std::isfinite(args.limit) || !std::isfinite(args.up_add)) {
    refuse("glu", "limit is " + std::to_string(args.limit) + " and up_add " +
                      std::to_string(args.up_add) + ", wanted finite, the limit >= 0");
  }
}

}  // namespace heddle::cuda
