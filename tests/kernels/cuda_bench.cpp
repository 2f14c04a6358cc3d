// Times the CUDA kernels against what a copying kernel gets in the same run. Prints Markdown.
//
// Each figure is the median over graph replays; the launches of a graph rotate over sets of arrays
// that together exceed the L2 cache, except where a set is so small that decoding would find it in
// L2 as well (marked "L2"). Data are random; outputs are checked by the tests, not here.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/half.h"
#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/graph_timer.h"
#include "kernels/cuda/stream_kernels.h"
#include "tests/support/random.h"

namespace {

using namespace heddle;

constexpr std::size_t kArenaBytes = std::size_t{1536} << 20;
constexpr std::size_t kBeyondL2 = std::size_t{200} << 20;  // the L2 of an H100 has 50 MB
constexpr int kMinLaunches = 10;
constexpr int kMaxLaunches = 1000;
constexpr int kReplays = 25;

/// One allocation, filled with random values of one dtype, cut into sets of arrays.
class Arena {
 public:
  explicit Arena(Backend& backend) : backend_(backend), memory_(backend.allocate(kArenaBytes)) {}

  void fill(DType dtype) {
    constexpr std::size_t kBlock = std::size_t{16} << 20;
    test::Random random(1);
    std::vector<std::byte> block(kBlock);
    const std::size_t size = dtype == DType::kF32 ? 4 : 2;
    for (std::size_t i = 0; i < kBlock; i += size) {
      const float x = random.uniform(-4.0F, 4.0F);
      if (dtype == DType::kF32) {
        std::memcpy(&block[i], &x, 4);
      } else {
        const std::uint16_t h = dtype == DType::kF16 ? f32_to_f16(x) : f32_to_bf16(x);
        std::memcpy(&block[i], &h, 2);
      }
    }
    for (std::size_t at = 0; at < kArenaBytes; at += kBlock) {
      backend_.copy_to_device(memory_.data() + at, block.data(), kBlock);
    }
    backend_.synchronize();
  }
  std::byte* at(std::size_t offset) const { return memory_.data() + offset; }

 private:
  Backend& backend_;
  Buffer memory_;
};

struct Rotation {
  std::size_t set_bytes = 0;
  int n_sets = 1;
  int n_launches = kMinLaunches;
  bool in_l2 = false;
  std::size_t offset(int launch) const {
    return static_cast<std::size_t>(launch % n_sets) * set_bytes;
  }
};

Rotation rotation(std::size_t set_bytes) {
  Rotation r;
  r.set_bytes = (set_bytes + 255) / 256 * 256;
  const std::size_t wanted = (kBeyondL2 + r.set_bytes - 1) / r.set_bytes;
  const std::size_t fitting = kArenaBytes / r.set_bytes;
  r.n_sets = static_cast<int>(std::clamp<std::size_t>(std::max<std::size_t>(wanted, 2), 1,
                                                      std::max<std::size_t>(fitting, 1)));
  r.n_sets = std::min(r.n_sets, kMaxLaunches);
  r.n_launches = std::max(kMinLaunches, r.n_sets);
  r.in_l2 = static_cast<std::size_t>(r.n_sets) * r.set_bytes < kBeyondL2 / 2;
  return r;
}

std::size_t size_of(DType dtype, std::int64_t elements) {
  return static_cast<std::size_t>(row_bytes(dtype, elements));
}

class Bench {
 public:
  explicit Bench(const BackendOptions& options)
      : backend_(make_cuda_backend(options)), arena_(*backend_) {}

  Backend& backend() { return *backend_; }
  void fill(DType dtype) { arena_.fill(dtype); }

  /// What a kernel that only copies gets is the ceiling of the other figures; beside it the
  /// runtime's copy and a kernel that only reads.
  void measure_ceilings() {
    constexpr std::size_t kHalf = std::size_t{512} << 20;
    const auto measure = [&](const char* what, double bytes, const auto& enqueue) {
      const cuda::GraphTiming t = cuda::time_graph(*backend_, kMinLaunches, kReplays, [&](int i) {
        enqueue(arena_.at(i % 2 == 0 ? kHalf : 0), arena_.at(i % 2 == 0 ? 0 : kHalf));
      });
      const double gbs = bytes / t.median_us / 1e3;
      fmt::print("{} of 512 MiB: {:.1f} us ({:.1f} to {:.1f}), {:.0f} GB/s\n", what, t.median_us,
                 t.min_us, t.max_us, gbs);
      return gbs;
    };
    const Buffer sink = backend_->allocate(4);
    copy_gbs_ = measure("copying kernel (read + written)", 2.0 * kHalf, [&](void* to, void* from) {
      cuda::stream_copy(*backend_, to, from, kHalf);
    });
    measure("cudaMemcpyAsync (read + written)", 2.0 * kHalf,
            [&](void* to, void* from) { backend_->copy_on_device(to, from, kHalf); });
    measure("reading kernel", kHalf,
            [&](void*, void* from) { cuda::stream_read(*backend_, from, kHalf, sink.data()); });
    fmt::print(
        "\n| op | variant | shape | dtype | us (min to max) | MB moved | GB/s | of copy |\n");
    fmt::print("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  }

  void rms_norm(
      const char* variant, std::int64_t rows, std::int64_t width, DType dtype, DType weight) {
    const std::size_t x = size_of(dtype, rows * width);
    const std::size_t w = size_of(weight, width);
    const Buffer weights = backend_->allocate(w);
    backend_->copy_on_device(weights.data(), arena_.at(0), w);
    const Rotation r = rotation(2 * x);
    const cuda::GraphTiming t = cuda::time_graph(*backend_, r.n_launches, kReplays, [&](int i) {
      std::byte* const begin = arena_.at(r.offset(i));
      RmsNormArgs args;
      args.x = TensorView(begin, dtype, {rows, width}, DeviceKind::kCuda);
      args.weight = TensorView(weights.data(), weight, {width}, DeviceKind::kCuda);
      args.out = TensorView(begin + x, dtype, {rows, width}, DeviceKind::kCuda);
      args.eps = 1e-5F;
      backend_->ops().rms_norm(args);
    });
    const std::string types = weight == dtype
                                  ? std::string(name(dtype))
                                  : fmt::format("{}, weight {}", name(dtype), name(weight));
    print("rms_norm", variant, rows, width, types, t, 2 * x + w, r.in_l2);
  }

  void glu(
      const char* variant, std::int64_t rows, std::int64_t width, DType dtype, Activation act) {
    const std::size_t x = size_of(dtype, rows * width);
    const Rotation r = rotation(3 * x);
    const cuda::GraphTiming t = cuda::time_graph(*backend_, r.n_launches, kReplays, [&](int i) {
      std::byte* const begin = arena_.at(r.offset(i));
      GluArgs args;
      args.gate = TensorView(begin, dtype, {rows, width}, DeviceKind::kCuda);
      args.up = TensorView(begin + x, dtype, {rows, width}, DeviceKind::kCuda);
      args.out = TensorView(begin + 2 * x, dtype, {rows, width}, DeviceKind::kCuda);
      args.activation = act;
      backend_->ops().glu(args);
    });
    print(fmt::format("glu {}", name(act)), variant, rows, width, std::string(name(dtype)), t,
          3 * x, r.in_l2);
  }

 private:
  void print(const std::string& op,
             const char* variant,
             std::int64_t rows,
             std::int64_t width,
             const std::string& types,
             const cuda::GraphTiming& t,
             std::size_t bytes,
             bool in_l2) const {
    const double gbs = static_cast<double>(bytes) / t.median_us / 1e3;
    fmt::print("| {} | {} | {}x{} | {} | {:.2f} ({:.2f} to {:.2f}) | {:.3f} | {:.0f} | {} |\n", op,
               variant, rows, width, types, t.median_us, t.min_us, t.max_us,
               static_cast<double>(bytes) / 1e6, gbs,
               in_l2 ? "L2" : fmt::format("{:.0f} %", 100 * gbs / copy_gbs_));
  }

  std::unique_ptr<Backend> backend_;
  Arena arena_;
  double copy_gbs_ = 0;
};

void run() {
  for (const char* variant : {"packs", "plain"}) {
    BackendOptions options;
    options.device = DeviceKind::kCuda;
    options.forced = {{"all", variant}};
    Bench bench(options);
    fmt::print("\n{}\n", bench.backend().describe());
    bench.fill(DType::kBF16);
    bench.measure_ceilings();
    const DType dtypes[] = {DType::kBF16, DType::kF16, DType::kF32};
    for (const DType dtype : dtypes) {
      bench.fill(dtype);
      bench.rms_norm(variant, 4096, 4096, dtype, dtype);
      bench.rms_norm(variant, 8192, 8192, dtype, dtype);
      if (dtype != DType::kF32) bench.rms_norm(variant, 8192, 8192, dtype, DType::kF32);
      bench.rms_norm(variant, 16384, 1024, dtype, dtype);
      bench.rms_norm(variant, 512, 65536, dtype, dtype);
      bench.rms_norm(variant, 64, 4096, dtype, dtype);
      bench.rms_norm(variant, 1, 4096, dtype, dtype);
      bench.glu(variant, 4096, 14336, dtype, Activation::kSilu);
      bench.glu(variant, 4096, 14336, dtype, Activation::kGelu);
      bench.glu(variant, 4096, 14336, dtype, Activation::kGeluTanh);
      bench.glu(variant, 64, 14336, dtype, Activation::kSilu);
      bench.glu(variant, 1, 14336, dtype, Activation::kSilu);
    }
  }
}

}  // namespace

int main() {
  try {
    run();
  } catch (const Error& e) {
    fmt::print(stderr, "kernels_cuda_bench: {}\n", e.what());
    return static_cast<int>(e.kind());
  }
  return 0;
}
