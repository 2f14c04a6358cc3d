#include "engine/grammar/code_points.h"

#include <algorithm>
#include <iterator>

namespace heddle {
namespace {

constexpr std::uint32_t kFirstSurrogate = 0xD800;
constexpr std::uint32_t kLastSurrogate = 0xDFFF;

void encode(std::uint32_t c, int length, std::uint8_t* bytes) {
  constexpr std::uint8_t kLead[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
  for (int i = length - 1; i > 0; --i) {
    bytes[i] = static_cast<std::uint8_t>(0x80U | (c & 0x3FU));
    c >>= 6U;
  }
  bytes[0] = static_cast<std::uint8_t>(kLead[length] | c);
}

/// A range within one length of UTF-8. Cut where a lower byte would not run over all its values.
void split(std::uint32_t low, std::uint32_t high, int length, std::vector<ByteSequence>& out) {
  while (low <= high) {
    std::uint32_t end = high;
    // The widest aligned part that begins at low: so many low bytes free.
    for (int n_free = length - 1; n_free >= 0; --n_free) {
      const std::uint32_t size = std::uint32_t{1} << (6U * static_cast<unsigned>(n_free));
      if (low % size != 0) continue;
      if (low + (size - 1) > high) continue;
      // As many of these parts as share the bytes before.
      const std::uint32_t above = size << 6U;
      const std::uint32_t group_end = n_free == length - 1 ? high : low - low % above + above - 1;
      end = std::min(group_end, high);
      end -= (end + 1 - low) % size;
      break;
    }
    ByteSequence sequence{.length = length};
    encode(low, length, sequence.low);
    encode(end, length, sequence.high);
    out.push_back(sequence);
    if (end == high) break;
    low = end + 1;
  }
}

}  // namespace

void CodePointSet::add(std::uint32_t low, std::uint32_t high) {
  if (low <= kLastSurrogate && high >= kFirstSurrogate) {
    if (low < kFirstSurrogate) add(low, kFirstSurrogate - 1);
    if (high > kLastSurrogate) add(kLastSurrogate + 1, high);
    return;
  }
  if (low > high) return;
  const auto first = std::ranges::find_if(
      ranges_, [&](const Range& r) { return std::uint64_t{r.second} + 1 >= low; });
  auto last = first;
  for (; last != ranges_.end() && last->first <= std::uint64_t{high} + 1; ++last) {
    low = std::min(low, last->first);
    high = std::max(high, last->second);
  }
  ranges_.insert(ranges_.erase(first, last), {low, high});
}

void CodePointSet::add(const CodePointSet& other) {
  for (const Range& range : other.ranges_) add(range.first, range.second);
}

CodePointSet CodePointSet::complement() const {
  CodePointSet rest;
  std::uint32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) rest.add(next, range.first - 1);
    next = range.second + 1;
  }
  if (next <= kLast) rest.add(next, kLast);
  return rest;
}

CodePointSet CodePointSet::without(const CodePointSet& other) const {
  CodePointSet not_these = complement();
  not_these.add(other);
  return not_these.complement();
}

bool CodePointSet::contains(std::uint32_t code_point) const {
  return std::ranges::any_of(
      ranges_, [&](const Range& r) { return r.first <= code_point && code_point <= r.second; });
}

std::vector<ByteSequence> utf8_sequences(std::uint32_t low, std::uint32_t high) {
  constexpr std::uint32_t kLastOfLength[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
  std::vector<ByteSequence> sequences;
  std::uint32_t first = 0;
  for (int length = 1; length <= 4; ++length) {
    const std::uint32_t last = kLastOfLength[length - 1];
    const std::uint32_t from = std::max(low, first);
    const std::uint32_t to = std::min(high, last);
    if (from <= to) split(from, to, length, sequences);
    first = last + 1;
  }
  return sequences;
}

}  // namespace heddle
