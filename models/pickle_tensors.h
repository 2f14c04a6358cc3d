#pragma once
// The pickle that torch.save writes for a dict of tensors (protocol 2), read without running
// anything: a fixed set of opcodes, a fixed list of globals that stand for what they would make,
// no recursion. The tensors' bytes are elsewhere (bin_weights.h).

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace heddle {

/// What a pickle may hold at most; far above every published model.
struct PickleLimits {
  static constexpr std::uint64_t kBytes = 64U << 20U;
  static constexpr std::uint64_t kTensors = 131'072;
  static constexpr std::uint64_t kTextBytes = 1024;
  static constexpr std::uint64_t kStack = 16'384;
  static constexpr std::uint64_t kMemo = 2'000'000;
  static constexpr std::uint64_t kValues = 8'000'000;   // put on the stack in all
  static constexpr std::uint64_t kObjects = 2'000'000;  // strings, tuples, dicts, storages, tensors
  static constexpr int kRank = 8;
};

/// One tensor: dense rows, somewhere in a storage that others may share.
struct PickledTensor {
  std::string name;
  std::string_view dtype_name;  // "BF16", "I64", as safetensors calls them; a constant
  std::optional<DType> dtype;   // where kernels read it: F32, F16, BF16
  int rank = 0;                 // 0: one number
  std::array<std::int64_t, PickleLimits::kRank> dims = {};
  std::string storage;              // its key
  std::uint64_t storage_bytes = 0;  // what the storage must have
  std::uint64_t offset = 0;         // in the storage, in bytes
  std::uint64_t bytes = 0;          // offset + bytes <= storage_bytes
};

/// The tensors of a pickled dict or OrderedDict, in its order. Throws kBadInput, one line:
/// "SOURCE: pickle: WHAT, got X, allowed Y". Time and memory are bounded by PickleLimits.
std::vector<PickledTensor> read_pickled_tensors(std::span<const std::byte> pickle,
                                                const std::string& source);

}  // namespace heddle
