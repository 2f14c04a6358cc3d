#pragma once
// The machine behind pickle_tensors.h: the opcodes of protocol 2 that a dict of tensors needs, run
// to a graph of plain values. A global becomes a row of a fixed table, a call of one the value it
// would make: no name is ever looked up, nothing is called.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"

namespace heddle::pickle {

enum class Use : std::uint8_t { kOrderedDict, kTensor, kParameter, kStorage };

struct Global {
  std::string_view module, name;
  Use use = Use::kStorage;
  std::string_view dtype_name = {};  // of a storage
  std::uint64_t element_bytes = 0;
  std::optional<DType> dtype = std::nullopt;
};

enum class Kind : std::uint8_t {
  kMark,
  kNone,
  kBool,
  kInt,
  kText,
  kTuple,
  kList,
  kDict,
  kGlobal,
  kStorage,
  kTensor
};

/// `number` is the value, or where it is among those of its kind.
struct Value {
  Kind kind = Kind::kNone;
  std::int64_t number = 0;
};

struct Tuple {
  std::size_t begin = 0, size = 0;  // in Graph::items
};

struct Dict {
  bool ordered = false;
  std::vector<std::pair<Value, Value>> items;
};

struct Storage {
  std::string_view key;
  const Global* type = nullptr;
  std::uint64_t elements = 0;
};

struct Tensor {
  std::size_t storage = 0;
  std::int64_t offset = 0;
  Tuple shape, strides;
};

/// What a pickle made, each kind in a pool of its own. Texts are parts of the pickle.
struct Graph {
  Value top;
  std::vector<Value> items;  // of tuples
  std::vector<std::string_view> texts;
  std::vector<Tuple> tuples;
  std::vector<Dict> dicts;  // may hold each other, and themselves
  std::vector<Storage> storages;
  std::vector<Tensor> tensors;
};

std::string_view kind_name(Kind kind);  // "a dict"
inline std::string_view kind_name(const Value& value) {
  return kind_name(value.kind);
}
/// kBadInput: "SOURCE: pickle: TEXT".
Error pickle_error(std::string_view source, std::string_view text);

/// Throws pickle_error; time and memory are bounded by PickleLimits.
Graph run_pickle(std::span<const std::byte> pickle, const std::string& source);

}  // namespace heddle::pickle
