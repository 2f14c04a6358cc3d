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

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::size_t kIndexBytes = 128U << 20U;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// For a folder without weights that can be read: what it has instead.
Error no_weights(const Folder& folder) {
  const std::vector<std::string> names = folder.names();
  const auto first = [&](auto matches) {
    const auto at = std::find_if(names.begin(), names.end(), matches);
    return at == names.end() ? std::string() : *at;
  };
  const std::string shard = first([](const std::string& name) {
    return shard_prefix(name, ".safetensors").value_or("") == "model";
  });
  if (!shard.empty()) {
    return bad_input(fmt::format("{}: shard_missing: got {} without {}, allowed both",
                                 folder.path(), quote_text(shard), kIndex));
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
  return bad_input(fmt::format("{}: shard_missing: weights, got {}, allowed {} or {}",
                               folder.path(), found, kSingle, kIndex));
}

StoredTensor stored(const SafetensorsTensor& tensor, std::span<const std::byte> file) {
  StoredTensor out;
  out.name = tensor.name;
  const std::byte* const data = file.data() + tensor.offset;
  if (!tensor.dtype || tensor.rank > TensorView::kMaxRank) {
    out.foreign = tensor.dtype ? fmt::format("{} of rank {}", tensor.dtype_name, tensor.rank)
                               : std::string(tensor.dtype_name);
    out.view = TensorView(data, DType::kU8, {static_cast<std::int64_t>(tensor.bytes)});
    if (tensor.dtype_name == "U8" && tensor.rank > 0 && tensor.rank <= TensorView::kMaxRank) {
      out.view.rank = tensor.rank;
      std::copy_n(tensor.dims.begin(), tensor.rank, out.view.dims.begin());
    }
    return out;
  }
  out.view = TensorView(data, *tensor.dtype, {});
  out.view.rank = tensor.rank;
  std::copy_n(tensor.dims.begin(), tensor.rank, out.view.dims.begin());
  return out;
}

}  // namespace

std::unique_ptr<FolderWeights> FolderWeights::open(const Folder& folder) {
  const bool sharded = folder.has(kIndex);
  if (!sharded && !folder.has(kSingle)) throw no_weights(folder);
  std::unique_ptr<FolderWeights> weights(
      new FolderWeights(sharded ? folder.path() : folder.path_of(kSingle)));
  if (sharded) {
    weights->open_index(folder);
  } else {
    const SafetensorsDirectory directory = weights->map_shard(folder, kSingle);
    // Shards beside it may be a newer or an older model: which one counts cannot be known.
    check_no_other_shards({folder.path_of(kSingle), {kSingle}, {}, std::nullopt}, folder.names());
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
  const std::string source = folder.path_of(kIndex);
  const ShardIndex index =
      parse_shard_index(folder.read(kIndex, kIndexBytes, "shard_path"), source);
  for (const std::string& shard : index.shards) {
    if (folder.has(shard)) continue;
    throw bad_input(fmt::format("{}: shard_missing: got no file {}, allowed all {} that it names",
                                source, quote_text(shard), index.shards.size()));
  }
  check_no_other_shards(index, folder.names());
  std::vector<SafetensorsDirectory> shards;
  for (const std::string& shard : index.shards) shards.push_back(map_shard(folder, shard));
  check_shards(index, shards);
  for (std::size_t i = 0; i < shards.size(); ++i) add_tensors(shards[i], mapped_[i]);
}

void FolderWeights::add_tensors(const SafetensorsDirectory& directory,
                                std::span<const std::byte> bytes) {
  for (const SafetensorsTensor& tensor : directory.tensors()) add(stored(tensor, bytes));
}

}  // namespace heddle
