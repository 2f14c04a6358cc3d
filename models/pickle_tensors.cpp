#include "models/pickle_tensors.h"

#include <fmt/format.h>

#include <unordered_set>
#include <utility>

#include "base/checked_size.h"
#include "base/error.h"
#include "models/pickle_machine.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

using pickle::Dict;
using pickle::Kind;
using pickle::kind_name;
using pickle::Storage;
using pickle::Tensor;
using pickle::Tuple;
using pickle::Value;

class TensorReader {
 public:
  TensorReader(const pickle::Graph& graph, const std::string& source)
      : graph_(graph), source_(source) {}

  std::vector<PickledTensor> run() const {
    if (graph_.top.kind != Kind::kDict) {
      throw error(fmt::format("result, got {}, allowed a dict of tensors", kind_name(graph_.top)));
    }
    const Dict& dict = graph_.dicts[index(graph_.top)];
    if (dict.items.size() > PickleLimits::kTensors) {
      throw error(fmt::format("tensors, got {}, allowed up to {}", dict.items.size(),
                              PickleLimits::kTensors));
    }
    std::vector<PickledTensor> tensors;
    tensors.reserve(dict.items.size());
    std::unordered_set<std::string_view> names;
    for (const auto& [key, value] : dict.items) {
      if (key.kind != Kind::kText || graph_.texts[index(key)].empty()) {
        throw error(fmt::format("name of a tensor, got {}, allowed a string of 1 to {} bytes",
                                key.kind == Kind::kText ? "''" : kind_name(key),
                                PickleLimits::kTextBytes));
      }
      const std::string_view name = graph_.texts[index(key)];
      if (value.kind != Kind::kTensor) {
        throw error(fmt::format("value of {}, got {}, allowed a tensor", quote_text(name),
                                kind_name(value)));
      }
      if (!names.insert(name).second) {
        throw error(fmt::format("tensor {}, got it twice, allowed once", quote_text(name)));
      }
      tensors.push_back(tensor(name, graph_.tensors[index(value)]));
    }
    return tensors;
  }

 private:
  Error error(const std::string& text) const { return pickle::pickle_error(source_, text); }
  static std::size_t index(const Value& value) { return static_cast<std::size_t>(value.number); }

  PickledTensor tensor(std::string_view name, const Tensor& pickled) const {
    const Storage& storage = graph_.storages[pickled.storage];
    const std::string quoted = quote_text(name);
    PickledTensor out;
    out.name = name;
    out.dtype_name = storage.type->dtype_name;
    out.dtype = storage.type->dtype;
    out.storage = storage.key;
    const CheckedSize storage_bytes = checked_mul(storage.elements, storage.type->element_bytes);
    const CheckedSize elements = read_shape(quoted, pickled, out);
    if (!storage_bytes || !elements || *elements > storage.elements) {
      throw error(fmt::format("elements of {}, got {}, allowed up to the storage's {}", quoted,
                              elements ? std::to_string(*elements) : "more than 2^64",
                              storage.elements));
    }
    if (pickled.offset < 0 ||
        static_cast<std::uint64_t>(pickled.offset) > storage.elements - *elements) {
      throw error(fmt::format("storage offset of {}, got {}, allowed 0 to {}", quoted,
                              pickled.offset, storage.elements - *elements));
    }
    out.storage_bytes = *storage_bytes;
    out.offset = static_cast<std::uint64_t>(pickled.offset) * storage.type->element_bytes;
    out.bytes = *elements * storage.type->element_bytes;
    return out;
  }

  /// Checks shape and strides; the number of elements.
  CheckedSize read_shape(const std::string& quoted,
                         const Tensor& pickled,
                         PickledTensor& out) const {
    const Tuple &shape = pickled.shape, &strides = pickled.strides;
    if (shape.size > PickleLimits::kRank || strides.size != shape.size) {
      throw error(fmt::format("rank of {}, got {} with {} strides, allowed 0 to {} with as many",
                              quoted, shape.size, strides.size, PickleLimits::kRank));
    }
    out.rank = static_cast<int>(shape.size);
    CheckedSize dense = 1;
    for (std::size_t i = shape.size; i > 0; --i) {
      const Value& dim = graph_.items[shape.begin + i - 1];
      const Value& stride = graph_.items[strides.begin + i - 1];
      if (dim.kind != Kind::kInt || dim.number < 1) {
        throw error(fmt::format(
            "dimension {} of {}, got {}, allowed integers from 1", i - 1, quoted,
            dim.kind == Kind::kInt ? std::to_string(dim.number) : std::string(kind_name(dim))));
      }
      const bool right = stride.kind == Kind::kInt && stride.number >= 0 &&
                         (dim.number == 1 || static_cast<std::uint64_t>(stride.number) == dense);
      if (dense && !right) {
        throw error(fmt::format("stride {} of {}, got {}, allowed {} (dense rows)", i - 1, quoted,
                                stride.kind == Kind::kInt ? std::to_string(stride.number)
                                                          : std::string(kind_name(stride)),
                                *dense));
      }
      out.dims[i - 1] = dim.number;
      dense = checked_mul(dense, static_cast<std::uint64_t>(dim.number));
    }
    return dense;
  }

  const pickle::Graph& graph_;
  const std::string& source_;
};

}  // namespace

std::vector<PickledTensor> read_pickled_tensors(std::span<const std::byte> pickle,
                                                const std::string& source) {
  const pickle::Graph graph = pickle::run_pickle(pickle, source);
  return TensorReader(graph, source).run();
}

}  // namespace heddle
