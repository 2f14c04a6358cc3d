#include "models/gguf_weights.h"

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "models/gguf_keys.h"
#include "models/quote_text.h"
#include "models/shard_index.h"

namespace heddle {
namespace {

constexpr std::string_view kExtension = ".gguf";

TensorView view_of(const GgufTensor& tensor, const std::byte* base) {
  TensorView view;
  view.data = const_cast<std::byte*>(base + tensor.offset);
  view.dims = tensor.dims;
  view.rank = tensor.rank;
  view.dtype = tensor.dtype;
  return view;
}

/// The mapping may move afterwards: the bytes stay.
GgufDirectory parse(const MappedFile& file) {
  return GgufDirectory::parse(
      file.bytes(), file.path(),
      [&file](std::size_t begin, std::size_t end) { file.release(begin, end - begin); });
}

Error error(const GgufDirectory& file, const std::string& text) {
  return bad_input(fmt::format("{}: gguf_tensor: {}", file.source(), text));
}

std::string part_name(std::string_view prefix, std::uint64_t part, std::uint64_t n_parts) {
  return fmt::format("{}-{:05}-of-{:05}{}", prefix, part + 1, n_parts, kExtension);
}

/// NAME of "NAME-00002-of-00003.gguf"; throws unless the file's keys say the same numbers.
std::string checked_prefix(const GgufDirectory& file, const std::string& name) {
  const GgufSplit& split = file.split();
  const std::string prefix(shard_prefix(name, kExtension).value_or(""));
  const std::string wanted = part_name(prefix.empty() ? "NAME" : prefix, split.part, split.n_parts);
  if (name != wanted) {
    throw error(file,
                fmt::format("file name, got {}, allowed {} (the file is part {} of {})",
                            quote_text(name), quote_text(wanted), split.part + 1, split.n_parts));
  }
  return prefix;
}

}  // namespace

std::unique_ptr<GgufWeights> GgufWeights::open(const std::string& path) {
  MappedFile file(path);
  GgufDirectory directory = parse(file);
  if (directory.split().n_parts > 1) {
    const std::filesystem::path p(path);
    const Folder folder(p.has_parent_path() ? p.parent_path().string() : ".");
    return open(folder, p.filename().string());
  }
  std::unique_ptr<GgufWeights> weights(new GgufWeights(std::move(directory)));
  weights->add_tensors(weights->directory_);
  weights->file_bytes_ = weights->keep(std::move(file)).size();
  return weights;
}

std::unique_ptr<GgufWeights> GgufWeights::open(const Folder& folder, const std::string& name) {
  MappedFile file = folder.map(name, "shard_path");
  GgufDirectory directory = parse(file);
  std::string first = name;
  if (directory.split().n_parts > 1) {
    const std::string prefix = checked_prefix(directory, name);
    first = part_name(prefix, 0, directory.split().n_parts);
    for (std::uint64_t i = 0; i < directory.split().n_parts; ++i) {
      const std::string part = part_name(prefix, i, directory.split().n_parts);
      if (folder.has(part)) continue;
      throw error(directory,
                  fmt::format("parts, got no file {}, allowed all {} of them beside {}",
                              quote_text(part), directory.split().n_parts, quote_text(name)));
    }
  }
  if (first != name) {
    file = folder.map(first, "shard_path");
    directory = parse(file);
  }
  std::unique_ptr<GgufWeights> weights(new GgufWeights(std::move(directory)));
  weights->add_tensors(weights->directory_);
  weights->file_bytes_ = weights->keep(std::move(file)).size();
  if (weights->directory_.split().n_parts > 1 || first != name) weights->add_parts(folder, first);
  return weights;
}

std::unique_ptr<GgufWeights> GgufWeights::over(std::span<const std::byte> bytes,
                                               const std::string& source) {
  std::unique_ptr<GgufWeights> weights(new GgufWeights(GgufDirectory::parse(bytes, source)));
  const GgufDirectory& file = weights->directory_;
  if (file.split().n_parts > 1) {
    throw error(file, fmt::format("split.count, got {}, allowed 1", file.split().n_parts));
  }
  weights->add_tensors(file);
  weights->file_bytes_ = bytes.size();
  return weights;
}

GgufWeights::GgufWeights(GgufDirectory directory)
    : TensorTable(directory.source()), directory_(std::move(directory)) {}

void GgufWeights::add_tensors(const GgufDirectory& part) {
  for (const GgufTensor& tensor : part.tensors()) {
    if (has(tensor.name)) {
      throw error(part,
                  fmt::format("tensor {}, got it in this and in an earlier part, allowed once",
                              quote_text(tensor.name)));
    }
    add({std::string(tensor.name), view_of(tensor, part.bytes().data())});
  }
}

/// A part that belongs to another model, or to another way of cutting this one, must not be mixed
/// in.
void GgufWeights::check_part(const GgufDirectory& part, std::uint64_t number) const {
  const GgufSplit& whole = directory_.split();
  const GgufSplit& split = part.split();
  if (split.part != number || split.n_parts != whole.n_parts) {
    throw error(part, fmt::format("split.no and split.count, got {} and {}, allowed {} and {}",
                                  split.part, split.n_parts, number, whole.n_parts));
  }
  if (split.n_tensors != whole.n_tensors) {
    throw error(part, fmt::format("split.tensors.count, got {}, allowed {} (as in {})",
                                  split.n_tensors, whole.n_tensors, directory_.source()));
  }
  const std::string_view key = "general.architecture";
  const auto own = GgufKeys(part, "gguf_tensor").text(key);
  const auto expected = GgufKeys(directory_, "gguf_tensor").text(key);
  if (own && own != expected) {
    throw error(part, fmt::format("{}, got {}, allowed {} (as in {})", key, quote_text(*own),
                                  quote_text(expected.value_or("")), directory_.source()));
  }
}

void GgufWeights::add_parts(const Folder& folder, const std::string& name) {
  const std::uint64_t n_parts = directory_.split().n_parts;
  const std::string prefix = checked_prefix(directory_, name);
  check_part(directory_, 0);
  for (std::uint64_t i = 1; i < n_parts; ++i) {
    MappedFile file = folder.map(part_name(prefix, i, n_parts), "shard_path");
    const GgufDirectory part = parse(file);
    check_part(part, i);
    add_tensors(part);
    file_bytes_ += keep(std::move(file)).size();
  }
  if (tensors().size() != directory_.split().n_tensors) {
    throw error(directory_,
                fmt::format("split.tensors.count, got {}, allowed {} (the tensors of all parts)",
                            directory_.split().n_tensors, tensors().size()));
  }
}

}  // namespace heddle
