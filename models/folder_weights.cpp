#include "models/folder_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/shard_index.h"

namespace heddle {
namespace {

constexpr std::size_t kIndexBytes = 128U << 20U;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// For a folder without weights that can be read: what it has instead.
Error no_weights(const Folder& folder, bool bin_allowed) {
  const std::vector<std::string> names = folder.names();
  const auto first = [&](auto matches) {
    const auto at = std::find_if(names.begin(), names.end(), matches);
    return at == names.end() ? std::string() : *at;
  };
  const std::string shard = first_shard(names, kSafetensorsNames);
  if (!shard.empty()) {
    return bad_input(fmt::format("{}: shard_missing: got {} without {}, allowed both",
                                 folder.path(), quote_text(shard), kSafetensorsNames.index()));
  }
  const std::string pickle = first([](const std::string& name) {
    return ends_with(name, ".bin") || ends_with(name, ".pth") || ends_with(name, ".pt");
  });
  std::string found;
  if (!pickle.empty()) {
    found = fmt::format("{}, a Python pickle (never read: it can run code)", quote_text(pickle));
  } else {
    const std::string other =
        first([](const std::string& name) { return ends_with(name, ".safetensors"); });
    found = other.empty() ? "neither" : quote_text(other);
  }
  std::string allowed =
      fmt::format("{} or {}", kSafetensorsNames.single(), kSafetensorsNames.index());
  if (bin_allowed) allowed += fmt::format(", {} or {}", kBinNames.single(), kBinNames.index());
  return bad_input(
      fmt::format("{}: shard_missing: weights, got {}, allowed {}", folder.path(), found, allowed));
}

}  // namespace

std::unique_ptr<FolderWeights> FolderWeights::open(const Folder& folder, bool bin_allowed) {
  const std::string single = kSafetensorsNames.single();
  const bool sharded = folder.has(kSafetensorsNames.index());
  if (!sharded && !folder.has(single)) throw no_weights(folder, bin_allowed);
  std::unique_ptr<FolderWeights> weights(
      new FolderWeights(sharded ? folder.path() : folder.path_of(single)));
  if (sharded) {
    weights->open_index(folder);
  } else {
    const SafetensorsDirectory directory = weights->map_shard(folder, single);
    // Shards beside it may be a newer or an older model: which one counts cannot be known.
    check_no_other_shards({folder.path_of(single), {single}, {}, std::nullopt}, folder.names());
    weights->add_tensors(directory, weights->mapped_[0]);
  }
  return weights;
}

SafetensorsDirectory FolderWeights::map_shard(const Folder& folder, const std::string& name) {
  MappedFile file = folder.map(name, "shard_path");
  SafetensorsDirectory directory = SafetensorsDirectory::parse(file.bytes(), folder.path_of(name));
  file.release(0, directory.header_bytes());
  file_bytes_ += file.bytes().size();
  files_.push_back(name);
  mapped_.push_back(keep(std::move(file)));
  return directory;
}

void FolderWeights::open_index(const Folder& folder) {
  const std::string name = kSafetensorsNames.index();
  const ShardIndex index =
      parse_shard_index(folder.read(name, kIndexBytes, "shard_path"), folder.path_of(name));
  const std::vector<std::string> files = folder.names();
  check_all_there(index, files);
  check_no_other_shards(index, files);
  std::vector<SafetensorsDirectory> shards;
  for (const std::string& shard : index.shards) shards.push_back(map_shard(folder, shard));
  check_shards(index, shards);
  for (std::size_t i = 0; i < shards.size(); ++i) add_tensors(shards[i], mapped_[i]);
}

void FolderWeights::add_tensors(const SafetensorsDirectory& directory,
                                std::span<const std::byte> bytes) {
  for (const SafetensorsTensor& tensor : directory.tensors()) {
    add(stored_tensor(tensor.name, tensor.dtype_name, tensor.dtype,
                      std::span(tensor.dims).first(static_cast<std::size_t>(tensor.rank)),
                      bytes.subspan(tensor.offset, tensor.bytes)));
  }
}

}  // namespace heddle
