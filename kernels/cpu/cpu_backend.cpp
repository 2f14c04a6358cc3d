#include "kernels/cpu/cpu_backend.h"

#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "kernels/cpu/cpu_context.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/pack.h"

namespace heddle::cpu {
namespace {

constexpr int kMaxThreads = 1024;
constexpr std::size_t kAlignment = 256;  // what Backend::allocate promises

class DoneEvent final : public Event {
 public:
  void wait() override {}
  bool done() const override { return true; }
};

int thread_count(int wanted) {
  if (wanted < 0 || wanted > kMaxThreads) {
    throw bad_input("threads is " + std::to_string(wanted) +
                    ", allowed: 0 (all available cores) to " + std::to_string(kMaxThreads));
  }
  return wanted == 0 ? available_cores() : wanted;
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options)
      : context_(thread_count(options.threads), detect_cpu()),
        ops_(context_, options.forced),
        weight_layout_(forced_variant(options.forced, "matmul") == "ref" ? WeightLayout::kRows
                                                                         : WeightLayout::kRows16) {}

  Ops& ops() override { return ops_; }
  DeviceKind kind() const override { return DeviceKind::kCpu; }
  DeviceCaps caps() const override { return context_.caps; }
  int threads() const override { return context_.pool.size(); }
  std::string describe() const override {
    const int n = threads();
    return "CPU, " + std::to_string(n) + (n == 1 ? " thread, " : " threads, ") +
           context_.caps.describe();
  }

  Buffer allocate_sparse(std::size_t bytes) override {
    if (bytes < (std::size_t{64} << 10)) return allocate(bytes);
    return host_buffer(bytes, HostPages::kSparse);
  }
  Buffer allocate(std::size_t bytes) override {
    if (bytes >= (std::size_t{2} << 20)) return host_buffer(bytes);  // aligned to 2 MiB
    const std::size_t size = (bytes / kAlignment + 1) * kAlignment;
    void* const data = std::aligned_alloc(kAlignment, size);
    if (data == nullptr) {
      throw Error(ErrorKind::kMemory,
                  "cannot allocate " + std::to_string(bytes) + " bytes of host memory");
    }
    std::memset(data, 0, size);
    return {data, bytes, [](void* p, std::size_t) noexcept { std::free(p); }};
  }
  Buffer allocate_host(std::size_t bytes) override { return allocate(bytes); }

  void copy_to_device(void* to, const void* from, std::size_t bytes) override {
    copy(to, from, bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    copy(to, from, bytes);
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes) override {
    copy(to, from, bytes);
  }
  void zero(void* to, std::size_t bytes) override {
    if (bytes > 0) std::memset(to, 0, bytes);
  }
  std::unique_ptr<Event> record() override { return std::make_unique<DoneEvent>(); }
  void synchronize() override {}

  PackedMatrix pack(const TensorView& rows,
                    const std::vector<std::int32_t>& row_order,
                    const ReadCallback& read) override {
    return cpu::pack(rows, weight_layout_, row_order, read, context_.pool);
  }
  std::vector<DType> weight_dtypes() const override { return cpu::weight_dtypes(); }
  std::uint64_t scratch_bytes() const override { return context_.bytes(); }

 private:
  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memmove(to, from, bytes);
  }

  CpuContext context_;
  CpuOps ops_;
  WeightLayout weight_layout_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options) {
  check_forced(options.forced, detect_cpu());
  return std::make_unique<CpuBackend>(options);
}

}  // namespace heddle::cpu
