// The header of a safetensors file and the index of its shards against hostile bytes. Beyond "no
// crash": nothing but heddle::Error escapes, in one line; what is accepted fills the file without a
// gap; a file written from what was read is read as the same. A file that begins with '{' is taken
// for an index. The mutator breaks one field of a valid header, so that inputs pass the length and
// the JSON.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/folder.h"
#include "models/safetensors.h"
#include "models/shard_index.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/safetensors_writer.h"

namespace heddle {
namespace {

using fuzz::only_our_errors;
using fuzz::pick;
using fuzz::replace_input;
using fuzz::require;
using fuzz::Rng;
using test::SafetensorsDoc;
using test::SafetensorsEntry;

void check_ranges(const SafetensorsDirectory& file, std::size_t size) {
  std::uint64_t end = file.header_bytes();
  for (const SafetensorsTensor& tensor : file.tensors()) {
    require(tensor.offset == end && tensor.bytes > 0 && tensor.bytes <= size - end);
    require(tensor.rank >= 0 && tensor.rank <= SafetensorsLimits::kRank);
    std::uint64_t elements = 1;
    for (int i = 0; i < tensor.rank; ++i) {
      require(tensor.dims[static_cast<std::size_t>(i)] > 0);
      elements *= static_cast<std::uint64_t>(tensor.dims[static_cast<std::size_t>(i)]);
    }
    if (tensor.dtype) {
      require(elements * static_cast<std::uint64_t>(info(*tensor.dtype).block_bytes) ==
              tensor.bytes);
    }
    end += tensor.bytes;
  }
  require(end == size);
}

/// The file as parts that serialise() turns into bytes again.
SafetensorsDoc document_of(const SafetensorsDirectory& file, std::string_view bytes) {
  SafetensorsDoc doc;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    const std::vector<std::int64_t> shape(tensor.dims.begin(), tensor.dims.begin() + tensor.rank);
    doc.add(tensor.name, std::string(tensor.dtype_name), shape,
            bytes.substr(tensor.offset, tensor.bytes));
  }
  return doc;
}

bool same(const SafetensorsDirectory& a, const SafetensorsDirectory& b) {
  return std::equal(a.tensors().begin(), a.tensors().end(), b.tensors().begin(), b.tensors().end(),
                    [](const SafetensorsTensor& x, const SafetensorsTensor& y) {
                      return x.name == y.name && x.dtype_name == y.dtype_name && x.rank == y.rank &&
                             x.dims == y.dims && x.bytes == y.bytes;
                    });
}

void read_index(std::string_view text) {
  std::optional<ShardIndex> index;
  only_our_errors([&] { index = parse_shard_index(text, "x"); });
  if (!index) return;
  require(std::is_sorted(index->shards.begin(), index->shards.end()));
  for (const std::string& shard : index->shards) require(Folder::plain(shard));
  for (const auto& [name, shard] : index->tensors) require(shard < index->shards.size());
  const std::vector<std::string> names = {"model.safetensors", "model-00001-of-00002.safetensors"};
  only_our_errors([&] { check_no_other_shards(*index, names); });
  SafetensorsDoc doc;
  doc.add("a", "U8", {1}, "x");
  const std::string file = doc.serialise();
  const std::vector<SafetensorsDirectory> shards(
      index->shards.size(), SafetensorsDirectory::parse(std::as_bytes(std::span(file)), "s"));
  only_our_errors([&] { check_shards(*index, shards); });
}

// --- mutation

std::string odd_number(Rng& rng) {
  static const std::vector<std::string> kOdd = {"0",
                                                "1",
                                                "-1",
                                                "7",
                                                "4294967296",
                                                "9223372036854775807",
                                                "9223372036854775808",
                                                "18446744073709551615",
                                                "18446744073709551608",
                                                "18446744073709551616",
                                                "1e3",
                                                "2.0",
                                                "\"2\"",
                                                "null",
                                                "[]",
                                                "{}",
                                                "true"};
  return kOdd[pick(rng, kOdd.size())];
}

void change_bytes(std::string& bytes) {
  const std::size_t size = bytes.size();
  bytes.resize(size + 16);
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, bytes.size()));
}

/// One number of a JSON array, or the whole of it.
void change_array(Rng& rng, std::string& array) {
  const std::size_t begin = array.find_first_of("0123456789");
  if (begin == std::string::npos || pick(rng, 4) == 0) {
    array =
        pick(rng, 2) == 0 ? odd_number(rng) : "[" + odd_number(rng) + "," + odd_number(rng) + "]";
    return;
  }
  const std::size_t at = pick(rng, 2) == 0 ? begin : array.find_last_of("0123456789");
  const std::size_t stop = std::min(array.find_first_not_of("0123456789", at), array.size());
  array.replace(at, stop - at, odd_number(rng));
}

void change_document(Rng& rng, SafetensorsDoc& doc) {
  if (doc.tensors.empty()) doc.add("a", "F32", {1}, "aaaa");
  SafetensorsEntry& tensor = doc.tensors[pick(rng, doc.tensors.size())];
  static const std::vector<std::string> kTypes = {"F32", "F16",     "BF16",    "I64", "U8",
                                                  "F4",  "F6_E2M3", "F8_E4M3", "Q4"};
  switch (pick(rng, 11)) {
    case 0:
      tensor.dtype = "\"" + kTypes[pick(rng, kTypes.size())] + "\"";
      break;
    case 1:
      change_array(rng, tensor.shape);
      break;
    case 2:
      change_array(rng, tensor.offsets);
      break;
    case 3:
      tensor.name = doc.tensors[pick(rng, doc.tensors.size())].name;
      break;
    case 4:
      change_bytes(tensor.name);
      break;
    case 5:
      tensor.more = pick(rng, 2) == 0 ? ",\"dtype\":\"F32\"" : ",\"x\":" + odd_number(rng);
      break;
    case 6:
      doc.metadata = pick(rng, 2) == 0 ? "{\"format\":\"pt\"}" : odd_number(rng);
      break;
    case 7:
      doc.data.resize(pick(rng, doc.data.size() + 16));
      break;
    case 8:
      doc.add(std::string(1, static_cast<char>('a' + pick(rng, 26))),
              kTypes[pick(rng, kTypes.size())], {static_cast<std::int64_t>(pick(rng, 9))},
              std::string(pick(rng, 33), 'x'));
      break;
    case 9:
      doc.header_bytes = doc.header_text().size() + pick(rng, 17) - 8;
      break;
    default:
      doc.padding = pick(rng, 9);
      doc.header = doc.header_text();
      change_bytes(*doc.header);
  }
}

}  // namespace
}  // namespace heddle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heddle;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!text.empty() && text[0] == '{') {
    read_index(text);
    return 0;
  }
  std::optional<SafetensorsDirectory> file;
  only_our_errors(
      [&] { file = SafetensorsDirectory::parse(std::as_bytes(std::span(data, size)), "x"); });
  if (!file) return 0;
  check_ranges(*file, size);
  const std::string written = document_of(*file, text).serialise();
  require(same(*file, SafetensorsDirectory::parse(std::as_bytes(std::span(written)), "x")));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                               std::size_t size,
                                               std::size_t max_size,
                                               unsigned int seed) {
  using namespace heddle;
  Rng rng(seed);
  if (pick(rng, 8) == 0 || (size > 0 && data[0] == '{')) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  SafetensorsDoc doc;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    doc = document_of(SafetensorsDirectory::parse(std::as_bytes(std::span(bytes)), "x"), bytes);
  } catch (const Error&) {
    // Broken already: break it further, or begin again from a valid one.
    if (pick(rng, 2) == 0) return LLVMFuzzerMutate(data, size, max_size);
    doc.add("a", "F32", {2, 3}, std::string(24, 'a'));
    doc.add("b", "BF16", {4}, std::string(8, 'b'));
    doc.add("c", "I64", {}, std::string(8, 'c'));
  }
  for (std::size_t n = 1 + pick(rng, 3); n > 0; --n) change_document(rng, doc);
  return replace_input(data, size, max_size, doc.serialise());
}
