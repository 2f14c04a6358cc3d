#pragma once
// Writes GGUF files for tests, valid ones and ones with any single thing wrong.

#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "models/gguf_types.h"

namespace heddle::test {

template <typename T>
void append_value(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

inline void append_string(std::string& to, std::string_view text) {
  append_value<std::uint64_t>(to, text.size());
  to += text;
}

template <typename T>
constexpr GgufKind kind_of() {
  if constexpr (std::is_same_v<T, std::uint8_t>) return GgufKind::kU8;
  if constexpr (std::is_same_v<T, std::int8_t>) return GgufKind::kI8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return GgufKind::kU16;
  if constexpr (std::is_same_v<T, std::int16_t>) return GgufKind::kI16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return GgufKind::kU32;
  if constexpr (std::is_same_v<T, std::int32_t>) return GgufKind::kI32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return GgufKind::kU64;
  if constexpr (std::is_same_v<T, std::int64_t>) return GgufKind::kI64;
  if constexpr (std::is_same_v<T, float>) return GgufKind::kF32;
  if constexpr (std::is_same_v<T, double>) return GgufKind::kF64;
  if constexpr (std::is_same_v<T, bool>) return GgufKind::kBool;
}

/// One key; `value` is everything after the kind's number, as the file has it.
struct GgufKey {
  std::string key;
  std::uint32_t kind = 0;
  std::string value;
};

struct GgufTensorInfo {
  std::string name;
  std::vector<std::uint64_t> dims;  // innermost first, as files have them
  std::uint32_t type = 0;
  std::uint64_t offset = 0;  // from the start of the data
};

/// A file as its parts; change any of them, then serialise. Nothing is checked.
struct GgufDoc {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> n_tensors, n_keys;  // instead of the true counts
  std::vector<GgufKey> keys;
  std::vector<GgufTensorInfo> tensors;
  std::uint64_t alignment = 32;
  std::string data;

  GgufKey& slot(const std::string& key) {
    for (GgufKey& k : keys) {
      if (k.key == key) return k;
    }
    keys.push_back({key, 0, ""});
    return keys.back();
  }
  void set_raw(const std::string& key, GgufKind kind, std::string value) {
    GgufKey& k = slot(key);
    k.kind = static_cast<std::uint32_t>(kind);
    k.value = std::move(value);
  }
  template <typename T>
  void set(const std::string& key, T value) {
    std::string bytes;
    append_value(bytes, value);
    set_raw(key, kind_of<T>(), bytes);
  }
  void set_text(const std::string& key, std::string_view text) {
    std::string bytes;
    append_string(bytes, text);
    set_raw(key, GgufKind::kString, bytes);
  }
  void set_texts(const std::string& key, const std::vector<std::string>& texts) {
    std::string bytes;
    append_value(bytes, static_cast<std::uint32_t>(GgufKind::kString));
    append_value<std::uint64_t>(bytes, texts.size());
    for (const std::string& text : texts) append_string(bytes, text);
    set_raw(key, GgufKind::kArray, bytes);
  }
  template <typename T>
  void set_array(const std::string& key, const std::vector<T>& values) {
    std::string bytes;
    append_value(bytes, static_cast<std::uint32_t>(kind_of<T>()));
    append_value<std::uint64_t>(bytes, values.size());
    for (const T value : values) append_value(bytes, value);
    set_raw(key, GgufKind::kArray, bytes);
  }
  void remove(const std::string& key) {
    std::erase_if(keys, [&](const GgufKey& k) { return k.key == key; });
  }

  GgufTensorInfo& tensor(const std::string& name) {
    for (GgufTensorInfo& t : tensors) {
      if (t.name == name) return t;
    }
    throw std::runtime_error("the test's file has no tensor " + name);
  }
  void remove_tensor(const std::string& name) {
    std::erase_if(tensors, [&](const GgufTensorInfo& t) { return t.name == name; });
  }
  /// Adds a tensor behind the others.
  void add_tensor(const std::string& name,
                  const std::vector<std::uint64_t>& dims,
                  DType dtype,
                  std::string_view bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    tensors.push_back({name, dims, gguf_tensor_type(dtype).value(), data.size()});
    data += bytes;
  }
  void add_f32(const std::string& name,
               const std::vector<std::uint64_t>& dims,
               const std::vector<float>& values) {
    add_tensor(name, dims, DType::kF32,
               {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }

  std::string header() const {
    std::string file = magic;
    append_value(file, version);
    append_value(file, n_tensors.value_or(tensors.size()));
    append_value(file, n_keys.value_or(keys.size()));
    for (const GgufKey& k : keys) {
      append_string(file, k.key);
      append_value(file, k.kind);
      file += k.value;
    }
    for (const GgufTensorInfo& t : tensors) {
      append_string(file, t.name);
      append_value(file, static_cast<std::uint32_t>(t.dims.size()));
      for (const std::uint64_t dim : t.dims) append_value(file, dim);
      append_value(file, t.type);
      append_value(file, t.offset);
    }
    return file;
  }
  std::string serialise() const {
    std::string file = header();
    if (alignment > 0) file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data;
  }
};

inline void write_file(const std::string& path, std::string_view bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out) throw std::runtime_error("cannot write " + path);
}

}  // namespace heddle::test
