#include "models/tokenizer/unigram.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

constexpr double kUnknownPenalty = 10.0;

std::size_t home(std::uint64_t key, std::size_t mask) {
  key *= 0x9E3779B97F4A7C15U;
  key ^= key >> 29U;
  key *= 0xBF58476D1CE4E5B9U;
  return (key >> 32U) & mask;
}

}  // namespace

Unigram::Unigram(const std::vector<UnigramPiece>& pieces, Options options)
    : options_(std::move(options)) {
  std::size_t bytes = 1;
  double least = pieces.empty() ? 0.0 : pieces.front().score;
  for (const UnigramPiece& piece : pieces) {
    HEDDLE_CHECK(piece.text.size() <= kMaxPiece);
    bytes += piece.usable ? piece.text.size() : 0;
    least = std::min(least, piece.score);
  }
  unknown_score_ = least - kUnknownPenalty;
  slots_.resize(std::bit_ceil(bytes * 2));
  leaves_.emplace_back();  // the root
  for (const UnigramPiece& piece : pieces) {
    if (piece.usable && !piece.text.empty()) insert(piece);
  }
}

std::uint32_t Unigram::child(std::uint32_t node, unsigned char byte) const {
  const std::uint64_t key = (std::uint64_t{node} << 8U) | byte;
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = home(key, mask);; i = (i + 1) & mask) {
    if (slots_[i].key == key) return slots_[i].child;
    if (slots_[i].key == kFree) return 0;
  }
}

void Unigram::insert(const UnigramPiece& piece) {
  std::uint32_t node = 0;
  const std::size_t mask = slots_.size() - 1;
  for (const char c : piece.text) {
    const std::uint64_t key = (std::uint64_t{node} << 8U) | static_cast<unsigned char>(c);
    std::size_t i = home(key, mask);
    while (slots_[i].key != key && slots_[i].key != kFree) i = (i + 1) & mask;
    if (slots_[i].key == kFree) {
      slots_[i] = {key, static_cast<std::uint32_t>(leaves_.size())};
      leaves_.emplace_back();
    }
    node = slots_[i].child;
  }
  leaves_[node] = {piece.id, piece.score};
}

void Unigram::find_best(std::string_view word, Scratch& scratch) const {
  auto& nodes = scratch.nodes;
  nodes.assign(word.size() + 1, {});
  const auto offer = [&](std::size_t end, Scratch::Node candidate) {
    Scratch::Node& node = nodes[end];
    if (node.begin == Scratch::kNowhere || candidate.score > node.score) node = candidate;
  };
  for (std::size_t begin = 0; begin < word.size();) {
    const double so_far = nodes[begin].score;
    const std::size_t character = utf8_step(word, begin).length;
    bool single = false;
    std::uint32_t node = 0;
    for (std::size_t end = begin; end < word.size();) {
      node = child(node, static_cast<unsigned char>(word[end++]));
      if (node == 0) break;
      const Leaf& leaf = leaves_[node];
      if (leaf.id < 0) continue;
      offer(end, {leaf.id, leaf.score + so_far, begin});
      single |= end - begin == character;
    }
    if (!single) offer(begin + character, {-1, unknown_score_ + so_far, begin});
    begin += character;
  }
}

void Unigram::append_unknown(std::string_view run, std::vector<TokenId>& reversed) const {
  if (!options_.byte_tokens.empty()) {
    const std::size_t before = reversed.size();
    bool all = true;
    for (auto c = run.rbegin(); c != run.rend(); ++c) {
      const TokenId id = options_.byte_tokens[static_cast<unsigned char>(*c)];
      all = all && id >= 0;
      reversed.push_back(id);
    }
    if (all) return;
    reversed.resize(before);
  }
  if (options_.unknown < 0) {
    throw bad_input("the text has " + quote_text(run) +
                    ", for which the vocabulary has neither a token nor an unknown token");
  }
  reversed.push_back(options_.unknown);
}

void Unigram::encode(std::string_view word, Scratch& scratch, std::vector<TokenId>& out) const {
  find_best(word, scratch);
  scratch.reversed.clear();
  std::size_t run_end = 0;  // of unknown characters, which become one token
  for (std::size_t end = word.size(); end > 0;) {
    const Scratch::Node& node = scratch.nodes[end];
    // A piece that is the unknown token itself joins the run, as in the reference.
    const bool unknown = node.id < 0 || node.id == options_.unknown;
    if (unknown && run_end == 0) run_end = end;
    if (!unknown) {
      if (run_end > 0) append_unknown(word.substr(end, run_end - end), scratch.reversed);
      run_end = 0;
      scratch.reversed.push_back(node.id);
    }
    end = node.begin;
  }
  if (run_end > 0) append_unknown(word.substr(0, run_end), scratch.reversed);
  out.insert(out.end(), scratch.reversed.rbegin(), scratch.reversed.rend());
}

}  // namespace heddle
