#include "models/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/checked_size.h"
#include "base/error.h"
#include "base/json.h"
#include "models/file_guess.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr int kHeaderDepth = 8;
constexpr std::size_t kHeaderNodes = 16 * SafetensorsLimits::kTensors;

struct StoredType {
  std::string_view name;
  std::uint64_t bits = 0;
  std::optional<DType> dtype;
};

constexpr std::array<StoredType, 22> kTypes = {
    {{"F32", 32, DType::kF32},         {"F16", 16, DType::kF16},
     {"BF16", 16, DType::kBF16},       {"F64", 64, std::nullopt},
     {"I64", 64, std::nullopt},        {"I32", 32, std::nullopt},
     {"I16", 16, std::nullopt},        {"I8", 8, std::nullopt},
     {"U64", 64, std::nullopt},        {"U32", 32, std::nullopt},
     {"U16", 16, std::nullopt},        {"U8", 8, std::nullopt},
     {"BOOL", 8, std::nullopt},        {"C64", 64, std::nullopt},
     {"F8_E4M3", 8, std::nullopt},     {"F8_E5M2", 8, std::nullopt},
     {"F8_E8M0", 8, std::nullopt},     {"F8_E4M3FNUZ", 8, std::nullopt},
     {"F8_E5M2FNUZ", 8, std::nullopt}, {"F6_E2M3", 6, std::nullopt},
     {"F6_E3M2", 6, std::nullopt},     {"F4", 4, std::nullopt}}};

std::string type_list() {
  std::string list;
  for (const StoredType& type : kTypes) {
    list += (list.empty() ? "" : ", ") + std::string(type.name);
  }
  return list;
}

/// A JSON value for an error text.
std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return fmt::format("an array of {}", value.size());
  if (value.is_string()) return quote_text(value.get_ref<const std::string&>());
  return value.dump();
}

}  // namespace

class SafetensorsParser {
 public:
  SafetensorsParser(std::span<const std::byte> file, std::string source) : file_(file) {
    out_.source_ = std::move(source);
  }

  SafetensorsDirectory run() {
    const Json header = read_header();
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        check_metadata(value);
      } else {
        out_.tensors_.push_back(read_tensor(name, value));
      }
    }
    check_ranges();
    return std::move(out_);
  }

 private:
  Error error(std::string_view key, const std::string& text) const {
    return bad_input(fmt::format("{}: {}: {}", out_.source_, key, text));
  }

  Error length_error(std::uint64_t length) const {
    const std::string guess = guess_binary_file(file_);
    if (!guess.empty()) {
      return error("header_length", fmt::format("got {}, allowed a safetensors file", guess));
    }
    const std::uint64_t most = SafetensorsLimits::kHeaderBytes;
    if (length < 2 || length > most) {
      return error("header_length",
                   fmt::format("bytes of the header, got {}, allowed 2 to {}", length, most));
    }
    return error("header_length",
                 fmt::format("bytes of the header, got {}, allowed 2 to {} (truncated at byte {}: "
                             "needs {} bytes, the file has {})",
                             length, file_.size() - kLengthBytes, kLengthBytes,
                             kLengthBytes + length, file_.size()));
  }

  Json read_header() {
    if (file_.size() < kLengthBytes) {
      throw error("header_length",
                  fmt::format("truncated at byte 0: needs {} bytes, the file has {}", kLengthBytes,
                              file_.size()));
    }
    std::uint64_t length = 0;  // little-endian, as every machine that this is built for
    static_assert(std::endian::native == std::endian::little);
    std::memcpy(&length, file_.data(), sizeof(length));
    const std::uint64_t left = file_.size() - kLengthBytes;
    if (length < 2 || length > SafetensorsLimits::kHeaderBytes || length > left) {
      throw length_error(length);
    }
    out_.header_bytes_ = kLengthBytes + length;
    const std::string_view text(reinterpret_cast<const char*>(file_.data()) + kLengthBytes, length);
    if (text[0] != '{') {
      throw error("header_json",
                  fmt::format("first byte, got {}, allowed '{{'", quote_text(text.substr(0, 1))));
    }
    Json header = parse_json(text, fmt::format("{}: header_json", out_.source_),
                             {.depth = kHeaderDepth, .nodes = kHeaderNodes});
    if (header.size() > SafetensorsLimits::kTensors) {
      throw error("header_json", fmt::format("tensors, got {}, allowed up to {}", header.size(),
                                             SafetensorsLimits::kTensors));
    }
    return header;
  }

  void check_metadata(const Json& metadata) const {
    if (!metadata.is_object()) {
      throw error("header_json", fmt::format("__metadata__, got {}, allowed an object of strings",
                                             shown(metadata)));
    }
    for (const auto& [key, value] : metadata.items()) {
      if (!value.is_string()) {
        throw error("header_json", fmt::format("__metadata__ {}, got {}, allowed a string",
                                               quote_text(key), shown(value)));
      }
    }
  }

  SafetensorsTensor read_tensor(const std::string& name, const Json& entry) const {
    const std::string quoted = quote_text(name);
    if (name.empty() || name.size() > SafetensorsLimits::kNameBytes) {
      throw error("header_json", fmt::format("length of a tensor's name, got {}, allowed 1 to {}",
                                             name.size(), SafetensorsLimits::kNameBytes));
    }
    const bool complete = entry.is_object() && entry.size() == 3 && entry.contains("dtype") &&
                          entry.contains("shape") && entry.contains("data_offsets");
    if (!complete) {
      throw error("header_json",
                  fmt::format("tensor {}, got {}, allowed an object of dtype, shape, data_offsets",
                              quoted, described(entry)));
    }
    SafetensorsTensor tensor;
    tensor.name = name;
    const StoredType& type = read_type(quoted, entry["dtype"]);
    tensor.dtype_name = type.name;
    tensor.dtype = type.dtype;
    read_shape(quoted, entry["shape"], tensor);
    read_range(quoted, entry["data_offsets"], tensor);
    check_size(quoted, type, tensor);
    return tensor;
  }

  /// Members by name: the first that is missing or too many is what the reader looks for.
  static std::string described(const Json& entry) {
    if (!entry.is_object()) return shown(entry);
    for (const auto& [key, value] : entry.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        return "a member " + quote_text(key);
      }
    }
    for (const char* key : {"dtype", "shape", "data_offsets"}) {
      if (!entry.contains(key)) return fmt::format("no {}", key);
    }
    return shown(entry);
  }

  const StoredType& read_type(const std::string& quoted, const Json& value) const {
    if (value.is_string()) {
      const auto& text = value.get_ref<const std::string&>();
      for (const StoredType& type : kTypes) {
        if (type.name == text) return type;
      }
    }
    throw error("dtype",
                fmt::format("of {}, got {}, allowed {}", quoted, shown(value), type_list()));
  }

  void read_shape(const std::string& quoted, const Json& shape, SafetensorsTensor& tensor) const {
    if (!shape.is_array()) {
      throw error("shape", fmt::format("of {}, got {}, allowed an array", quoted, shown(shape)));
    }
    if (shape.size() > SafetensorsLimits::kRank) {
      throw error("shape", fmt::format("rank of {}, got {}, allowed 0 to {}", quoted, shape.size(),
                                       SafetensorsLimits::kRank));
    }
    constexpr std::uint64_t kMost = INT64_MAX;
    for (const Json& dim : shape) {
      if (!dim.is_number_unsigned() || dim.get<std::uint64_t>() == 0 ||
          dim.get<std::uint64_t>() > kMost) {
        throw error("shape", fmt::format("dimension {} of {}, got {}, allowed integers from 1",
                                         tensor.rank, quoted, shown(dim)));
      }
      tensor.dims[static_cast<std::size_t>(tensor.rank++)] = dim.get<std::int64_t>();
    }
  }

  void read_range(const std::string& quoted, const Json& range, SafetensorsTensor& tensor) const {
    const bool pair = range.is_array() && range.size() == 2 && range[0].is_number_unsigned() &&
                      range[1].is_number_unsigned();
    if (!pair) {
      const std::string got = range.is_array() && range.size() == 2
                                  ? fmt::format("[{}, {}]", shown(range[0]), shown(range[1]))
                                  : shown(range);
      throw error(
          "tensor_range",
          fmt::format("data_offsets of {}, got {}, allowed two integers from 0", quoted, got));
    }
    const auto begin = range[0].get<std::uint64_t>();
    const auto end = range[1].get<std::uint64_t>();
    if (end < begin) {
      throw error("tensor_range", fmt::format("data_offsets of {}, got {} before {}, allowed "
                                              "ascending ones",
                                              quoted, begin, end));
    }
    const CheckedSize offset = checked_add(begin, out_.header_bytes_);
    if (!offset || !checked_add(offset, end - begin)) {
      throw error("tensor_range", fmt::format("data_offsets of {}, got {}, allowed up to the "
                                              "file's {} bytes",
                                              quoted, end, file_.size()));
    }
    tensor.offset = *offset;
    tensor.bytes = end - begin;
  }

  void check_size(const std::string& quoted,
                  const StoredType& type,
                  const SafetensorsTensor& tensor) const {
    CheckedSize n = 1;
    for (int i = 0; i < tensor.rank; ++i) {
      n = checked_mul(n, static_cast<std::uint64_t>(tensor.dims[static_cast<std::size_t>(i)]));
    }
    const CheckedSize bits = checked_mul(n, type.bits);
    if (!bits) {
      throw error("size_overflow", fmt::format("bits of {}, got more than 2^64, allowed up to the "
                                               "file's {} bytes",
                                               quoted, file_.size()));
    }
    if (*bits % 8 != 0) {
      throw error("dtype", fmt::format("{} of {}, got {} numbers of {} bits, allowed whole bytes",
                                       type.name, quoted, *n, type.bits));
    }
    if (*bits / 8 != tensor.bytes) {
      throw error("tensor_range", fmt::format("bytes of {}, got {}, allowed {} (its shape in {})",
                                              quoted, tensor.bytes, *bits / 8, type.name));
    }
  }

  /// Tensors must fill the data without a gap: a file cannot carry bytes that nobody sees.
  void check_ranges() {
    std::vector<SafetensorsTensor>& tensors = out_.tensors_;
    std::sort(tensors.begin(), tensors.end(),
              [](const auto& a, const auto& b) { return a.offset < b.offset; });
    std::uint64_t end = out_.header_bytes_;
    std::string before = "the header";
    for (const SafetensorsTensor& tensor : tensors) {
      const std::string quoted = quote_text(tensor.name);
      if (tensor.offset < end) {
        throw error("tensor_range", fmt::format("got {} and {} overlapping, allowed disjoint ones",
                                                before, quoted));
      }
      if (tensor.offset > end) {
        throw error("tensor_range", fmt::format("got {} bytes between {} and {}, allowed none",
                                                tensor.offset - end, before, quoted));
      }
      end += tensor.bytes;
      before = quoted;
      if (end > file_.size()) {
        throw error("tensor_range",
                    fmt::format("end of {}, got byte {}, allowed up to {} (truncated at byte {}: "
                                "needs {} bytes, the file has {})",
                                quoted, end, file_.size(), file_.size(), end, file_.size()));
      }
    }
    if (end < file_.size()) {
      throw error("tensor_range",
                  fmt::format("got {} bytes after {}, the last tensor, allowed none",
                              file_.size() - end, before));
    }
  }

  std::span<const std::byte> file_;
  SafetensorsDirectory out_;
};

SafetensorsDirectory SafetensorsDirectory::parse(std::span<const std::byte> file,
                                                 std::string source) {
  return SafetensorsParser(file, std::move(source)).run();
}

}  // namespace heddle
