#pragma once
// Cuts a GGUF document into the parts of a split model.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/gguf_writer.h"

namespace heddle::test {

inline std::string part_name(const std::string& prefix, std::size_t part, std::size_t n_parts) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, part + 1, n_parts);
}

/// The first part keeps all keys; the tensors are dealt out in runs. Every tensor of `whole` must
/// be F32.
inline std::vector<GgufDoc> split_gguf(const GgufDoc& whole, std::size_t n_parts) {
  std::vector<GgufDoc> parts(n_parts);
  parts[0].keys = whole.keys;
  const std::size_t run = (whole.tensors.size() + n_parts - 1) / n_parts;
  for (std::size_t i = 0; i < n_parts; ++i) {
    parts[i].set<std::uint16_t>("split.no", static_cast<std::uint16_t>(i));
    parts[i].set<std::uint16_t>("split.count", static_cast<std::uint16_t>(n_parts));
    parts[i].set<std::int32_t>("split.tensors.count",
                               static_cast<std::int32_t>(whole.tensors.size()));
    for (std::size_t t = i * run; t < std::min((i + 1) * run, whole.tensors.size()); ++t) {
      const GgufTensorInfo& tensor = whole.tensors[t];
      std::size_t bytes = 4;
      for (const std::uint64_t dim : tensor.dims) bytes *= dim;
      parts[i].add_tensor(tensor.name, tensor.dims, DType::kF32,
                          std::string_view(whole.data).substr(tensor.offset, bytes));
    }
  }
  return parts;
}

}  // namespace heddle::test
