#pragma once
// For tests that run one op on the CPU's `ref` and on CUDA with the same arguments: a Place holds
// the tensors of one such run in its backend's memory.

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/cuda_support.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace heddle::test {

inline std::unique_ptr<Backend> open_ref(const std::string& op) {
  BackendOptions options;
  options.threads = 1;
  options.forced = {{op, "ref"}};
  return make_backend(options);
}

/// Tensors live as long as the Place. On CUDA they lie between guard bands, which reading checks.
class Place {
 public:
  explicit Place(Backend& backend) : backend_(backend) {}
  bool is_cuda() const { return backend_.kind() == DeviceKind::kCuda; }
  Backend& backend() { return backend_; }
  Ops& ops() { return backend_.ops(); }

  /// CUDA arrays start this many bytes off a multiple of 256.
  void set_offset(std::size_t bytes) { offset_ = bytes; }

  TensorView put(const std::vector<std::byte>& bytes,
                 DType dtype,
                 std::initializer_list<std::int64_t> shape) {
    void* data = nullptr;
    if (is_cuda()) {
      device_.push_back(std::make_unique<DeviceArray>(backend_, bytes, offset_));
      data = device_.back()->data();
    } else {
      host_.push_back(std::make_unique<std::vector<std::byte>>(bytes));
      host_.back()->reserve(1);  // an empty view is not an absent one
      data = host_.back()->data();
    }
    TensorView view(data, dtype, shape, backend_.kind());
    EXPECT_EQ(view.bytes(), static_cast<std::int64_t>(bytes.size()));
    return view;
  }
  TensorView floats(const std::vector<float>& values,
                    std::initializer_list<std::int64_t> shape,
                    DType dtype = DType::kF32) {
    return put(encode(values, dtype), dtype, shape);
  }
  TensorView ints(const std::vector<std::int32_t>& values,
                  std::initializer_list<std::int64_t> shape) {
    std::vector<std::byte> bytes(values.size() * 4);
    if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return put(bytes, DType::kI32, shape);
  }
  /// To be written by the op: -1 or NaN everywhere.
  TensorView room(DType dtype, std::initializer_list<std::int64_t> shape) {
    const std::int64_t n = TensorView(nullptr, dtype, shape).bytes();
    return put(std::vector<std::byte>(static_cast<std::size_t>(n), std::byte{0xFF}), dtype, shape);
  }

  std::vector<std::byte> bytes(const TensorView& view) {
    for (const auto& array : device_) {
      if (array->data() == view.data) return array->read();
    }
    const auto* const from = view.as<const std::byte>();
    return {from, from + view.bytes()};
  }
  std::vector<float> floats(const TensorView& view) { return decode(bytes(view), view.dtype); }
  std::vector<std::int32_t> ints(const TensorView& view) {
    const std::vector<std::byte> from = bytes(view);
    std::vector<std::int32_t> values(from.size() / 4);
    if (!values.empty()) std::memcpy(values.data(), from.data(), from.size());
    return values;
  }

 private:
  Backend& backend_;
  std::size_t offset_ = 0;
  std::vector<std::unique_ptr<DeviceArray>> device_;
  std::vector<std::unique_ptr<std::vector<std::byte>>> host_;
};

/// f(place) on the CPU's ref of `op`.
template <typename F>
auto on_ref(const std::string& op, const F& f) {
  const std::unique_ptr<Backend> cpu = open_ref(op);
  Place place(*cpu);
  return f(place);
}
template <typename F>
auto on_cuda(Backend& backend, const F& f, std::size_t offset_bytes = 0) {
  Place place(backend);
  place.set_offset(offset_bytes);
  return f(place);
}

}  // namespace heddle::test
