#pragma once
// A checkpoint without bytes, for tests of what a family makes of a config: every tensor that it
// expects is there, in the shape that it expects.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/families/families.h"
#include "models/tensor_error.h"
#include "tests/support/gguf_writer.h"

namespace heddle::test {

using TensorShape = std::vector<std::int64_t>;

class ExpectedWeights : public WeightStore {
 public:
  /// `there` exist already; matrices are BF16, vectors F32.
  explicit ExpectedWeights(const std::map<std::string, TensorShape>& there) {
    for (const auto& [name, shape] : there) add(name, shape);
  }

  TensorView expect(std::string_view name, std::initializer_list<std::int64_t> shape) override {
    const TensorView known = find(name);
    return known.absent() ? add(std::string(name), shape) : known;
  }
  TensorView require(std::string_view name,
                     std::initializer_list<std::int64_t> /*shape*/,
                     std::initializer_list<DType> /*dtypes*/) override {
    throw tensor_missing(source_, name, "no bytes");
  }
  bool has(std::string_view name) const override { return !find(name).absent(); }
  TensorView find(std::string_view name) const override {
    for (const StoredTensor& tensor : tensors_) {
      if (tensor.name == name) return tensor.view;
    }
    return {};
  }
  void ignore(std::string_view /*name*/) override {}
  void release(const TensorView& /*view*/, std::size_t /*begin*/, std::size_t /*end*/) override {}
  void drop_made() override {}
  void check_all_bound() const override {}
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  const std::string& source() const override { return source_; }

 private:
  TensorView add(const std::string& name, const TensorShape& shape) {
    static constexpr std::byte kNoBytes{};
    TensorView view(&kNoBytes, shape.size() > 1 ? DType::kBF16 : DType::kF32, {});
    for (const std::int64_t dim : shape) view.dims[static_cast<std::size_t>(view.rank++)] = dim;
    tensors_.push_back({name, view});
    return view;
  }

  std::string source_ = "weights";
  std::vector<StoredTensor> tensors_;
};

/// What the family of config's model_type makes of it, with tensors that are there beside those it
/// expects.
inline Checkpoint read_family(const nlohmann::json& config,
                              const std::map<std::string, TensorShape>& there) {
  Checkpoint checkpoint;
  checkpoint.weights = std::make_unique<ExpectedWeights>(there);
  const std::string type = config.at("model_type");
  for (const Family& family : families()) {
    if (family.name != type && family.other_name != type) continue;
    checkpoint.config.family = family.name;
    family.read_folder(ConfigJson::parse(config.dump(), "config.json", "config"), checkpoint);
    return checkpoint;
  }
  throw bad_input("no family " + type);
}

/// The same from the keys of a GGUF file.
inline Checkpoint read_gguf_family(const GgufDoc& doc,
                                   const std::string& architecture,
                                   const std::map<std::string, TensorShape>& there) {
  const std::string bytes = doc.serialise();
  Checkpoint checkpoint;
  checkpoint.weights = std::make_unique<ExpectedWeights>(there);
  const GgufDirectory file = GgufDirectory::parse(std::as_bytes(std::span(bytes)), "x.gguf");
  for (const Family& family : families()) {
    if (family.gguf != architecture) continue;
    checkpoint.config.family = family.name;
    family.read_gguf(file, checkpoint);
    return checkpoint;
  }
  throw bad_input("no architecture " + architecture);
}

/// What `read` says of a wrong config, or "accepted".
template <typename Read>
std::string refusal_of(const Read& read) {
  try {
    read();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "accepted";
}

inline std::string shape_of(const Checkpoint& checkpoint, const std::string& tensor) {
  return shape_text(checkpoint.weights->find(tensor));
}

}  // namespace heddle::test
