#include "models/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "base/checked_size.h"
#include "base/error.h"
#include "models/file_guess.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr std::uint64_t kFixedHeaderBytes = 24;  // magic, version, two counts
constexpr std::uint64_t kMinEntryBytes = 13;     // key length, kind, a one-byte value
constexpr std::uint64_t kMinTensorBytes = 33;  // name length and a name, rank, a dim, type, offset
constexpr std::uint64_t kReleaseEvery = 2ULL << 20;

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// What a file that is not GGUF most likely is.
std::string guess_format(std::span<const std::byte> file) {
  const std::string guess = guess_binary_file(file);
  const std::string_view text = as_text(file);
  // A header length of less than 4 GiB, then the header.
  if (guess.empty() && text.size() > 9 && text[8] == '{' &&
      text.substr(4, 4) == std::string_view("\0\0\0\0", 4)) {
    return "a safetensors file";
  }
  return guess.empty() ? quote_text(as_text(file.first(std::min<std::size_t>(file.size(), 4))))
                       : guess;
}

}  // namespace

/// Walks the bytes once; every read is checked against what is left.
class GgufParser {
 public:
  GgufParser(std::span<const std::byte> file,
             std::string source,
             const GgufDirectory::Visited& visited)
      : file_(file), visited_(visited) {
    out_.source_ = std::move(source);
    out_.file_ = file;
  }

  GgufDirectory run() {
    read_fixed_header();
    read_entries();
    apply_keys();
    read_tensors();
    place_tensors();
    if (visited_) visited_(0, at_);
    return std::move(out_);
  }

 private:
  Error header_error(const std::string& text) const {
    return bad_input(fmt::format("{}: gguf_header: {}", out_.source_, text));
  }
  Error tensor_error(const std::string& text) const {
    return bad_input(fmt::format("{}: gguf_tensor: {}", out_.source_, text));
  }
  Error truncated(std::uint64_t at, std::uint64_t n) const {
    return bad_input(fmt::format("{}: truncated at byte {}: needs {} bytes, the file has {}",
                                 out_.source_, at, at + n, file_.size()));
  }

  std::uint64_t left() const { return file_.size() - at_; }

  /// `n` was bounded by kMetadataBytes (or is smaller) before it comes here.
  void need(std::uint64_t n) const {
    if (n > left()) throw truncated(at_, n);
    if (at_ + n > GgufLimits::kMetadataBytes) {
      throw header_error(fmt::format("metadata bytes, got more than {}, allowed up to {}",
                                     GgufLimits::kMetadataBytes, GgufLimits::kMetadataBytes));
    }
  }

  template <typename T>
  T read() {
    need(sizeof(T));
    const T value = load<T>(file_.data() + at_);
    at_ += sizeof(T);
    return value;
  }

  std::span<const std::byte> take(std::uint64_t n) {
    need(n);
    const auto bytes = file_.subspan(at_, n);
    at_ += n;
    release_visited();
    return bytes;
  }

  /// Keeps the resident part of a mapped file small while long arrays are walked.
  void release_visited() {
    if (!visited_ || at_ - released_ < kReleaseEvery) return;
    visited_(released_, at_);
    released_ = at_;
  }

  std::string_view read_name(std::string_view what, std::uint64_t limit, bool in_tensors) {
    const auto length = read<std::uint64_t>();
    if (length == 0 || length > limit) {
      const std::string text =
          fmt::format("length of {}, got {}, allowed 1 to {}", what, length, limit);
      throw in_tensors ? tensor_error(text) : header_error(text);
    }
    const std::string_view text = as_text(take(length));
    const bool printable =
        std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
    if (!printable) {
      const std::string reason =
          fmt::format("{}, got {}, allowed printable ASCII", what, quote_text(text));
      throw in_tensors ? tensor_error(reason) : header_error(reason);
    }
    return text;
  }

  std::span<const std::byte> read_string(std::string_view key) {
    const auto length = read<std::uint64_t>();
    if (length > GgufLimits::kMetadataBytes) {
      throw header_error(fmt::format("string length in {}, got {}, allowed up to {}",
                                     quote_text(key), length, GgufLimits::kMetadataBytes));
    }
    return take(length);
  }

  void read_fixed_header() {
    const std::string_view magic = as_text(file_.first(std::min<std::size_t>(file_.size(), 4)));
    if (magic != std::string_view("GGUF").substr(0, magic.size())) {
      throw header_error(fmt::format("magic, got {}, allowed 'GGUF'", guess_format(file_)));
    }
    if (file_.size() < kFixedHeaderBytes) throw truncated(0, kFixedHeaderBytes);
    at_ = 4;
    out_.version_ = read<std::uint32_t>();
    if ((out_.version_ & 0xffffU) == 0 && out_.version_ != 0) {
      throw header_error("byte order, got big-endian, allowed little-endian");
    }
    if (out_.version_ != 2 && out_.version_ != 3) {
      throw header_error(fmt::format("version, got {}, allowed 2 or 3", out_.version_));
    }
    n_tensors_ = read<std::uint64_t>();
    n_keys_ = read<std::uint64_t>();
    check_count("number of tensors", n_tensors_, GgufLimits::kTensors);
    check_count("number of keys", n_keys_, GgufLimits::kKeys);
    need(n_keys_ * kMinEntryBytes + n_tensors_ * kMinTensorBytes);
  }

  void check_count(std::string_view what, std::uint64_t n, std::uint64_t limit) const {
    if (n > limit) throw header_error(fmt::format("{}, got {}, allowed up to {}", what, n, limit));
  }

  void read_entries() {
    out_.entries_.reserve(n_keys_);
    for (std::uint64_t i = 0; i < n_keys_; ++i) out_.entries_.push_back(read_entry());
    out_.by_key_ = sorted(out_.entries_, &GgufEntry::key);
    for (std::size_t i = 1; i < out_.by_key_.size(); ++i) {
      const std::string_view key = out_.entries_[out_.by_key_[i]].key;
      if (key == out_.entries_[out_.by_key_[i - 1]].key) {
        throw header_error(fmt::format("key {}, got it twice, allowed once", quote_text(key)));
      }
    }
  }

  GgufKind read_kind(std::string_view key, std::string_view what, std::uint32_t limit) {
    const auto number = read<std::uint32_t>();
    const std::optional<GgufKind> kind = gguf_kind(number);
    if (!kind) {
      throw header_error(
          fmt::format("{} of {}, got {}, allowed 0 to {}", what, quote_text(key), number, limit));
    }
    return *kind;
  }

  GgufEntry read_entry() {
    GgufEntry entry;
    entry.key = read_name("a key", GgufLimits::kKeyBytes, false);
    entry.kind = read_kind(entry.key, "kind", 12);
    if (entry.kind == GgufKind::kString) {
      entry.payload = read_string(entry.key);
    } else if (entry.kind == GgufKind::kArray) {
      read_array(entry);
    } else {
      entry.payload = take(fixed_bytes(entry.kind));
      if (entry.kind == GgufKind::kBool && std::to_integer<int>(entry.payload[0]) > 1) {
        throw header_error(fmt::format("value of {}, got {}, allowed 0 or 1", quote_text(entry.key),
                                       std::to_integer<int>(entry.payload[0])));
      }
    }
    return entry;
  }

  void read_array(GgufEntry& entry) {
    entry.element = read_kind(entry.key, "element kind", 12);
    if (entry.element == GgufKind::kArray) {
      throw header_error(fmt::format("element kind of {}, got array, allowed numbers and strings",
                                     quote_text(entry.key)));
    }
    entry.count = read<std::uint64_t>();
    const bool strings = entry.element == GgufKind::kString;
    const std::uint64_t least = strings ? 8 : fixed_bytes(entry.element);
    std::uint64_t limit = GgufLimits::kMetadataBytes / least;
    if (strings) limit = GgufLimits::kStrings - n_strings_;
    if (entry.count > limit) {
      throw header_error(fmt::format("array length of {}, got {}, allowed up to {}",
                                     quote_text(entry.key), entry.count, limit));
    }
    need(entry.count * least);
    if (!strings) {
      entry.payload = take(entry.count * least);
      return;
    }
    n_strings_ += entry.count;
    const std::uint64_t begin = at_;
    for (std::uint64_t i = 0; i < entry.count; ++i) read_string(entry.key);
    entry.payload = file_.subspan(begin, at_ - begin);
  }

  void apply_keys() {
    if (const GgufEntry* entry = out_.find("general.alignment")) {
      if (entry->kind != GgufKind::kU32) {
        throw header_error(
            fmt::format("kind of 'general.alignment', got {}, allowed u32", name(entry->kind)));
      }
      out_.alignment_ = load<std::uint32_t>(entry->payload.data());
      const std::uint64_t a = out_.alignment_;
      if (a < GgufLimits::kMinAlignment || a > GgufLimits::kMaxAlignment || (a & (a - 1)) != 0) {
        throw header_error(
            fmt::format("general.alignment, got {}, allowed powers of two from {} to {}", a,
                        GgufLimits::kMinAlignment, GgufLimits::kMaxAlignment));
      }
    }
    out_.split_.n_parts = split_number("split.count", GgufKind::kU16, 0).value_or(1);
    if (out_.split_.n_parts <= 1) return;
    out_.split_.part = split_number("split.no", GgufKind::kU16, 0).value_or(0);
    out_.split_.n_tensors =
        split_number("split.tensors.count", GgufKind::kI32, GgufLimits::kTensors).value_or(0);
    if (out_.split_.part >= out_.split_.n_parts) {
      throw tensor_error(fmt::format("split.no, got {}, allowed 0 to {}", out_.split_.part,
                                     out_.split_.n_parts - 1));
    }
  }

  /// A number of one of the split.* keys; nullopt: absent. `most` 0: all of the kind's.
  std::optional<std::uint64_t> split_number(std::string_view key,
                                            GgufKind kind,
                                            std::uint64_t most) const {
    const GgufEntry* entry = out_.find(key);
    if (entry == nullptr) return std::nullopt;
    if (entry->kind != kind) {
      throw header_error(fmt::format("kind of {}, got {}, allowed {}", quote_text(key),
                                     name(entry->kind), name(kind)));
    }
    if (kind == GgufKind::kU16) return load<std::uint16_t>(entry->payload.data());
    const auto value = load<std::int32_t>(entry->payload.data());
    if (value < 0 || static_cast<std::uint64_t>(value) > most) {
      throw tensor_error(fmt::format("{}, got {}, allowed 0 to {}", key, value, most));
    }
    return static_cast<std::uint64_t>(value);
  }

  void read_tensors() {
    out_.tensors_.reserve(n_tensors_);
    for (std::uint64_t i = 0; i < n_tensors_; ++i) out_.tensors_.push_back(read_tensor());
    out_.by_name_ = sorted(out_.tensors_, &GgufTensor::name);
    for (std::size_t i = 1; i < out_.by_name_.size(); ++i) {
      const std::string_view tensor_name = out_.tensors_[out_.by_name_[i]].name;
      if (tensor_name == out_.tensors_[out_.by_name_[i - 1]].name) {
        throw tensor_error(
            fmt::format("tensor {}, got it twice, allowed once", quote_text(tensor_name)));
      }
    }
  }

  GgufTensor read_tensor() {
    GgufTensor tensor;
    tensor.name = read_name("a tensor's name", GgufLimits::kTensorNameBytes, true);
    const auto rank = read<std::uint32_t>();
    if (rank < 1 || rank > 4) {
      throw tensor_error(
          fmt::format("rank of {}, got {}, allowed 1 to 4", quote_text(tensor.name), rank));
    }
    tensor.rank = static_cast<int>(rank);
    for (std::uint32_t i = 0; i < rank; ++i) {
      const auto dim = read<std::uint64_t>();
      if (dim < 1 || dim > GgufLimits::kDim) {
        throw tensor_error(fmt::format("dimension {} of {}, got {}, allowed 1 to {}", i,
                                       quote_text(tensor.name), dim, GgufLimits::kDim));
      }
      tensor.dims[rank - 1 - i] = static_cast<std::int64_t>(dim);
    }
    tensor.dtype = read_dtype(tensor.name);
    tensor.bytes = tensor_bytes(tensor);
    tensor.offset = read<std::uint64_t>();  // becomes absolute in place_tensors
    release_visited();
    return tensor;
  }

  DType read_dtype(std::string_view tensor_name) {
    const auto number = read<std::uint32_t>();
    if (const std::optional<DType> dtype = gguf_dtype(number)) return *dtype;
    const std::string_view known = gguf_tensor_type_name(number);
    if (known.empty()) {
      throw tensor_error(fmt::format("type of {}, got unknown number {}, allowed {}",
                                     quote_text(tensor_name), number, gguf_dtype_list()));
    }
    throw tensor_error(
        fmt::format("type of {}, got {}, which this version does not read, allowed {}",
                    quote_text(tensor_name), known, gguf_dtype_list()));
  }

  std::uint64_t tensor_bytes(const GgufTensor& tensor) const {
    const DTypeInfo& type = info(tensor.dtype);
    const auto block = static_cast<std::uint64_t>(type.block_elements);
    const auto row =
        static_cast<std::uint64_t>(tensor.dims[static_cast<std::size_t>(tensor.rank) - 1]);
    if (row % block != 0) {
      throw tensor_error(fmt::format("row length of {}, got {}, allowed multiples of {} ({})",
                                     quote_text(tensor.name), row, block, type.name));
    }
    CheckedSize bytes = row / block;
    bytes = checked_mul(bytes, static_cast<std::uint64_t>(type.block_bytes));
    for (int i = 0; i + 1 < tensor.rank; ++i) {
      bytes =
          checked_mul(bytes, static_cast<std::uint64_t>(tensor.dims[static_cast<std::size_t>(i)]));
    }
    if (!bytes || *bytes > (1ULL << 62)) {
      throw tensor_error(fmt::format("size of {}, got more than 2^62 bytes, allowed up to {}",
                                     quote_text(tensor.name), file_.size()));
    }
    return *bytes;
  }

  /// Checks alignment, overlap and the end of the file, and makes offsets absolute.
  void place_tensors() {
    const std::uint64_t data = *checked_align_up(at_, out_.alignment_);  // at_ is below 2^28
    for (GgufTensor& tensor : out_.tensors_) {
      if (tensor.offset % out_.alignment_ != 0) {
        throw tensor_error(fmt::format("offset of {}, got {}, allowed multiples of {}",
                                       quote_text(tensor.name), tensor.offset, out_.alignment_));
      }
      const CheckedSize begin = checked_add(tensor.offset, data);
      if (!checked_add(begin, tensor.bytes)) {
        throw tensor_error(fmt::format("offset of {}, got {}, allowed up to the file's {} bytes",
                                       quote_text(tensor.name), tensor.offset, file_.size()));
      }
      tensor.offset = *begin;
    }
    check_ranges(data);
  }

  void check_ranges(std::uint64_t data) const {
    std::vector<std::uint32_t> order = sorted(out_.tensors_, &GgufTensor::offset);
    std::uint64_t end = data;  // of the tensors so far
    bool gapless = true;       // each tensor begins where the one before it ends
    const GgufTensor* before = nullptr;
    for (const std::uint32_t i : order) {
      const GgufTensor& tensor = out_.tensors_[i];
      if (tensor.offset < end) {
        throw tensor_error(fmt::format("ranges, got {} and {} overlapping, allowed disjoint ones",
                                       quote_text(before->name), quote_text(tensor.name)));
      }
      gapless = gapless && checked_align_up(end, out_.alignment_) == tensor.offset;
      end = tensor.offset + tensor.bytes;
      before = &tensor;
      if (end <= file_.size()) continue;
      // A file whose tensors follow each other without gaps was cut; else its directory lies.
      if (gapless) throw truncated(tensor.offset, tensor.bytes);
      throw tensor_error(fmt::format("range of {}, got bytes {} to {}, allowed up to {}",
                                     quote_text(tensor.name), tensor.offset, end, file_.size()));
    }
  }

  template <typename Item, typename Field>
  static std::vector<std::uint32_t> sorted(const std::vector<Item>& items, Field Item::*field) {
    std::vector<std::uint32_t> order(items.size());
    std::iota(order.begin(), order.end(), 0U);
    std::sort(order.begin(), order.end(),
              [&](std::uint32_t a, std::uint32_t b) { return items[a].*field < items[b].*field; });
    return order;
  }

  std::span<const std::byte> file_;
  const GgufDirectory::Visited& visited_;
  GgufDirectory out_;
  std::uint64_t at_ = 0;
  std::uint64_t released_ = 0;
  std::uint64_t n_tensors_ = 0;
  std::uint64_t n_keys_ = 0;
  std::uint64_t n_strings_ = 0;
};

GgufDirectory GgufDirectory::parse(std::span<const std::byte> file,
                                   std::string source,
                                   const Visited& visited) {
  return GgufParser(file, std::move(source), visited).run();
}

const GgufEntry* GgufDirectory::find(std::string_view key) const {
  const auto at = std::lower_bound(
      by_key_.begin(), by_key_.end(), key,
      [&](std::uint32_t i, std::string_view wanted) { return entries_[i].key < wanted; });
  return at != by_key_.end() && entries_[*at].key == key ? &entries_[*at] : nullptr;
}

const GgufTensor* GgufDirectory::find_tensor(std::string_view tensor_name) const {
  const auto at = std::lower_bound(
      by_name_.begin(), by_name_.end(), tensor_name,
      [&](std::uint32_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
  return at != by_name_.end() && tensors_[*at].name == tensor_name ? &tensors_[*at] : nullptr;
}

void for_each_string(const GgufEntry& entry, const std::function<void(std::string_view)>& each) {
  HEDDLE_CHECK(entry.kind == GgufKind::kArray && entry.element == GgufKind::kString);
  // The lengths were checked, but a file may be changed while it is mapped.
  std::span<const std::byte> left = entry.payload;
  for (std::uint64_t i = 0; i < entry.count; ++i) {
    HEDDLE_CHECK(left.size() >= sizeof(std::uint64_t));
    const auto length = load<std::uint64_t>(left.data());
    left = left.subspan(sizeof(length));
    HEDDLE_CHECK(left.size() >= length);
    each(as_text(left.first(length)));
    left = left.subspan(length);
  }
}

}  // namespace heddle
