#include "models/attention_mode.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <vector>

#include "base/error.h"
#include "models/families/limits.h"
#include "models/overloaded.h"
#include "models/quote_text.h"

namespace heddle {
namespace {

constexpr std::string_view kModes =
    "dense, sliding:W, streaming:SINK,W, strided:BLOCK,STRIDE, dilated:BLOCK,RATE, "
    "power:BLOCK[,LOCAL], infllm:BLOCK,TOPK";
constexpr int kMostTokens = ModelLimits::kContext;
constexpr int kMostBlock = 65'536;

Error refusal(std::string_view mode, std::string_view got, std::string_view allowed) {
  return bad_input(
      fmt::format("--attention: {}: got {}, allowed {}", quote_text(mode), got, allowed));
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0;;) {
    const std::size_t end = text.find(by, begin);
    parts.push_back(text.substr(begin, end == std::string_view::npos ? end : end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// A mode's name and numbers.
class ModeReader {
 public:
  explicit ModeReader(std::string_view mode) : mode_(mode) {
    const std::size_t colon = mode.find(':');
    name_ = mode.substr(0, colon);
    if (colon != std::string_view::npos) values_ = split(mode.substr(colon + 1), ',');
  }

  std::string_view name() const { return name_; }
  void expect(std::size_t least, std::size_t most) const {
    if (values_.size() >= least && values_.size() <= most) return;
    throw refusal(mode_, fmt::format("{} numbers", values_.size()), kModes);
  }
  int take(std::size_t i, std::string_view what, int least, int most, int multiple = 1) const {
    const std::optional<int> value = number(values_[i]);
    if (value && *value >= least && *value <= most && *value % multiple == 0) return *value;
    const std::string allowed =
        multiple == 1 ? fmt::format("{} to {}", least, most)
                      : fmt::format("multiples of {} from {} to {}", multiple, least, most);
    throw refusal(mode_, fmt::format("{} {}", what, quote_text(values_[i])), allowed);
  }
  int block() const { return take(0, "BLOCK", 16, kMostBlock, 16); }
  Error wrong_block(std::string_view allowed) const {
    return refusal(mode_, fmt::format("BLOCK {}", quote_text(values_[0])), allowed);
  }
  int at(std::size_t i, std::string_view what, int otherwise) const {
    return i < values_.size() ? take(i, what, 1, kMostBlock) : otherwise;
  }
  Error unknown() const { return refusal(mode_, quote_text(name_), kModes); }

 private:
  std::string_view mode_, name_;
  std::vector<std::string_view> values_;
};

/// What a layer gets.
struct Pattern {
  int window = 0;
  int first_keys = 0;
  SparseSpec sparse;
};

SelectSpec read_infllm(const ModeReader& reader) {
  SelectSpec s;
  s.block = reader.block();
  const int extra = reader.take(1, "TOPK", 1, kMostBlock);
  s.stride = s.block / 4;
  s.kernel = s.block / 2;
  if (!is_stride_of(s.stride, s.block)) throw reader.wrong_block("powers of two from 16");
  s.init_blocks = 1;
  s.local_blocks = 4;
  s.top_k = extra + s.init_blocks + s.local_blocks;
  const std::int64_t dense = std::int64_t{s.top_k} * s.block;
  s.dense_below = static_cast<int>(std::min<std::int64_t>(dense, kMostTokens));
  return s;
}

Pattern read_mode(std::string_view mode) {
  const ModeReader reader(mode);
  Pattern p;
  if (reader.name() == "dense") {
    reader.expect(0, 0);
  } else if (reader.name() == "sliding") {
    reader.expect(1, 1);
    p.window = reader.take(0, "W", 1, kMostTokens);
  } else if (reader.name() == "streaming") {
    reader.expect(2, 2);
    p.first_keys = reader.take(0, "SINK", 0, kMostTokens);
    p.window = reader.take(1, "W", 1, kMostTokens);
  } else if (reader.name() == "strided" || reader.name() == "dilated") {
    reader.expect(2, 2);
    const bool strided = reader.name() == "strided";
    p.sparse = PatternSpec{strided ? BlockPattern::kStrided : BlockPattern::kDilated,
                           reader.block(), reader.at(1, strided ? "STRIDE" : "RATE", 1), 0};
  } else if (reader.name() == "power") {
    reader.expect(1, 2);
    p.sparse = PatternSpec{BlockPattern::kPower, reader.block(), 0, reader.at(1, "LOCAL", 5)};
  } else if (reader.name() == "infllm") {
    reader.expect(2, 2);
    p.sparse = read_infllm(reader);
  } else {
    throw reader.unknown();
  }
  return p;
}

struct Range {
  int first = 0;
  int last = 0;
};

std::vector<Range> read_ranges(std::string_view part, std::string_view text) {
  std::vector<Range> ranges;
  for (const std::string_view one : split(text, ',')) {
    const auto ends = split(one, '-');
    const std::optional<int> first = number(ends.front());
    const std::optional<int> last = number(ends.back());
    if (ends.size() > 2 || !first || !last || *first < 0 || *last < *first) {
      throw refusal(part, fmt::format("layers {}", quote_text(one)), "numbers and A-B from 0 on");
    }
    ranges.push_back({*first, *last});
  }
  return ranges;
}

/// One MODE[@LAYERS].
struct Part {
  std::string_view text;
  Pattern pattern;
  std::vector<Range> layers;  // empty: all
};

std::vector<Part> read_parts(std::string_view mode) {
  std::vector<Part> parts;
  for (const std::string_view text : split(mode, ';')) {
    const std::size_t at = text.find('@');
    Part part;
    part.text = text;
    part.pattern = read_mode(text.substr(0, at));
    if (at != std::string_view::npos) part.layers = read_ranges(text, text.substr(at + 1));
    parts.push_back(std::move(part));
  }
  return parts;
}

/// Whether the layer has softmax attention that sees all keys.
bool apply(const Pattern& pattern, LayerSpec& layer) {
  bool applied = false;
  for (MixerSpec& mixer : layer.mixers) {
    auto* const spec = std::get_if<SoftmaxAttentionSpec>(&mixer);
    if (spec == nullptr || spec->window > 0 || spec->sparse.index() != 0) continue;
    spec->window = pattern.window;
    spec->first_keys = pattern.first_keys;
    spec->sparse = pattern.sparse;
    applied = true;
  }
  return applied;
}

/// The layers that a part is for; all that it may change where it names none.
std::vector<int> layers_of(const Part& part, int n_layers) {
  std::vector<int> layers;
  for (const Range& range : part.layers) {
    if (range.last >= n_layers) {
      throw refusal(part.text, fmt::format("layer {}", range.last),
                    fmt::format("0 to {}", n_layers - 1));
    }
    for (int i = range.first; i <= range.last; ++i) layers.push_back(i);
  }
  if (part.layers.empty()) {
    for (int i = 0; i < n_layers; ++i) layers.push_back(i);
  }
  return layers;
}

}  // namespace

void check_attention_mode(std::string_view mode) {
  read_parts(mode);
}

void apply_attention_mode(std::string_view mode, ModelConfig& config) {
  const int n_layers = static_cast<int>(config.layers.size());
  std::vector<bool> taken(config.layers.size(), false);
  for (const Part& part : read_parts(mode)) {
    bool applied = false;
    for (const int i : layers_of(part, n_layers)) {
      const auto at = static_cast<std::size_t>(i);
      if (taken[at]) {
        throw refusal(part.text, fmt::format("layer {} again", i), "one mode for each layer");
      }
      taken[at] = true;
      const bool own = apply(part.pattern, config.layers[at]);
      applied = applied || own;
      if (!own && !part.layers.empty()) {
        throw refusal(part.text, fmt::format("layer {} without softmax attention over all keys", i),
                      "layers that have it");
      }
    }
    if (!applied) {
      throw refusal(part.text, "a model without softmax attention over all keys",
                    "models that have it");
    }
  }
}

}  // namespace heddle
