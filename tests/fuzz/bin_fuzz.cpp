// PyTorch's .bin files against hostile bytes: the zip archive and the pickle in it. Beyond "no
// crash": nothing but heddle::Error escapes, in one line; what is accepted lies in the file, has a
// dense shape of its bytes and names that are unique; a file written from what was read is read as
// the same. The mutator breaks one field of a valid archive, one part of a tensor or some bytes of
// the pickle, so that inputs pass the archive's many offsets.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/bin_weights.h"
#include "models/zip_archive.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/bin_writer.h"

namespace heddle {
namespace {

using fuzz::only_our_errors;
using fuzz::pick;
using fuzz::replace_input;
using fuzz::require;
using fuzz::Rng;
using test::BinDoc;
using test::BinPart;
using test::PickleText;
using test::ZipDoc;
using test::ZipPart;

const std::vector<std::string>& storage_types() {
  static const std::vector<std::string> kTypes = {
      "BFloat16Storage", "HalfStorage",  "FloatStorage", "DoubleStorage", "LongStorage",
      "IntStorage",      "ShortStorage", "CharStorage",  "ByteStorage",   "BoolStorage"};
  return kTypes;
}

std::string storage_type(std::string_view dtype_name) {
  static const std::vector<std::string_view> kNames = {"BF16", "F16", "F32", "F64", "I64",
                                                       "I32",  "I16", "I8",  "U8",  "BOOL"};
  const auto at = std::find(kNames.begin(), kNames.end(), dtype_name);
  require(at != kNames.end());
  return storage_types()[static_cast<std::size_t>(at - kNames.begin())];
}

void check_tensors(const std::vector<BinTensor>& tensors, std::size_t size) {
  std::set<std::string> names;
  for (const BinTensor& tensor : tensors) {
    require(!tensor.name.empty() && names.insert(tensor.name).second);
    require(tensor.offset <= size && tensor.bytes <= size - tensor.offset);
    auto bytes = static_cast<std::uint64_t>(BinDoc::element_bytes(storage_type(tensor.dtype_name)));
    for (const std::int64_t dim : tensor.dims) {
      require(dim > 0 && tensor.dims.size() <= PickleLimits::kRank);
      bytes *= static_cast<std::uint64_t>(dim);
    }
    require(bytes == tensor.bytes);
  }
}

void check_archive(const ZipArchive& archive, std::size_t size) {
  std::uint64_t end = 0;
  for (const ZipEntry& entry : archive.entries()) {
    require(entry.offset >= end && entry.bytes <= size - entry.offset);
    require(archive.find(entry.name) == &entry);
    end = entry.offset + entry.bytes;
  }
}

/// The file as parts that serialise() turns into bytes again; tensors no longer share storages.
BinDoc document_of(const std::vector<BinTensor>& tensors, std::string_view bytes) {
  BinDoc doc;
  std::size_t copied = 0;
  for (const BinTensor& tensor : tensors) {
    if ((copied += tensor.bytes) > (1U << 20U)) break;
    doc.add(tensor.name, storage_type(tensor.dtype_name), tensor.dims,
            std::string(bytes.substr(tensor.offset, tensor.bytes)));
  }
  return doc;
}

bool same(const std::vector<BinTensor>& a, const std::vector<BinTensor>& b) {
  return std::equal(a.begin(),
                    a.begin() + static_cast<std::ptrdiff_t>(std::min(a.size(), b.size())),
                    b.begin(), b.end(), [](const BinTensor& x, const BinTensor& y) {
                      return x.name == y.name && x.dtype_name == y.dtype_name && x.dims == y.dims &&
                             x.bytes == y.bytes;
                    });
}

// --- mutation

void change_bytes(std::string& bytes) {
  const std::size_t size = bytes.size();
  bytes.resize(size + 16);
  bytes.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, bytes.size()));
}

std::int64_t odd_number(Rng& rng) {
  static const std::vector<std::int64_t> kOdd = {
      0, 1, -1, 2, 3, 255, 256, 65536, 1LL << 31U, 1LL << 32U, INT64_MAX, INT64_MIN};
  return kOdd[pick(rng, kOdd.size())];
}

void change_tensor(Rng& rng, BinPart& part) {
  switch (pick(rng, 7)) {
    case 0:
      part.type = storage_types()[pick(rng, storage_types().size())];
      break;
    case 1:
      part.key = std::to_string(pick(rng, 4));
      break;
    case 2:
      part.storage_elements = odd_number(rng);
      break;
    case 3:
      part.offset = odd_number(rng);
      break;
    case 4:
      if (!part.shape.empty()) part.shape[pick(rng, part.shape.size())] = odd_number(rng);
      break;
    case 5:
      if (!part.strides.empty()) part.strides[pick(rng, part.strides.size())] = odd_number(rng);
      break;
    default:
      part.shape.push_back(1);
      part.strides.push_back(odd_number(rng));
  }
}

void change_document(Rng& rng, BinDoc& doc) {
  if (doc.tensors.empty()) doc.add("a", "FloatStorage", {2, 3}, std::string(24, 'a'));
  BinPart& part = doc.tensors[pick(rng, doc.tensors.size())];
  switch (pick(rng, 8)) {
    case 0:
      change_bytes(part.name);
      break;
    case 1:
      doc.ordered = !doc.ordered;
      doc.metadata = pick(rng, 2) == 0;
      break;
    case 2:
      doc.one_by_one = true;
      doc.memo = pick(rng, 2) == 0 ? PickleText::Memo::kNone : PickleText::Memo::kLong;
      break;
    case 3:
      part.parameter = true;
      break;
    case 4: {
      BinPart tied = part;
      tied.name += "'";
      doc.tensors.push_back(tied);
      break;
    }
    case 5:
      doc.pickle = doc.pickle_text();
      change_bytes(*doc.pickle);
      break;
    default:
      change_tensor(rng, part);
  }
}

void change_archive(Rng& rng, ZipDoc& zip) {
  ZipPart& part = zip.parts[pick(rng, zip.parts.size())];
  const auto odd = static_cast<std::uint64_t>(odd_number(rng));
  switch (pick(rng, 13)) {
    case 0:
      zip.sizes_behind = false;
      break;
    case 1:
      zip.all64 = true;
      break;
    case 2:
      zip.zip64 = false;
      break;
    case 3:
      part.bytes = part.packed = odd;
      break;
    case 4:
      part.offset = odd;
      break;
    case 5:
      part.own_bytes = odd;
      break;
    case 6:
      (pick(rng, 2) == 0 ? part.extra : part.own_extra) = std::string(pick(rng, 30), '\1');
      break;
    case 7:
      part.name = zip.parts[pick(rng, zip.parts.size())].name;
      break;
    case 8:
      zip.directory = odd;
      break;
    case 9:
      zip.directory_bytes = odd;
      break;
    case 10:
      zip.entries = odd;
      break;
    case 11:
      zip.end64 = odd;
      break;
    default:
      part.method = static_cast<std::uint16_t>(odd);
  }
}

}  // namespace
}  // namespace heddle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heddle;
  const auto bytes = std::as_bytes(std::span(data, size));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  only_our_errors([&] { check_archive(ZipArchive::parse(bytes, "x"), size); });
  std::optional<std::vector<BinTensor>> tensors;
  only_our_errors([&] { tensors = read_bin(bytes, "x"); });
  // The pickle alone: what follows the archive's first bytes need not be one.
  only_our_errors([&] { read_pickled_tensors(bytes, "x"); });
  if (!tensors) return 0;
  check_tensors(*tensors, size);
  const std::string written = document_of(*tensors, text).serialise();
  require(same(*tensors, read_bin(std::as_bytes(std::span(written)), "x")));
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                               std::size_t size,
                                               std::size_t max_size,
                                               unsigned int seed) {
  using namespace heddle;
  Rng rng(seed);
  if (pick(rng, 8) == 0 || (size > 0 && data[0] == 0x80)) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  BinDoc doc;
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  try {
    doc = document_of(read_bin(std::as_bytes(std::span(bytes)), "x"), bytes);
  } catch (const Error&) {
    // Broken already: break it further, or begin again from a valid one.
    if (pick(rng, 2) == 0) return LLVMFuzzerMutate(data, size, max_size);
    doc.add("a", "FloatStorage", {2, 3}, std::string(24, 'a'));
    doc.add("b", "BFloat16Storage", {4}, std::string(8, 'b'));
    doc.add("c", "LongStorage", {}, std::string(8, 'c'));
  }
  for (std::size_t n = 1 + pick(rng, 3); n > 0; --n) change_document(rng, doc);
  ZipDoc zip = doc.zip();
  if (pick(rng, 3) == 0) change_archive(rng, zip);
  return replace_input(data, size, max_size, zip.serialise());
}
