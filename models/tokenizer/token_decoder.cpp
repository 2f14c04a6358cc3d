#include "models/tokenizer/token_decoder.h"

#include <charconv>

#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr int kMaxDepth = 8;
constexpr std::size_t kMaxSteps = 16;
constexpr std::size_t kMaxInsert = 64;
constexpr std::string_view kTypes =
    "Sequence (up to 8 deep), ByteLevel, Metaspace, ByteFallback, Fuse, Strip, Replace";

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  std::size_t kept = 0;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, kept)) {
    out += text.substr(kept, at - kept);
    out += to;
    kept = at + from.size();
  }
  out += text.substr(kept);
  return out;
}

}  // namespace

int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = -1;
  const char* end = token.data() + 5;
  const auto [stop, error] = std::from_chars(token.data() + 3, end, value, 16);
  return error == std::errc() && stop == end && token[3] != '-' ? value : -1;
}

TokenDecoder::TokenDecoder(const JsonNode& node) {
  joined_ = true;
  add(node, 0);
}

void TokenDecoder::add_strip(const JsonNode& node) {
  node.only({"type", "content", "start", "stop"});
  const std::string& content = node["content"].text();
  if (content.size() != 1) throw node["content"].wrong("one ASCII character");
  const auto start = static_cast<int>(node["start"].integer(0, 1000));
  node["stop"].integer(0, 0);  // the end of a text is not known while it grows
  if (!fused_) throw node["type"].error("Strip before Fuse", "Strip after Fuse or ByteLevel");
  if (n_strip_ > 0 && start > 0) throw node["type"].error("a second Strip", "one");
  strip_ = content.front();
  if (start > 0) n_strip_ = start;
}

void TokenDecoder::add(const JsonNode& node, int depth) {
  const JsonNode type = node["type"];
  const std::string& name = type.text();
  if (name == "Sequence" && depth < kMaxDepth) {
    node.only({"type", "decoders"});
    const JsonNode list = node["decoders"];
    list.expect_array();
    for (std::size_t i = 0; i < list.size(); ++i) add(list.at(i), depth + 1);
  } else if (name == "Fuse") {
    node.only({"type"});
    fused_ = true;
  } else if (name == "Strip") {
    add_strip(node);
  } else if (fused_ || byte_fallback_) {
    throw type.wrong("Fuse or Strip here, where tokens are joined already");
  } else if (name == "ByteLevel") {
    node.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    byte_level_ = fused_ = true;
  } else if (name == "ByteFallback") {
    node.only({"type"});
    byte_fallback_ = true;
  } else if (steps_.size() >= kMaxSteps) {
    throw type.error("more than 16 steps", "fewer");
  } else if (name == "Replace") {
    node.only({"type", "pattern", "content"});
    node["pattern"].only({"String"});
    const JsonNode from = node["pattern"]["String"];
    if (from.text().empty()) throw from.wrong("a text");
    const JsonNode to = node["content"];
    if (to.text().size() > kMaxInsert) throw to.error("more than 64 bytes", "fewer");
    steps_.emplace_back(Replace{from.text(), to.text()});
  } else if (name == "Metaspace") {
    node.only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
    const JsonNode replacement = node["replacement"];
    const std::string& text = replacement.text();
    if (text.empty() || utf8_step(text, 0).length != text.size()) {
      throw replacement.wrong("one character");
    }
    bool prepended = node.boolean_or("add_prefix_space", true);
    if (node.has_value("prepend_scheme")) prepended &= node["prepend_scheme"].text() != "never";
    steps_.emplace_back(Metaspace{text, prepended});
  } else {
    throw type.wrong(kTypes);
  }
}

std::string TokenDecoder::spell(std::string_view token, bool first) const {
  std::string text(token);
  for (const auto& step : steps_) {
    if (const auto* replace = std::get_if<Replace>(&step)) {
      text = replaced(text, replace->from, replace->to);
    } else {
      const auto& metaspace = std::get<Metaspace>(step);
      text = replaced(text, metaspace.replacement, first && metaspace.drop_first ? "" : " ");
    }
  }
  return text;
}

std::string TokenDecoder::bytes(std::string_view token, DecodeState& state) const {
  const bool first = !state.begun;
  state.begun = true;
  if (!joined_) return first ? std::string(token) : " " + std::string(token);
  std::string text = spell(token, first);
  if (byte_level_) {
    if (auto bytes = decode_byte_level(text)) text = std::move(*bytes);
  }
  if (byte_fallback_) {
    const int byte = byte_of_token(text);
    if (byte >= 0) text.assign(1, static_cast<char>(byte));
  }
  if (state.n_stripped >= n_strip_) return text;
  std::size_t cut = 0;
  while (cut < text.size() && state.n_stripped < n_strip_ && text[cut] == strip_) {
    ++cut;
    ++state.n_stripped;
  }
  if (cut < text.size()) state.n_stripped = n_strip_;  // the text has begun
  return text.substr(cut);
}

}  // namespace heddle
