#pragma once
// For tests of CUDA kernels: a backend or a visible skip, arrays on the device with guard bands,
// and conversions between float and the element types.

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "kernels/backend.h"

namespace heddle::test {

/// A CUDA backend, or null with the reason in `why`. HEDDLE_TEST_NEEDS_CUDA=1, which
/// tools/gpu_check sets, turns the absence into a failure.
inline std::unique_ptr<Backend> open_cuda(std::string& why, const ForcedVariants& forced = {}) {
  BackendOptions options;
  options.device = DeviceKind::kCuda;
  options.forced = forced;
  try {
    return make_backend(options);
  } catch (const Error& e) {
    const char* needed = std::getenv("HEDDLE_TEST_NEEDS_CUDA");
    if (e.kind() != ErrorKind::kDevice || (needed != nullptr && std::string(needed) == "1")) throw;
    why = e.what();
    return nullptr;
  }
}

/// Declares `backend`, or skips the test.
#define HEDDLE_CUDA_OR_SKIP(backend, ...)                                    \
  std::string no_cuda_because;                                               \
  const std::unique_ptr<Backend> backend =                                   \
      ::heddle::test::open_cuda(no_cuda_because __VA_OPT__(, ) __VA_ARGS__); \
  if (!backend) GTEST_SKIP() << "no CUDA device: " << no_cuda_because

inline std::vector<std::byte> encode(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(
      static_cast<std::size_t>(row_bytes(dtype, static_cast<std::int64_t>(values.size()))));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&bytes[4 * i], &values[i], 4);
    } else {
      const std::uint16_t h = dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
      std::memcpy(&bytes[2 * i], &h, 2);
    }
  }
  return bytes;
}

inline std::vector<float> decode(const std::vector<std::byte>& bytes, DType dtype) {
  const std::size_t size = dtype == DType::kF32 ? 4 : 2;
  std::vector<float> values(bytes.size() / size);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&values[i], &bytes[4 * i], 4);
    } else {
      std::uint16_t h = 0;
      std::memcpy(&h, &bytes[2 * i], 2);
      values[i] = dtype == DType::kF16 ? f16_to_f32(h) : bf16_to_f32(h);
    }
  }
  return values;
}

/// The values that survive in `dtype`.
inline std::vector<float> rounded(const std::vector<float>& values, DType dtype) {
  return decode(encode(values, dtype), dtype);
}

/// Half the distance between neighbours, relative: the error of rounding to `dtype`.
inline double unit_roundoff(DType dtype) {
  if (dtype == DType::kF32) return 0x1p-24;
  return dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
}
/// The smallest positive value of `dtype`.
inline double tiniest(DType dtype) {
  if (dtype == DType::kF32) return 0x1p-149;
  return dtype == DType::kF16 ? 0x1p-24 : 0x1p-133;
}

/// Bytes in device memory between two guard bands. All of it starts as 0xFF, a NaN of every type.
class DeviceArray {
 public:
  /// `offset_bytes` moves the array off its 256-byte alignment.
  DeviceArray(Backend& backend, std::size_t bytes, std::size_t offset_bytes = 0)
      : backend_(backend),
        bytes_(bytes),
        begin_(kGuard + offset_bytes),
        whole_(bytes + offset_bytes + 2 * kGuard, std::byte{0xFF}),
        memory_(backend.allocate(whole_.size())) {
    backend_.copy_to_device(memory_.data(), whole_.data(), whole_.size());
    backend_.synchronize();
  }
  DeviceArray(Backend& backend, const std::vector<std::byte>& content, std::size_t offset_bytes = 0)
      : DeviceArray(backend, content.size(), offset_bytes) {
    write(content);
  }

  void* data() const { return memory_.data() + begin_; }
  void write(const std::vector<std::byte>& content) {
    backend_.copy_to_device(data(), content.data(), content.size());
    backend_.synchronize();
  }
  /// The content; fails the test where a guard band has changed.
  std::vector<std::byte> read() {
    backend_.copy_to_host(whole_.data(), memory_.data(), whole_.size());
    backend_.synchronize();
    for (std::size_t i = 0; i < whole_.size(); ++i) {
      if (i >= begin_ && i < begin_ + bytes_) continue;
      if (whole_[i] != std::byte{0xFF}) {
        ADD_FAILURE() << "written outside the array, at byte "
                      << static_cast<std::int64_t>(i) - static_cast<std::int64_t>(begin_) << " of "
                      << bytes_;
        break;
      }
    }
    const auto from = whole_.begin() + static_cast<std::ptrdiff_t>(begin_);
    return {from, from + static_cast<std::ptrdiff_t>(bytes_)};
  }

 private:
  static constexpr std::size_t kGuard = 256;
  Backend& backend_;
  std::size_t bytes_;
  std::size_t begin_;
  std::vector<std::byte> whole_;
  Buffer memory_;
};

}  // namespace heddle::test
