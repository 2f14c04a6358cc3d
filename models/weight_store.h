#pragma once
// Named tensors of a checkpoint, whatever its file format.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor_view.h"

namespace heddle {

/// One tensor as stored. `view` is [rows, cols] (or [n]) in the checkpoint's dtype, in mapped
/// memory. A tensor of a dtype or rank that no kernel reads is listed too, so that a buffer which
/// nobody needs does no harm: `foreign` then says what it is ("I64") and `view` is its bytes, [n]
/// U8 (U8 itself in its own shape).
struct StoredTensor {
  std::string name;
  TensorView view;
  std::string foreign = {};
  /// What stands for its bytes where `view` has none of its own: made only when required.
  std::span<const std::byte> raw = {};
  /// Beside these: the scales of MXFP4 blocks, where they are stored apart.
  std::span<const std::byte> raw_scales = {};
  std::span<const std::byte> bytes() const {
    if (!raw.empty()) return raw;
    return {view.as<const std::byte>(), static_cast<std::size_t>(view.bytes())};
  }
  std::string_view dtype_name() const {
    return foreign.empty() ? heddle::name(view.dtype) : std::string_view(foreign);
  }
};

/// Maps the checkpoint's files; knows which tensors were asked for. Not thread safe.
class WeightStore {
 public:
  virtual ~WeightStore() = default;

  /// The tensor `name` with exactly this shape (outermost first; a GGUF's reversed dims are already
  /// turned) and one of `dtypes` (empty: any that the backend packs). Marks it as bound. Throws
  /// kBadInput: "FILE: tensor 'blk.0.attn_q.weight': shape, got [64, 32], allowed [64, 64]".
  virtual TensorView require(std::string_view name,
                             std::initializer_list<std::int64_t> shape,
                             std::initializer_list<DType> dtypes = {}) = 0;
  virtual bool has(std::string_view name) const = 0;
  /// Shape and dtype without binding; absent view if there is no such tensor. Throws kBadInput for
  /// a foreign one, as require() does.
  virtual TensorView find(std::string_view name) const = 0;
  /// find() by somebody who knows the shape it must have, which a store without files takes as
  /// given.
  virtual TensorView expect(std::string_view name, std::initializer_list<std::int64_t> /*shape*/) {
    return find(name);
  }
  /// Marks a tensor as known and not needed.
  virtual void ignore(std::string_view name) = 0;
  /// Tells the system that part of a tensor's pages were packed and are not needed again.
  virtual void release(const TensorView& view, std::size_t begin, std::size_t end) = 0;
  /// Frees what require() has made beside the mapped bytes: views of it are no longer valid.
  virtual void drop_made() = 0;
  /// Throws kBadInput naming the tensors that nobody required or ignored.
  virtual void check_all_bound() const = 0;

  virtual const std::vector<StoredTensor>& tensors() const = 0;
  virtual const std::string& source() const = 0;  // file name, for error texts
};

}  // namespace heddle
