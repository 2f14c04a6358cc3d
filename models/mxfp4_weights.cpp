#include "models/mxfp4_weights.h"

#include <algorithm>
#include <utility>

#include "models/tensor_error.h"

namespace heddle {
namespace {

constexpr std::string_view kBlocks = "_blocks";
constexpr std::string_view kScales = "_scales";
constexpr std::size_t kPairBytes = 16;  // of one block in NAME_blocks

const StoredTensor* find_u8(const std::vector<StoredTensor>& tensors, std::string_view name) {
  const auto at = std::find_if(tensors.begin(), tensors.end(),
                               [&](const StoredTensor& t) { return t.name == name; });
  return at == tensors.end() || at->foreign != "U8" ? nullptr : &*at;
}

/// The scales of blocks that are there.
bool is_second(const StoredTensor& tensor, const std::vector<StoredTensor>& tensors) {
  if (tensor.foreign != "U8" || !tensor.name.ends_with(kScales)) return false;
  const std::string name = tensor.name.substr(0, tensor.name.size() - kScales.size());
  return find_u8(tensors, name + std::string(kBlocks)) != nullptr;
}

std::string shape_of(const TensorView& view) {
  std::string text = shape_text(view);
  return text.substr(0, text.find(']') + 1);
}

}  // namespace

Mxfp4Weights::Mxfp4Weights(std::unique_ptr<WeightStore> inner) : inner_(std::move(inner)) {
  for (const StoredTensor& tensor : inner_->tensors()) {
    if (is_second(tensor, inner_->tensors())) continue;  // with its blocks
    if (tensor.foreign != "U8" || !tensor.name.ends_with(kBlocks)) {
      tensors_.push_back(tensor);
      continue;
    }
    const std::string name = tensor.name.substr(0, tensor.name.size() - kBlocks.size());
    const std::string scales_name = name + std::string(kScales);
    const StoredTensor* const scales = find_u8(inner_->tensors(), scales_name);
    Pair pair;
    pair.blocks = tensor.view;
    const int rank = pair.blocks.rank;
    if (rank < 2 || pair.blocks.dim(rank - 1) != static_cast<std::int64_t>(kPairBytes)) {
      throw tensor_error(inner_->source(), tensor.name, "shape", shape_of(pair.blocks),
                         "[..., n, 16]");
    }
    pair.whole = pair.blocks;
    pair.whole.rank = rank - 1;
    pair.whole.dims[static_cast<std::size_t>(rank - 1)] = 0;
    if (scales == nullptr) {
      throw tensor_missing(inner_->source(), scales_name, shape_of(pair.whole));
    }
    pair.scales = scales->view;
    if (pair.scales.rank != pair.whole.rank || pair.scales.dims != pair.whole.dims) {
      throw tensor_error(inner_->source(), scales_name, "shape", shape_of(pair.scales),
                         shape_of(pair.whole));
    }
    pair.whole.dtype = DType::kMXFP4;
    pair.whole.dims[static_cast<std::size_t>(rank - 2)] *= info(DType::kMXFP4).block_elements;
    StoredTensor whole{name, pair.whole};
    whole.raw = {pair.blocks.as<const std::byte>(), static_cast<std::size_t>(pair.blocks.bytes())};
    whole.raw_scales = {pair.scales.as<const std::byte>(),
                        static_cast<std::size_t>(pair.scales.bytes())};
    tensors_.push_back(std::move(whole));
    pairs_.emplace(name, pair);
  }
}

TensorView Mxfp4Weights::require(std::string_view name,
                                 std::initializer_list<std::int64_t> shape,
                                 std::initializer_list<DType> dtypes) {
  const auto at = pairs_.find(name);
  if (at == pairs_.end()) return inner_->require(name, shape, dtypes);
  const TensorView& whole = at->second.whole;
  const auto* const dims = whole.dims.data();
  if (!std::equal(shape.begin(), shape.end(), dims, dims + whole.rank)) {
    TensorView wanted = whole;
    std::copy(shape.begin(), shape.end(), wanted.dims.begin());
    wanted.rank = static_cast<int>(shape.size());
    throw tensor_error(source(), name, "shape", shape_of(whole), shape_of(wanted));
  }
  if (made_ != name) {
    assemble(at->second);
    made_ = name;
    for (const std::string_view part : {kBlocks, kScales}) {
      inner_->ignore(std::string(name) + std::string(part));
    }
  }
  TensorView view = whole;
  view.data = values_.data();
  return view;
}

/// GGUF's block of 32: the scale, then in byte i the values i (low half) and i + 16.
void Mxfp4Weights::assemble(const Pair& pair) {
  const auto block_bytes = static_cast<std::size_t>(info(DType::kMXFP4).block_bytes);
  const auto n = static_cast<std::size_t>(pair.scales.elements());
  const auto* const blocks = pair.blocks.as<const unsigned char>();
  const auto* const scales = pair.scales.as<const unsigned char>();
  values_.resize(n * block_bytes);
  auto* out = reinterpret_cast<unsigned char*>(values_.data());
  for (std::size_t b = 0; b < n; ++b, out += block_bytes) {
    const unsigned char* const in = blocks + b * kPairBytes;
    const auto value = [&](std::size_t i) {
      return static_cast<unsigned>(i % 2 == 0 ? in[i / 2] & 15 : in[i / 2] >> 4);
    };
    out[0] = scales[b];
    for (std::size_t i = 0; i < kPairBytes; ++i) {
      out[1 + i] = static_cast<unsigned char>(value(i) | value(i + kPairBytes) << 4);
    }
  }
  inner_->release(pair.blocks, 0, static_cast<std::size_t>(pair.blocks.bytes()));
}

bool Mxfp4Weights::has(std::string_view name) const {
  return pairs_.contains(name) || inner_->has(name);
}

TensorView Mxfp4Weights::find(std::string_view name) const {
  const auto at = pairs_.find(name);
  return at == pairs_.end() ? inner_->find(name) : at->second.whole;
}

void Mxfp4Weights::ignore(std::string_view name) {
  if (!pairs_.contains(name)) inner_->ignore(name);
}

void Mxfp4Weights::release(const TensorView& view, std::size_t begin, std::size_t end) {
  const auto* const data = view.as<const std::byte>();
  const bool own = data >= values_.data() && data < values_.data() + values_.size();
  if (!own) inner_->release(view, begin, end);
}

void Mxfp4Weights::drop_made() {
  made_.clear();
  values_ = {};
  inner_->drop_made();
}

}  // namespace heddle
