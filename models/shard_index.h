#pragma once
// model.safetensors.index.json: which file of a folder holds which tensor.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/safetensors.h"

namespace heddle {

/// A parsed index. Shard names are plain names (Folder::plain), each once.
struct ShardIndex {
  std::string source;
  std::vector<std::string> shards;                           // ascending
  std::vector<std::pair<std::string, std::size_t>> tensors;  // by name; which shard
  std::optional<std::uint64_t> total_bytes;                  // metadata.total_size
};

/// Throws kBadInput: "SOURCE: index_mismatch...: ..." or "SOURCE: shard_path: ...".
ShardIndex parse_shard_index(std::string_view text, const std::string& source);

/// Throws kBadInput ("SOURCE: index_mismatch: ...") unless the shards, in the index's order, hold
/// exactly the tensors that the index says.
void check_shards(const ShardIndex& index, std::span<const SafetensorsDirectory> shards);

/// Throws kBadInput ("SOURCE: index_mismatch: ...") if one of `names` looks like a shard of the
/// same model ("model-00003-of-00003.safetensors", "model.safetensors") and the index does not name
/// it.
void check_no_other_shards(const ShardIndex& index, std::span<const std::string> names);

/// The "model" of "model-00001-of-00003.safetensors"; nullopt for other names.
std::optional<std::string_view> shard_prefix(std::string_view name, std::string_view extension);

}  // namespace heddle
