#pragma once
// Writes safetensors files for tests, valid ones and ones with any single thing wrong.

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace heddle::test {

/// One tensor; every member is JSON text, so that it can be anything.
struct SafetensorsEntry {
  std::string name;  // with its quotes
  std::string dtype;
  std::string shape;
  std::string offsets;
  std::string more;  // further members, with their comma
};

/// A file as its parts; change any of them, then serialise. Nothing is checked.
struct SafetensorsDoc {
  std::string metadata;  // JSON text of __metadata__; "": none
  std::vector<SafetensorsEntry> tensors;
  std::optional<std::string> header;          // instead of what the tensors make
  std::optional<std::uint64_t> header_bytes;  // instead of the true length
  std::size_t padding = 8;                    // the header is filled up with spaces to a multiple
  std::string data;

  SafetensorsEntry& tensor(const std::string& name) {
    for (SafetensorsEntry& entry : tensors) {
      if (entry.name == json_quote(name)) return entry;
    }
    throw std::runtime_error("the test's file has no tensor " + name);
  }
  /// Adds a tensor behind the others.
  void add(const std::string& name,
           const std::string& dtype,
           const std::vector<std::int64_t>& shape,
           std::string_view bytes) {
    std::string dims;
    for (const std::int64_t dim : shape) dims += (dims.empty() ? "" : ",") + std::to_string(dim);
    tensors.push_back({json_quote(name), json_quote(dtype), "[" + dims + "]",
                       fmt::format("[{},{}]", data.size(), data.size() + bytes.size()), ""});
    data += bytes;
  }
  void add_f32(const std::string& name,
               const std::vector<std::int64_t>& shape,
               const std::vector<float>& values) {
    add(name, "F32", shape,
        {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  std::string header_text() const {
    if (header) return *header;
    std::string text = "{";
    if (!metadata.empty()) text += "\"__metadata__\":" + metadata;
    for (const SafetensorsEntry& t : tensors) {
      if (text.size() > 1) text += ",";
      text += fmt::format("{}:{{\"dtype\":{},\"shape\":{},\"data_offsets\":{}{}}}", t.name, t.dtype,
                          t.shape, t.offsets, t.more);
    }
    text += "}";
    if (padding > 0) text.resize((text.size() + padding - 1) / padding * padding, ' ');
    return text;
  }
  std::string serialise() const {
    const std::string text = header_text();
    const std::uint64_t length = header_bytes.value_or(text.size());
    std::string file(reinterpret_cast<const char*>(&length), sizeof(length));
    return file + text + data;
  }
};

}  // namespace heddle::test
