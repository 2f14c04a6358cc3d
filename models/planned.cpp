#include "models/planned.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/half.h"
#include "base/mapped_file.h"
#include "base/philox.h"
#include "models/config_json.h"
#include "models/families/native.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

/// Every tensor that somebody expects exists.
class PlannedWeights : public WeightStore {
 public:
  explicit PlannedWeights(std::string source) : source_(std::move(source)) {}

  TensorView expect(std::string_view name, std::initializer_list<std::int64_t> shape) override {
    const auto at = index_.find(name);
    if (at != index_.end()) return tensors_[at->second].view;
    // no byte of it is read before require() gives it some
    TensorView view(&kNoBytes, shape.size() > 1 ? DType::kBF16 : DType::kF32, shape);
    index_.emplace(name, tensors_.size());
    tensors_.push_back({std::string(name), view});
    tensors_.back().raw = {&kNoBytes, 1};
    return view;
  }
  TensorView require(std::string_view name,
                     std::initializer_list<std::int64_t> shape,
                     std::initializer_list<DType> /*dtypes*/) override {
    TensorView view = expect(name, shape);
    fill(view);
    view.data = values_.data();
    return view;
  }
  bool has(std::string_view name) const override { return index_.contains(name); }
  TensorView find(std::string_view name) const override {
    const auto at = index_.find(name);
    return at == index_.end() ? TensorView() : tensors_[at->second].view;
  }
  void ignore(std::string_view /*name*/) override {}
  void release(const TensorView& /*view*/, std::size_t /*begin*/, std::size_t /*end*/) override {}
  void drop_made() override { values_ = {}; }
  void check_all_bound() const override {}
  const std::vector<StoredTensor>& tensors() const override { return tensors_; }
  const std::string& source() const override { return source_; }

 private:
  static constexpr std::byte kNoBytes{};

  /// The values of one tensor at a time: who asks for the next has taken the last.
  void fill(const TensorView& view) {
    constexpr std::size_t kPeriod = 65'521;  // a prime: rows do not repeat
    const bool matrix = view.rank > 1;
    const double bound =
        matrix ? std::sqrt(3.0 / static_cast<double>(view.dim(view.rank - 1))) : 0.1;
    std::vector<std::byte> table;
    const std::size_t size = matrix ? sizeof(std::uint16_t) : sizeof(float);
    table.resize(kPeriod * size);
    for (std::size_t i = 0; i < kPeriod; ++i) {
      const double u = 2.0 * philox_uniform(20'261'124, 0, i) - 1.0;
      const auto value = static_cast<float>(matrix ? bound * u : 1.0 + bound * u);
      const std::uint16_t half = f32_to_bf16(value);
      std::memcpy(table.data() + i * size, matrix ? static_cast<const void*>(&half) : &value, size);
    }
    values_.resize(static_cast<std::size_t>(view.bytes()));
    for (std::size_t at = 0; at < values_.size(); at += table.size()) {
      std::memcpy(values_.data() + at, table.data(), std::min(table.size(), values_.size() - at));
    }
  }

  std::string source_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::vector<std::byte> values_;
};

/// Ids without texts.
class IdTokenizer : public Tokenizer {
 public:
  explicit IdTokenizer(std::int32_t size) : size_(size) { facts_.model = "none"; }

  std::vector<TokenId> encode(std::string_view /*text*/,
                              const EncodeOptions& /*options*/) const override {
    throw bad_input("a config alone has no tokenizer");
  }
  std::string token_bytes(TokenId /*id*/, bool /*special*/) const override { return ""; }
  std::int32_t vocab_size() const override { return size_; }
  bool is_control(TokenId /*id*/) const override { return false; }
  std::optional<TokenId> find(std::string_view /*token*/) const override { return std::nullopt; }
  const TokenizerFacts& facts() const override { return facts_; }
  std::string describe() const override { return "none"; }

 private:
  std::int32_t size_;
  TokenizerFacts facts_;
};

}  // namespace

Checkpoint planned_checkpoint(const std::string& path, int layers) {
  const ConfigJson config = ConfigJson::parse(read_file(path), path, "config");
  const std::string type = config.text("model_type").value_or("");
  if (type != "heddle") {
    throw config.error("model_type", quote_text(type),
                       "'heddle': shapes without a checkpoint are read in Heddle's own format");
  }
  Checkpoint checkpoint;
  checkpoint.config.family = type;
  checkpoint.weights = std::make_unique<PlannedWeights>(path);
  read_native(config, checkpoint, layers);
  const auto n_layers = static_cast<int>(checkpoint.config.layers.size());
  if (layers > n_layers) {
    throw bad_input(
        fmt::format("{}: config: --layers, got {}, allowed 1 to {}", path, layers, n_layers));
  }
  checkpoint.tokenizer = std::make_unique<IdTokenizer>(checkpoint.config.vocab);
  return checkpoint;
}

}  // namespace heddle
