#include "models/bin_weights.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/shard_index.h"
#include "models/zip_archive.h"

namespace heddle {
namespace {

constexpr std::size_t kIndexBytes = 128U << 20U;
constexpr std::string_view kPickle = "data.pkl";

std::string_view bytes_of(const ZipEntry& entry, std::span<const std::byte> file) {
  return {reinterpret_cast<const char*>(file.data()) + entry.offset, entry.bytes};
}

/// "NAME/" of the one NAME/data.pkl.
std::string folder_in(const ZipArchive& archive) {
  const std::string source = archive.source();
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& entry : archive.entries()) {
    const std::size_t slash = entry.name.find('/');
    if (slash == std::string::npos || entry.name.substr(slash + 1) != kPickle) continue;
    if (pickle != nullptr) {
      throw bad_input(fmt::format("{}: zip_archive: pickle, got {} and {}, allowed one", source,
                                  quote_text(pickle->name), quote_text(entry.name)));
    }
    pickle = &entry;
  }
  if (pickle == nullptr) {
    throw bad_input(
        fmt::format("{}: zip_archive: entries, got no NAME/{} among {}, allowed those that "
                    "torch.save writes",
                    source, kPickle, archive.entries().size()));
  }
  return pickle->name.substr(0, pickle->name.size() - kPickle.size());
}

void check_byte_order(const ZipArchive& archive,
                      const std::string& folder,
                      std::span<const std::byte> file) {
  const ZipEntry* const entry = archive.find(folder + "byteorder");
  if (entry == nullptr || bytes_of(*entry, file) == "little") return;
  throw bad_input(fmt::format("{}: zip_archive: {}byteorder, got {}, allowed 'little'",
                              archive.source(), folder, quote_text(bytes_of(*entry, file))));
}

}  // namespace

std::vector<BinTensor> read_bin(std::span<const std::byte> file, const std::string& source) {
  const ZipArchive archive = ZipArchive::parse(file, source);
  const std::string folder = folder_in(archive);
  check_byte_order(archive, folder, file);
  const ZipEntry& pickle = *archive.find(folder + std::string(kPickle));
  std::vector<BinTensor> tensors;
  for (PickledTensor& tensor :
       read_pickled_tensors(file.subspan(pickle.offset, pickle.bytes), source)) {
    const std::string name = folder + "data/" + tensor.storage;
    const ZipEntry* const storage = archive.find(name);
    if (storage == nullptr) {
      throw bad_input(fmt::format("{}: pickle: storage of {}, got no entry {}, allowed one", source,
                                  quote_text(tensor.name), quote_text(name)));
    }
    if (storage->bytes != tensor.storage_bytes) {
      throw bad_input(fmt::format("{}: pickle: bytes of {}, got {}, allowed {} (the storage of {})",
                                  source, quote_text(name), storage->bytes, tensor.storage_bytes,
                                  quote_text(tensor.name)));
    }
    tensors.push_back({std::move(tensor.name),
                       tensor.dtype_name,
                       tensor.dtype,
                       {tensor.dims.begin(), tensor.dims.begin() + tensor.rank},
                       storage->offset + tensor.offset,
                       tensor.bytes});
  }
  return tensors;
}

bool BinWeights::chosen(const Folder& folder) {
  const std::vector<std::string> files = folder.names();
  const auto any = [&](const WeightFileNames& names) {
    return folder.has(names.single()) || folder.has(names.index()) ||
           !first_shard(files, names).empty();
  };
  return any(kBinNames) && !any(kSafetensorsNames);
}

std::unique_ptr<BinWeights> BinWeights::open(const Folder& folder) {
  const std::string single = kBinNames.single();
  const bool sharded = folder.has(kBinNames.index());
  if (!sharded && !folder.has(single)) {
    throw bad_input(fmt::format("{}: shard_missing: got {} without {}, allowed both", folder.path(),
                                quote_text(first_shard(folder.names(), kBinNames)),
                                kBinNames.index()));
  }
  std::unique_ptr<BinWeights> weights(
      new BinWeights(sharded ? folder.path() : folder.path_of(single)));
  if (sharded) {
    weights->open_index(folder);
  } else {
    std::vector<BinTensor> tensors = weights->map_shard(folder, single);
    // Shards beside it may be a newer or an older model: which one counts cannot be known.
    check_no_other_shards({folder.path_of(single), {single}, {}, std::nullopt}, folder.names(),
                          kBinNames);
    weights->add_tensors(tensors, weights->mapped_[0]);
  }
  return weights;
}

std::vector<BinTensor> BinWeights::map_shard(const Folder& folder, const std::string& name) {
  MappedFile file = folder.map(name, "shard_path");
  std::vector<BinTensor> tensors = read_bin(file.bytes(), folder.path_of(name));
  file_bytes_ += file.bytes().size();
  files_.push_back(name);
  mapped_.push_back(keep(std::move(file)));
  return tensors;
}

void BinWeights::open_index(const Folder& folder) {
  const std::string name = kBinNames.index();
  const ShardIndex index =
      parse_shard_index(folder.read(name, kIndexBytes, "shard_path"), folder.path_of(name));
  const std::vector<std::string> files = folder.names();
  check_all_there(index, files);
  check_no_other_shards(index, files, kBinNames);
  std::vector<std::vector<BinTensor>> shards;
  std::vector<std::vector<std::string_view>> names;
  for (const std::string& shard : index.shards) {
    shards.push_back(map_shard(folder, shard));
    std::vector<std::string_view>& own = names.emplace_back();
    for (const BinTensor& tensor : shards.back()) own.push_back(tensor.name);
  }
  check_shards(index, names);
  for (std::size_t i = 0; i < shards.size(); ++i) add_tensors(shards[i], mapped_[i]);
}

void BinWeights::add_tensors(std::vector<BinTensor>& tensors, std::span<const std::byte> file) {
  for (BinTensor& tensor : tensors) {
    add(stored_tensor(std::move(tensor.name), tensor.dtype_name, tensor.dtype, tensor.dims,
                      file.subspan(tensor.offset, tensor.bytes)));
  }
}

}  // namespace heddle
