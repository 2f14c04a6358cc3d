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

/// How a container's files are called: STEM.EXTENSION, or STEM-00001-of-00003.EXTENSION and
/// STEM.EXTENSION.index.json.
struct WeightFileNames {
  std::string_view stem, extension;
  std::string single() const { return std::string(stem).append(extension); }
  std::string index() const { return single() + ".index.json"; }
};
constexpr WeightFileNames kSafetensorsNames = {"model", ".safetensors"};
constexpr WeightFileNames kBinNames = {"pytorch_model", ".bin"};

/// Throws kBadInput ("SOURCE: index_mismatch: ...") unless the shards, in the index's order, hold
/// exactly the tensors that the index says, of as many bytes in all.
void check_shards(const ShardIndex& index, std::span<const SafetensorsDirectory> shards);
/// The same by the tensors' names alone, each once per shard.
void check_shards(const ShardIndex& index, std::span<const std::vector<std::string_view>> shards);

/// Throws kBadInput ("SOURCE: index_mismatch: ...") if one of `files` looks like a shard of the
/// same model ("model-00003-of-00003.safetensors", "model.safetensors") and the index does not name
/// it.
void check_no_other_shards(const ShardIndex& index,
                           std::span<const std::string> files,
                           const WeightFileNames& names = kSafetensorsNames);
/// The first of `files` that is a shard by its name; "": none is.
std::string first_shard(std::span<const std::string> files, const WeightFileNames& names);
/// Throws kBadInput ("SOURCE: shard_missing: ...") unless `files`, sorted, has every shard of the
/// index.
void check_all_there(const ShardIndex& index, std::span<const std::string> files);

/// The "model" of "model-00001-of-00003.safetensors"; nullopt for other names.
std::optional<std::string_view> shard_prefix(std::string_view name, std::string_view extension);

}  // namespace heddle
