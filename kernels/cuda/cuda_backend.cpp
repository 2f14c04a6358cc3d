#include "kernels/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <array>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/cuda_context.h"
#include "kernels/cuda/cuda_ops.h"

namespace heddle {
namespace cuda {
namespace {

// The compute capability that cmake/cuda.cmake compiles for; 9.0a code runs on 9.0 alone.
constexpr int kMajor = 9;
constexpr int kMinor = 0;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string device_text(const cudaDeviceProp& p) {
  std::array<char, 32> gib{};
  std::snprintf(gib.data(), gib.size(), "%.1f GiB",
                static_cast<double>(p.totalGlobalMem) / (1 << 30));
  return std::string(p.name) + ", compute capability " + std::to_string(p.major) + "." +
         std::to_string(p.minor) + ", " + std::to_string(p.multiProcessorCount) +
         " multiprocessors, " + gib.data();
}

/// Device count, or the reason why there is none in `why`.
int count_devices(std::string& why) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  static_cast<void>(cudaGetLastError());
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  static_cast<void>(cudaGetLastError());
  if (driver == 0) {
    why = "no NVIDIA driver is loaded";
  } else if (status == cudaErrorInsufficientDriver) {
    why = "the NVIDIA driver knows CUDA up to " + version_text(driver) + ", this build needs " +
          version_text(CUDART_VERSION);
  } else if (status == cudaSuccess || status == cudaErrorNoDevice) {
    why = "the NVIDIA driver shows no device (is CUDA_VISIBLE_DEVICES set?)";
  } else {
    why = error_text(status, "cudaGetDeviceCount");
  }
  return 0;
}

cudaDeviceProp open_device(int device) {
  std::string why;
  const int count = count_devices(why);
  if (count == 0) throw Error(ErrorKind::kDevice, "no usable CUDA device: " + why);
  if (device < 0 || device >= count) {
    throw Error(ErrorKind::kDevice, "CUDA device " + std::to_string(device) +
                                        " does not exist; there are " + std::to_string(count) +
                                        ", counted from 0");
  }
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  if (properties.major != kMajor || properties.minor != kMinor) {
    throw Error(ErrorKind::kDevice,
                "CUDA device " + std::to_string(device) + " is " + device_text(properties) +
                    "; this build has machine code for compute capability 9.0 (Hopper) only");
  }
  check(cudaSetDevice(device), "cudaSetDevice");
  return properties;
}

void free_device(void* data, std::size_t /*bytes*/) noexcept {
  static_cast<void>(cudaFree(data));
}
void free_pinned(void* data, std::size_t /*bytes*/) noexcept {
  static_cast<void>(cudaFreeHost(data));
}

/// Owns one stream that does not wait for the default stream.
class Stream {
 public:
  Stream() {
    check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~Stream() {
    static_cast<void>(cudaStreamSynchronize(handle_));
    static_cast<void>(cudaStreamDestroy(handle_));
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t handle() const { return handle_; }

 private:
  cudaStream_t handle_ = nullptr;
};

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(cudaStream_t stream) {
    check(cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming), "cudaEventCreate");
    const cudaError_t status = cudaEventRecord(handle_, stream);
    if (status != cudaSuccess) static_cast<void>(cudaEventDestroy(handle_));
    check(status, "cudaEventRecord");
  }
  ~CudaEvent() override { static_cast<void>(cudaEventDestroy(handle_)); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  void wait() override { check(cudaEventSynchronize(handle_), "cudaEventSynchronize"); }
  bool done() const override {
    const cudaError_t status = cudaEventQuery(handle_);
    if (status == cudaErrorNotReady) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    check(status, "cudaEventQuery");
    return true;
  }

 private:
  cudaEvent_t handle_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const BackendOptions& options)
      : properties_(open_device(options.cuda_device)), ops_(context_, options.forced) {
    context_.device = options.cuda_device;
    context_.n_multiprocessors = properties_.multiProcessorCount;
    context_.caps.cuda_sm = properties_.major * 10 + properties_.minor;
    context_.stream = stream_.handle();
  }
  ~CudaBackend() override { static_cast<void>(cudaSetDevice(context_.device)); }

  Ops& ops() override { return ops_; }
  DeviceKind kind() const override { return DeviceKind::kCuda; }
  DeviceCaps caps() const override { return context_.caps; }
  int threads() const override { return 1; }
  std::string describe() const override {
    int driver = 0;
    check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    return "CUDA device " + std::to_string(context_.device) + ": " + device_text(properties_) +
           ", driver for CUDA " + version_text(driver) + ", runtime " +
           version_text(CUDART_VERSION);
  }

  Buffer allocate(std::size_t bytes) override {
    use();
    // A buffer of 0 bytes still has an address: a null view would mean "absent".
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, bytes > 0 ? bytes : 1);
    if (status == cudaErrorMemoryAllocation || bytes > properties_.totalGlobalMem) {
      out_of_memory(bytes);
    }
    check(status, "cudaMalloc");
    Buffer buffer(data, bytes, free_device);
    zero(data, bytes);
    return buffer;
  }

  Buffer allocate_host(std::size_t bytes) override {
    use();
    void* data = nullptr;
    const cudaError_t status = cudaHostAlloc(&data, bytes > 0 ? bytes : 1, cudaHostAllocPortable);
    if (status == cudaErrorMemoryAllocation || bytes > (std::size_t{1} << 47)) {
      static_cast<void>(cudaGetLastError());
      throw Error(ErrorKind::kMemory,
                  "cannot allocate " + std::to_string(bytes) + " bytes of pinned host memory");
    }
    check(status, "cudaHostAlloc");
    Buffer buffer(data, bytes, free_pinned);
    std::memset(data, 0, bytes);
    return buffer;
  }

  void copy_to_device(void* to, const void* from, std::size_t bytes) override {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes) override {
    copy(to, from, bytes, cudaMemcpyDeviceToDevice);
  }
  void zero(void* to, std::size_t bytes) override {
    if (bytes == 0) return;
    use();
    check(cudaMemsetAsync(to, 0, bytes, context_.stream), "cudaMemsetAsync");
  }

  std::unique_ptr<Event> record() override {
    use();
    return std::make_unique<CudaEvent>(context_.stream);
  }
  void synchronize() override {
    use();
    check(cudaStreamSynchronize(context_.stream), "cudaStreamSynchronize");
  }

  PackedMatrix pack(const TensorView& /*rows*/,
                    const std::vector<std::int32_t>& /*row_order*/,
                    const ReadCallback& /*read*/) override {
    throw Error(ErrorKind::kDevice, "weights cannot be packed for CUDA in this version");
  }
  std::vector<DType> weight_dtypes() const override { return {}; }

  CudaContext& context() { return context_; }

 private:
  /// The current device belongs to the host thread, which need not be the one that made us.
  void use() const { check(cudaSetDevice(context_.device), "cudaSetDevice"); }

  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return;
    use();
    check(cudaMemcpyAsync(to, from, bytes, kind, context_.stream), "cudaMemcpyAsync");
  }

  [[noreturn]] void out_of_memory(std::size_t bytes) const {
    static_cast<void>(cudaGetLastError());
    std::size_t free = 0;
    std::size_t total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    throw Error(ErrorKind::kMemory, "cannot allocate " + std::to_string(bytes) +
                                        " bytes on CUDA device " + std::to_string(context_.device) +
                                        ": " + std::to_string(free) + " of " +
                                        std::to_string(total) + " are free");
  }

  cudaDeviceProp properties_;
  Stream stream_;
  CudaContext context_;
  CudaOps ops_;
};

}  // namespace

CudaContext& context_of(Backend& backend) {
  auto* const cuda = dynamic_cast<CudaBackend*>(&backend);
  HEDDLE_CHECK(cuda != nullptr);
  return cuda->context();
}

}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  cuda::check_forced(options.forced);
  return std::make_unique<cuda::CudaBackend>(options);
}

std::vector<std::pair<std::string, std::vector<std::string>>> list_cuda_variants() {
  return cuda::variants();
}

std::vector<std::string> cuda_devices() {
  std::vector<std::string> lines;
  std::string why;
  const int count = cuda::count_devices(why);
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties{};
    cuda::check(cudaGetDeviceProperties(&properties, i), "cudaGetDeviceProperties");
    lines.push_back(std::to_string(i) + ": " + cuda::device_text(properties));
  }
  return lines;
}

}  // namespace heddle
