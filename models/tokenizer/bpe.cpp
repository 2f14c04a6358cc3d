#include "models/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <string>

#include "base/error.h"
#include "models/quote_text.h"
#include "models/tokenizer/gguf_spec.h"

namespace heddle {
namespace {

constexpr std::size_t kShortWord = 40;  // up to here scanning all ranks beats the queue [measured]
constexpr std::uint32_t kNone = 0xFFFFFFFFU;

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges) {
  HEDDLE_CHECK(merges.size() <= kMaxMerges);
  slots_.resize(std::bit_ceil(std::max<std::size_t>(merges.size() * 2, 2)));
  results_.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    results_.push_back(merges[i].result);
    if (merges[i].usable) insert(merges[i], static_cast<std::uint32_t>(i));
  }
}

std::size_t MergeTable::home(TokenId left, TokenId right) const {
  const std::uint64_t key =
      (std::uint64_t{static_cast<std::uint32_t>(left)} << 32U) | static_cast<std::uint32_t>(right);
  std::uint64_t hash = key * 0x9E3779B97F4A7C15U;
  hash ^= hash >> 29U;
  hash *= 0xBF58476D1CE4E5B9U;
  return (hash >> 32U) & (slots_.size() - 1);
}

void MergeTable::insert(const Merge& merge, std::uint32_t rank) {
  std::size_t i = home(merge.left, merge.right);
  while (slots_[i].left >= 0 && !(slots_[i].left == merge.left && slots_[i].right == merge.right)) {
    i = (i + 1) & (slots_.size() - 1);
  }
  slots_[i] = {merge.left, merge.right, rank};
}

std::uint32_t MergeTable::rank(TokenId left, TokenId right) const {
  for (std::size_t i = home(left, right);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.left == left && slot.right == right) return slot.rank;
    if (slot.left < 0) return kNoMerge;
  }
}

Bpe::Bpe(MergeTable merges, std::int32_t vocab, bool whole_words)
    : merges_(std::move(merges)),
      whole_words_(whole_words),
      memo_(std::make_unique<std::atomic<Memo>[]>(static_cast<std::size_t>(vocab))) {}

bool Bpe::take_whole(TokenId whole, std::vector<TokenId>& out) const {
  if (whole < 0) return false;
  if (!whole_words_ &&
      memo_[static_cast<std::size_t>(whole)].load(std::memory_order_relaxed) != Memo::kYes) {
    return false;
  }
  out.push_back(whole);
  return true;
}

void Bpe::merge(TokenId whole, Scratch& scratch, std::vector<TokenId>& out) const {
  const std::size_t count = scratch.ids.size();
  const std::size_t before = out.size();
  scratch.ranks.resize(count);
  for (std::size_t i = 0; i + 1 < count; ++i) {
    scratch.ranks[i] = merges_.rank(scratch.ids[i], scratch.ids[i + 1]);
  }
  if (count > 0) scratch.ranks.back() = MergeTable::kNoMerge;
  if (count <= kShortWord) {
    merge_short(scratch, out);
  } else {
    merge_long(scratch, out);
  }
  if (whole < 0) return;
  const bool same = out.size() == before + 1 && out.back() == whole;
  memo_[static_cast<std::size_t>(whole)].store(same ? Memo::kYes : Memo::kNo,
                                               std::memory_order_relaxed);
}

void Bpe::merge_short(Scratch& scratch, std::vector<TokenId>& out) const {
  std::vector<TokenId>& ids = scratch.ids;
  std::vector<std::uint32_t>& ranks = scratch.ranks;  // of the pair that begins here
  while (ids.size() > 1) {
    const auto lowest = std::min_element(ranks.begin(), ranks.end());
    if (*lowest == MergeTable::kNoMerge) break;
    const auto at = lowest - ranks.begin();
    const auto i = static_cast<std::size_t>(at);
    ids[i] = merges_.result(*lowest);
    ids.erase(ids.begin() + at + 1);
    ranks.erase(lowest + 1);
    ranks[i] = i + 1 < ids.size() ? merges_.rank(ids[i], ids[i + 1]) : MergeTable::kNoMerge;
    if (i > 0) ranks[i - 1] = merges_.rank(ids[i - 1], ids[i]);
  }
  out.insert(out.end(), ids.begin(), ids.end());
}

void Bpe::merge_long(Scratch& scratch, std::vector<TokenId>& out) const {
  std::vector<TokenId>& ids = scratch.ids;
  std::vector<std::uint32_t>& ranks = scratch.ranks;
  const auto count = static_cast<std::uint32_t>(ids.size());
  HEDDLE_CHECK(ids.size() < kNone);
  scratch.previous.resize(count);
  scratch.next.resize(count);
  std::vector<std::uint64_t>& queue = scratch.queue;  // (rank, position) with stale entries
  queue.clear();
  const auto entry = [](std::uint32_t rank, std::uint32_t position) {
    return (std::uint64_t{rank} << 32U) | position;
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    scratch.previous[i] = i == 0 ? kNone : i - 1;
    scratch.next[i] = i + 1 == count ? kNone : i + 1;
    if (ranks[i] != MergeTable::kNoMerge) queue.push_back(entry(ranks[i], i));
  }
  std::make_heap(queue.begin(), queue.end(), std::greater<>());
  const auto update = [&](std::uint32_t left) {
    const std::uint32_t right = scratch.next[left];
    ranks[left] = right == kNone ? MergeTable::kNoMerge : merges_.rank(ids[left], ids[right]);
    if (ranks[left] == MergeTable::kNoMerge) return;
    queue.push_back(entry(ranks[left], left));
    std::push_heap(queue.begin(), queue.end(), std::greater<>());
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), std::greater<>());
    const std::uint64_t top = queue.back();
    queue.pop_back();
    const auto rank = static_cast<std::uint32_t>(top >> 32U);
    const auto left = static_cast<std::uint32_t>(top);
    if (ranks[left] != rank) continue;  // one of the two was merged since
    const std::uint32_t right = scratch.next[left];
    ids[left] = merges_.result(rank);
    ranks[right] = MergeTable::kNoMerge;
    scratch.next[left] = scratch.next[right];
    if (scratch.next[left] != kNone) scratch.previous[scratch.next[left]] = left;
    update(left);
    if (scratch.previous[left] != kNone) update(scratch.previous[left]);
  }
  for (std::uint32_t i = 0; i != kNone; i = scratch.next[i]) out.push_back(ids[i]);
}

std::vector<Merge> read_merges(const TokenizerSpec& spec, const TokenVocabulary& vocabulary) {
  const std::size_t count = spec.merges.size();
  if (count > MergeTable::kMaxMerges) {
    throw spec_error(spec.source, "merges", std::to_string(count) + " entries",
                     "up to " + std::to_string(MergeTable::kMaxMerges));
  }
  std::vector<Merge> merges;
  merges.reserve(count);
  std::string merged;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view text = spec.merges[i];
    const auto name = [&] { return "merges[" + std::to_string(i) + "]"; };
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == text.size() ||
        text.find(' ', space + 1) != std::string_view::npos) {
      throw spec_error(spec.source, name(), quote_text(text),
                       "two tokens with one space between them");
    }
    const std::string_view left = text.substr(0, space);
    const std::string_view right = text.substr(space + 1);
    merged.assign(left).append(right);
    const auto require = [&](std::string_view token) {
      const TokenId id = vocabulary.find_text(token);
      if (id >= 0) return id;
      throw spec_error(
          spec.source, name(), quote_text(text) + ", which needs the token " + quote_text(token),
          "tokens of tokenizer.ggml.tokens (" + std::to_string(vocabulary.size()) + ")");
    };
    const TokenId left_id = require(left);
    const TokenId right_id = require(right);
    const TokenId merged_id = require(merged);
    merges.push_back({left_id, right_id, merged_id, !vocabulary.is_control(merged_id)});
  }
  return merges;
}

}  // namespace heddle
