#pragma once
// One device: memory, one stream, copies, Ops. The CPU backend always exists.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/buffer.h"
#include "base/tensor_view.h"
#include "kernels/device_caps.h"
#include "kernels/ops.h"
#include "kernels/packed_matrix.h"
#include "kernels/variant.h"

namespace heddle {

struct BackendOptions {
  DeviceKind device = DeviceKind::kCpu;
  int threads = 0;      // CPU: 0 means available_cores(); 1 .. 1024
  int cuda_device = 0;  // CUDA: ordinal
  ForcedVariants forced =
      {};  // validated by make_backend: unknown ops and variants list the known ones
};

/// A point in a stream's work. Waiting for it waits for everything enqueued before it was recorded.
class Event {
 public:
  virtual ~Event() = default;
  virtual void wait() = 0;  // blocks the host
  virtual bool done() const = 0;
};

/// Owned by one engine thread; calls come from that thread only.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual Ops& ops() = 0;
  virtual DeviceKind kind() const = 0;
  virtual DeviceCaps caps() const = 0;
  virtual int threads() const = 0;  // CPU worker threads; 1 on CUDA
  virtual std::string describe() const = 0;

  /// Zeroed memory of the device, 256-byte aligned. Throws kMemory.
  virtual Buffer allocate(std::size_t bytes) = 0;
  /// The same for memory that fills up with use (caches): what is never touched costs nothing where
  /// the device can do that.
  virtual Buffer allocate_sparse(std::size_t bytes) { return allocate(bytes); }
  /// Host memory from which copies are fast (pinned on CUDA).
  virtual Buffer allocate_host(std::size_t bytes) = 0;
  /// Enqueues a copy; `to` and `from` must stay valid until the stream has passed it.
  virtual void copy_to_device(void* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, std::size_t bytes) = 0;
  virtual void copy_on_device(void* to, const void* from, std::size_t bytes) = 0;
  virtual void zero(void* to, std::size_t bytes) = 0;
  virtual std::unique_ptr<Event> record() = 0;
  virtual void synchronize() = 0;

  /// Packs `rows` [n_rows, n_cols] (host memory, any weight dtype) for matmul and embed.
  /// `row_order`, if not empty, says which: packed row i is rows[row_order[i]], each at most once.
  /// The source is read once, in ascending panels; `read(begin, end)` is told which source bytes
  /// are no longer needed, so that mapped pages can be released as packing goes on.
  using ReadCallback = std::function<void(std::size_t begin, std::size_t end)>;
  virtual PackedMatrix pack(const TensorView& rows,
                            const std::vector<std::int32_t>& row_order = {},
                            const ReadCallback& read = nullptr) = 0;
  /// The weight dtypes that `pack` takes.
  virtual std::vector<DType> weight_dtypes() const = 0;
  /// What the kernels hold beside the caller's memory; it grows with the calls made, up to what
  /// kernels/sizes.h says.
  virtual std::uint64_t scratch_bytes() const { return 0; }
};

/// Throws kBadInput for options that cannot be, kDevice where the device is absent or broken.
std::unique_ptr<Backend> make_backend(const BackendOptions& options);

/// "op: variant, variant" per op of the device, in order of preference, for --list-kernels.
std::vector<std::pair<std::string, std::vector<std::string>>> list_variants(DeviceKind device);

}  // namespace heddle
