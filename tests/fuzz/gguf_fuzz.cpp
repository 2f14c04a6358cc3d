// GGUF parser and family reader against hostile files. Beyond "no crash": nothing but
// heddle::Error escapes; what is accepted stays inside the file; a file written from what was read
// is read as the same. The mutator takes a file apart, breaks one field and puts it together again,
// so that the inputs pass the magic and the counts.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"
#include "models/gguf_checkpoint.h"
#include "models/gguf_keys.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/tiny_llama.h"

namespace heddle {
namespace {

using fuzz::only_our_errors;
using fuzz::pick;
using fuzz::replace_input;
using fuzz::require;
using fuzz::Rng;
using test::GgufDoc;

bool inside(std::span<const std::byte> part, std::span<const std::byte> whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

/// The file as parts that serialise() turns into bytes again; offsets stay relative to the data.
GgufDoc document_of(const GgufDirectory& file) {
  GgufDoc doc;
  doc.version = file.version();
  doc.alignment = file.alignment();
  for (const GgufEntry& entry : file.entries()) {
    std::string value;
    if (entry.kind == GgufKind::kArray) {
      test::append_value(value, static_cast<std::uint32_t>(entry.element));
      test::append_value(value, entry.count);
    } else if (entry.kind == GgufKind::kString) {
      test::append_value<std::uint64_t>(value, entry.payload.size());
    }
    value.append(reinterpret_cast<const char*>(entry.payload.data()), entry.payload.size());
    doc.keys.push_back({std::string(entry.key), static_cast<std::uint32_t>(entry.kind), value});
  }
  std::uint64_t first = file.bytes().size();
  std::uint64_t end = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    first = std::min(first, tensor.offset);
    end = std::max(end, tensor.offset + tensor.bytes);
  }
  for (const GgufTensor& tensor : file.tensors()) {
    test::GgufTensorInfo info;
    info.name = tensor.name;
    for (int i = tensor.rank - 1; i >= 0; --i) {
      info.dims.push_back(static_cast<std::uint64_t>(tensor.dims[static_cast<std::size_t>(i)]));
    }
    info.type = gguf_tensor_type(tensor.dtype).value();
    info.offset = tensor.offset - first;
    doc.tensors.push_back(std::move(info));
  }
  if (end > first) {
    const auto data = file.bytes().subspan(first, end - first);
    doc.data.assign(reinterpret_cast<const char*>(data.data()), data.size());
  }
  return doc;
}

void check_ranges(const GgufDirectory& file) {
  for (const GgufEntry& entry : file.entries()) {
    require(inside(entry.payload, file.bytes()));
    require(inside(std::as_bytes(std::span(entry.key)), file.bytes()));
    require(file.find(entry.key) == &entry);
    if (entry.kind == GgufKind::kArray && entry.element == GgufKind::kString) {
      for_each_string(entry, [&](std::string_view text) {
        require(inside(std::as_bytes(std::span(text)), entry.payload));
      });
    }
  }
  for (const GgufTensor& tensor : file.tensors()) {
    require(tensor.offset <= file.bytes().size());
    require(tensor.bytes <= file.bytes().size() - tensor.offset);
    require(tensor.offset % file.alignment() == 0 && tensor.rank >= 1 && tensor.rank <= 4);
    require(file.find_tensor(tensor.name) == &tensor);
  }
}

void read_every_key(const GgufDirectory& file) {
  const GgufKeys keys(file, "config");
  const IntegerRange any = {INT64_MIN, INT64_MAX};
  for (const GgufEntry& entry : file.entries()) {
    only_our_errors([&] { keys.integer(entry.key, any); });
    only_our_errors([&] { keys.uniform_integer(entry.key, any); });
    only_our_errors([&] { keys.real(entry.key); });
    only_our_errors([&] { keys.boolean(entry.key); });
    only_our_errors([&] { keys.text(entry.key); });
    only_our_errors([&] { keys.texts(entry.key); });
    only_our_errors([&] { keys.integers(entry.key); });
    only_our_errors([&] { keys.array_length(entry.key, GgufKind::kString); });
  }
}

bool same(const GgufDirectory& a, const GgufDirectory& b) {
  if (a.version() != b.version() || a.entries().size() != b.entries().size() ||
      a.tensors().size() != b.tensors().size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.entries().size(); ++i) {
    const GgufEntry& x = a.entries()[i];
    const GgufEntry& y = b.entries()[i];
    if (x.key != y.key || x.kind != y.kind || x.element != y.element || x.count != y.count ||
        !std::ranges::equal(x.payload, y.payload)) {
      return false;
    }
  }
  for (std::size_t i = 0; i < a.tensors().size(); ++i) {
    const GgufTensor& x = a.tensors()[i];
    const GgufTensor& y = b.tensors()[i];
    if (x.name != y.name || x.dims != y.dims || x.rank != y.rank || x.dtype != y.dtype ||
        !std::ranges::equal(a.bytes().subspan(x.offset, x.bytes),
                            b.bytes().subspan(y.offset, y.bytes))) {
      return false;
    }
  }
  return true;
}

/// Every decoder name must give a tensor: what the builder then relies on.
void check_checkpoint(const Checkpoint& checkpoint) {
  require(checkpoint.config.layers.size() == checkpoint.names.layers.size());
  require(checkpoint.tokenizer->vocab_size() == checkpoint.config.vocab);
  WeightStore& weights = *checkpoint.weights;
  weights.require(checkpoint.names.embedding.tensor,
                  {checkpoint.config.vocab, checkpoint.config.hidden});
  for (std::size_t i = 0; i < checkpoint.config.layers.size(); ++i) {
    const auto* const spec =
        std::get_if<SoftmaxAttentionSpec>(&checkpoint.config.layers[i].mixers.at(0));
    if (spec == nullptr) continue;
    const SoftmaxAttentionSpec& mixer = *spec;
    const auto& names = std::get<SoftmaxAttentionNames>(checkpoint.names.layers[i].mixers.at(0));
    const std::int64_t rows = std::int64_t{mixer.n_q_heads} * mixer.head_dim;
    weights.require(names.q.tensor, {names.q.of_rows, checkpoint.config.hidden});
    require(mixer.rope.inv_freq.size() == static_cast<std::size_t>(mixer.rope.rotary_dim) / 2);
    std::vector<bool> seen(static_cast<std::size_t>(rows));
    for (const std::int32_t row : names.q.row_order) {
      require(row >= 0 && row < rows && !seen[static_cast<std::size_t>(row)]);
      seen[static_cast<std::size_t>(row)] = true;
    }
  }
}

// --- mutation

std::uint64_t odd_number(Rng& rng, std::uint64_t near) {
  const std::uint64_t choices[] = {0,          1,
                                   near - 1,   near + 1,
                                   near * 2,   near ^ (1ULL << pick(rng, 64)),
                                   1ULL << 31, (1ULL << 32) - 1,
                                   1ULL << 32, 1ULL << 61,
                                   1ULL << 63, ~0ULL,
                                   ~0ULL - 31, 13,
                                   32,         rng()};
  return choices[pick(rng, std::size(choices))];
}

template <typename T>
void change_at(Rng& rng, std::string& bytes, std::size_t at) {
  if (bytes.size() < at + sizeof(T)) return;
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  value = static_cast<T>(odd_number(rng, value));
  std::memcpy(bytes.data() + at, &value, sizeof(T));
}

void change_bytes(Rng& rng, std::string& bytes, std::size_t max_growth) {
  const std::size_t size = bytes.size();
  bytes.resize(size + std::min<std::size_t>(max_growth, 64));
  const std::size_t now =
      LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, bytes.size());
  bytes.resize(now);
  (void)rng;
}

void change_key(Rng& rng, GgufDoc& doc) {
  if (doc.keys.empty()) return;
  const std::size_t i = pick(rng, doc.keys.size());
  test::GgufKey& key = doc.keys[i];
  switch (pick(rng, 9)) {
    case 0:
      key.kind = static_cast<std::uint32_t>(pick(rng, 15));
      break;
    case 1:
      change_at<std::uint32_t>(rng, key.value, 0);  // a number, an element kind, a length's half
      break;
    case 2:
      change_at<std::uint64_t>(rng, key.value, 4);  // an array's count
      break;
    case 3:
      change_at<std::uint64_t>(rng, key.value, 0);  // a string's length
      break;
    case 4:
      change_bytes(rng, key.value, 64);
      break;
    case 5:
      change_bytes(rng, key.key, 64);
      break;
    case 6:
      doc.keys.push_back(doc.keys[i]);
      break;
    case 7:
      doc.keys.erase(doc.keys.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    default: {
      const GgufDoc valid = test::tiny_llama();
      doc.keys.push_back(valid.keys[pick(rng, valid.keys.size())]);
    }
  }
}

void change_tensor(Rng& rng, GgufDoc& doc) {
  if (doc.tensors.empty()) return;
  const std::size_t i = pick(rng, doc.tensors.size());
  test::GgufTensorInfo& tensor = doc.tensors[i];
  switch (pick(rng, 8)) {
    case 0:
      tensor.type = static_cast<std::uint32_t>(pick(rng, 45));
      break;
    case 1:
      tensor.offset = odd_number(rng, tensor.offset);
      break;
    case 2:
      tensor.offset += (pick(rng, 2) != 0 ? 32 : -32) * (1 + pick(rng, 4));
      break;
    case 3:
      if (!tensor.dims.empty()) {
        std::uint64_t& dim = tensor.dims[pick(rng, tensor.dims.size())];
        dim = odd_number(rng, dim);
      }
      break;
    case 4:
      tensor.dims.resize(pick(rng, 7), 1);
      break;
    case 5:
      tensor.name = doc.tensors[pick(rng, doc.tensors.size())].name;
      break;
    case 6:
      change_bytes(rng, tensor.name, 32);
      break;
    default:
      doc.tensors.erase(doc.tensors.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void change_document(Rng& rng, GgufDoc& doc) {
  switch (pick(rng, 10)) {
    case 0:
      doc.n_keys = odd_number(rng, doc.keys.size());
      break;
    case 1:
      doc.n_tensors = odd_number(rng, doc.tensors.size());
      break;
    case 2:
      doc.version = static_cast<std::uint32_t>(odd_number(rng, doc.version));
      break;
    case 3:
      doc.set("general.alignment", static_cast<std::uint32_t>(odd_number(rng, 32)));
      break;
    case 4:
      doc.alignment = std::uint64_t{8} << pick(rng, 8);
      break;
    case 5:
      doc.data.resize(pick(rng, doc.data.size() + 64));
      break;
    case 6:
    case 7:
    case 8:
      change_key(rng, doc);
      break;
    default:
      change_tensor(rng, doc);
  }
}

}  // namespace
}  // namespace heddle

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heddle;
  const auto bytes = std::as_bytes(std::span(data, size));
  std::optional<GgufDirectory> file;
  only_our_errors([&] { file = GgufDirectory::parse(bytes, "x"); });
  if (!file) return 0;
  check_ranges(*file);
  read_every_key(*file);
  const std::string written = document_of(*file).serialise();
  require(same(*file, GgufDirectory::parse(std::as_bytes(std::span(written)), "x")));
  only_our_errors([&] { check_checkpoint(checkpoint_from_gguf(GgufWeights::over(bytes, "x"))); });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                               std::size_t size,
                                               std::size_t max_size,
                                               unsigned int seed) {
  using namespace heddle;
  Rng rng(seed);
  if (pick(rng, 16) == 0) return LLVMFuzzerMutate(data, size, max_size);
  GgufDoc doc;
  try {
    doc = document_of(GgufDirectory::parse(std::as_bytes(std::span(data, size)), "x"));
  } catch (const Error&) {
    // Broken already: break it further, or begin again from a valid one.
    if (pick(rng, 2) == 0) return LLVMFuzzerMutate(data, size, max_size);
    doc = test::tiny_llama();
  }
  for (std::size_t n = 1 + pick(rng, 3); n > 0; --n) change_document(rng, doc);
  if (doc.alignment == 0 || doc.alignment > 4096) doc.alignment = 32;
  return replace_input(data, size, max_size, doc.serialise());
}
