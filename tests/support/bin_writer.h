#pragma once
// Writes PyTorch's .bin files for tests, as torch.save does and with any single thing wrong: a zip
// archive, and in it a pickle.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/zip_writer.h"

namespace heddle::test {

/// Opcodes of protocol 2.
struct PickleText {
  enum class Memo { kNone, kShort, kLong };
  Memo memo = Memo::kShort;
  std::string bytes = "\x80\x02";
  std::uint32_t remembered = 0;

  PickleText& op(std::string_view raw) {
    bytes += raw;
    return *this;
  }
  PickleText& put() {
    if (memo == Memo::kNone) return *this;
    if (memo == Memo::kShort && remembered < 256) {
      bytes += 'q';
      append_number<std::uint8_t>(bytes, static_cast<std::uint8_t>(remembered++));
    } else {
      bytes += 'r';
      append_number<std::uint32_t>(bytes, remembered++);
    }
    return *this;
  }
  PickleText& text(std::string_view value) {
    bytes += 'X';
    append_number<std::uint32_t>(bytes, static_cast<std::uint32_t>(value.size()));
    return op(value).put();
  }
  PickleText& global(std::string_view module, std::string_view name) {
    return op("c").op(module).op("\n").op(name).op("\n").put();
  }
  PickleText& integer(std::int64_t value) {
    if (value >= 0 && value < 256) {
      bytes += 'K';
      append_number<std::uint8_t>(bytes, static_cast<std::uint8_t>(value));
    } else if (value >= 0 && value < 65536) {
      bytes += 'M';
      append_number<std::uint16_t>(bytes, static_cast<std::uint16_t>(value));
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
      bytes += 'J';
      append_number<std::int32_t>(bytes, static_cast<std::int32_t>(value));
    } else {
      bytes += "\x8a\x08";
      append_number<std::int64_t>(bytes, value);
    }
    return *this;
  }
  PickleText& integers(const std::vector<std::int64_t>& values) {
    if (values.empty()) return op(")");
    if (values.size() > 3) op("(");
    for (const std::int64_t value : values) integer(value);
    const char pack = static_cast<char>('\x84' + values.size());
    return op(values.size() > 3 ? std::string_view("t") : std::string_view(&pack, 1)).put();
  }
  PickleText& ordered_dict() { return global("collections", "OrderedDict").op(")R").put(); }
};

struct BinPart {
  std::string name;
  std::string type;  // "BFloat16Storage"
  std::string key;
  std::int64_t storage_elements = 0;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape = {}, strides = {};
  bool parameter = false;
};

/// A .bin file as its parts; change any of them, then serialise. Nothing is checked.
struct BinDoc {
  std::string folder = "archive";
  std::vector<BinPart> tensors;
  std::vector<std::pair<std::string, std::string>> storages;  // key, bytes
  bool ordered = true, one_by_one = false, metadata = false;
  PickleText::Memo memo = PickleText::Memo::kShort;
  std::optional<std::string> pickle = {};  // instead of what the tensors make

  static std::vector<std::int64_t> dense(const std::vector<std::int64_t>& shape) {
    std::vector<std::int64_t> strides(shape.size(), 1);
    for (std::size_t i = shape.size(); i > 1; --i) strides[i - 2] = strides[i - 1] * shape[i - 1];
    return strides;
  }
  static std::int64_t element_bytes(std::string_view type) {
    const auto is = [&](std::string_view head) { return type.substr(0, head.size()) == head; };
    if (is("Long") || is("Double")) return 8;
    if (is("Float") || is("Int")) return 4;
    return is("BFloat16") || is("Half") || is("Short") ? 2 : 1;
  }
  BinPart& tensor(std::string_view name) {
    for (BinPart& part : tensors) {
      if (part.name == name) return part;
    }
    return tensors.at(tensors.size());  // throws
  }
  /// A tensor with a storage of its own.
  void add(const std::string& name,
           const std::string& type,
           const std::vector<std::int64_t>& shape,
           const std::string& bytes) {
    const std::string key = std::to_string(storages.size());
    storages.emplace_back(key, bytes);
    const auto n = static_cast<std::int64_t>(bytes.size()) / element_bytes(type);
    tensors.push_back({name, type, key, n, 0, shape, dense(shape)});
  }

  void add_tensor(PickleText& out, const BinPart& part) const {
    if (part.parameter) out.global("torch._utils", "_rebuild_parameter");
    out.global("torch._utils", "_rebuild_tensor_v2").op("((").text("storage");
    out.global("torch", part.type).text(part.key).text("cpu").integer(part.storage_elements);
    out.op("t").put().op("Q").integer(part.offset).integers(part.shape).integers(part.strides);
    out.op("\x89").ordered_dict().op("t").put().op("R").put();
    if (part.parameter) out.op("\x88").ordered_dict().op("\x87").put().op("R").put();
  }
  std::string pickle_text() const {
    if (pickle) return *pickle;
    PickleText out;
    out.memo = memo;
    if (ordered) {
      out.ordered_dict();
    } else {
      out.op("}").put();
    }
    if (!one_by_one) out.op("(");
    for (const BinPart& part : tensors) {
      out.text(part.name);
      add_tensor(out, part);
      if (one_by_one) out.op("s");
    }
    if (!one_by_one) out.op("u");
    if (metadata) {
      out.op("}").put().text("_metadata").ordered_dict().op("(").text("").op("}").put();
      out.text("version").integer(1).op("s").text("layer").op("}").put().op("usb");
    }
    return out.op(".").bytes;
  }
  ZipDoc zip() const {
    ZipDoc doc;
    doc.parts.push_back({folder + "/data.pkl", pickle_text()});
    doc.parts.push_back({folder + "/byteorder", "little"});
    for (const auto& [key, bytes] : storages) doc.parts.push_back({folder + "/data/" + key, bytes});
    doc.parts.push_back({folder + "/version", "3\n"});
    return doc;
  }
  std::string serialise() const { return zip().serialise(); }
};

}  // namespace heddle::test
