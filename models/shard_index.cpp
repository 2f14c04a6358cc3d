#include "models/shard_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "base/checked_size.h"
#include "base/error.h"
#include "base/json.h"
#include "models/folder.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr std::size_t kMaxShards = 4096;

Error mismatch(const std::string& source, const std::string& text) {
  return bad_input(fmt::format("{}: index_mismatch: {}", source, text));
}

/// Integers, and what some writers make of them: 5.5e9.
std::optional<std::uint64_t> total_size(const Json& document, const std::string& source) {
  const auto metadata = document.find("metadata");
  if (metadata == document.end()) return std::nullopt;
  if (!metadata->is_object())
    throw mismatch(source, "metadata, got another form, allowed an object");
  const auto total = metadata->find("total_size");
  if (total == metadata->end()) return std::nullopt;
  if (total->is_number_unsigned()) return total->get<std::uint64_t>();
  const double value = total->is_number_float() ? total->get<double>() : -1.0;
  if (!(value >= 0.0 && value < 9e15 && std::floor(value) == value)) {
    throw mismatch(source, fmt::format("metadata.total_size, got {}, allowed a number of bytes",
                                       total->is_primitive() ? total->dump() : "another form"));
  }
  return static_cast<std::uint64_t>(value);
}

bool digits(std::string_view text) {
  return text.size() >= 5 && text.size() <= 9 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::optional<std::string_view> shard_prefix(std::string_view name, std::string_view extension) {
  if (name.size() < extension.size() || name.substr(name.size() - extension.size()) != extension) {
    return std::nullopt;
  }
  name.remove_suffix(extension.size());
  const std::size_t of = name.rfind("-of-");
  if (of == std::string_view::npos || of == 0 || !digits(name.substr(of + 4))) return std::nullopt;
  const std::size_t number = name.rfind('-', of - 1);
  if (number == std::string_view::npos || !digits(name.substr(number + 1, of - number - 1))) {
    return std::nullopt;
  }
  return name.substr(0, number);
}

ShardIndex parse_shard_index(std::string_view text, const std::string& source) {
  const Json document =
      parse_json(text, source + ": index_mismatch", {.depth = 16, .nodes = 1'000'000});
  const auto map = document.is_object() ? document.find("weight_map") : document.end();
  if (map == document.end() || !map->is_object() || map->empty()) {
    throw mismatch(source,
                   "weight_map, got nothing, allowed an object that names each tensor's file");
  }
  ShardIndex index;
  index.source = source;
  index.total_bytes = total_size(document, source);
  std::map<std::string, std::size_t> shards;
  for (const auto& [tensor, value] : map->items()) {
    if (!value.is_string() || !Folder::plain(value.get_ref<const std::string&>())) {
      throw bad_input(fmt::format(
          "{}: shard_path: of tensor {}, got {}, allowed the plain name of a file in the folder",
          source, quote_text(tensor),
          value.is_string() ? quote_text(value.get_ref<const std::string&>()) : "no string"));
    }
    shards.emplace(value.get<std::string>(), 0);
    if (shards.size() > kMaxShards) {
      throw mismatch(source, fmt::format("shards, got more than {}, allowed up to {}", kMaxShards,
                                         kMaxShards));
    }
  }
  for (auto& [name, position] : shards) {
    position = index.shards.size();
    index.shards.push_back(name);
  }
  for (const auto& [tensor, value] : map->items()) {
    index.tensors.emplace_back(tensor, shards.at(value.get_ref<const std::string&>()));
  }
  std::sort(index.tensors.begin(), index.tensors.end());
  return index;
}

void check_shards(const ShardIndex& index, std::span<const std::vector<std::string_view>> shards) {
  std::unordered_map<std::string_view, std::size_t> found;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const std::string_view tensor : shards[i]) {
      const auto [at, is_new] = found.emplace(tensor, i);
      if (is_new) continue;
      throw mismatch(
          index.source,
          fmt::format("tensor {}, got it in {} and in {}, allowed once", quote_text(tensor),
                      quote_text(index.shards[at->second]), quote_text(index.shards[i])));
    }
  }
  for (const auto& [name, shard] : index.tensors) {
    const auto at = found.find(name);
    if (at == found.end() || at->second != shard) {
      throw mismatch(
          index.source,
          fmt::format(
              "tensor {}, got {}, allowed {} (as weight_map says)", quote_text(name),
              at == found.end() ? "no file that has it" : quote_text(index.shards[at->second]),
              quote_text(index.shards[shard])));
    }
    found.erase(at);
  }
  if (!found.empty()) {
    const auto first = std::min_element(found.begin(), found.end());
    throw mismatch(index.source,
                   fmt::format("tensor {} of {}, got no entry in weight_map, allowed one ({} such)",
                               quote_text(first->first), quote_text(index.shards[first->second]),
                               found.size()));
  }
}

void check_shards(const ShardIndex& index, std::span<const SafetensorsDirectory> shards) {
  std::vector<std::vector<std::string_view>> names(shards.size());
  CheckedSize bytes = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const SafetensorsTensor& tensor : shards[i].tensors()) {
      names[i].push_back(tensor.name);
      bytes = checked_add(bytes, tensor.bytes);
    }
  }
  check_shards(index, names);
  if (index.total_bytes && index.total_bytes != bytes) {
    throw mismatch(index.source,
                   fmt::format("metadata.total_size, got {}, allowed {} (the bytes of "
                               "all tensors)",
                               *index.total_bytes, bytes.value_or(0)));
  }
}

void check_all_there(const ShardIndex& index, std::span<const std::string> files) {
  for (const std::string& shard : index.shards) {
    if (std::binary_search(files.begin(), files.end(), shard)) continue;
    throw bad_input(fmt::format("{}: shard_missing: got no file {}, allowed all {} that it names",
                                index.source, quote_text(shard), index.shards.size()));
  }
}

std::string first_shard(std::span<const std::string> files, const WeightFileNames& names) {
  for (const std::string& file : files) {
    if (shard_prefix(file, names.extension) == names.stem) return file;
  }
  return "";
}

void check_no_other_shards(const ShardIndex& index,
                           std::span<const std::string> files,
                           const WeightFileNames& names) {
  std::set<std::string, std::less<>> prefixes = {std::string(names.stem)};
  for (const std::string& shard : index.shards) {
    if (const auto prefix = shard_prefix(shard, names.extension)) prefixes.emplace(*prefix);
  }
  for (const std::string& file : files) {
    const auto prefix = shard_prefix(file, names.extension);
    const bool like_a_shard = prefix ? prefixes.count(*prefix) > 0 : file == names.single();
    if (!like_a_shard) continue;
    if (std::binary_search(index.shards.begin(), index.shards.end(), file)) continue;
    throw mismatch(index.source, fmt::format("shards, got a file {} that weight_map does not name, "
                                             "allowed exactly the {} it names",
                                             quote_text(file), index.shards.size()));
  }
}

}  // namespace heddle
