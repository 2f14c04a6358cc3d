#pragma once
// Sets of Unicode code points, for the classes of regular expressions and grammars.

#include <cstdint>
#include <utility>
#include <vector>

namespace heddle {

/// Ascending, disjoint, not adjacent ranges of scalar values (no surrogates), ends included.
class CodePointSet {
 public:
  using Range = std::pair<std::uint32_t, std::uint32_t>;
  static constexpr std::uint32_t kLast = 0x10FFFF;

  CodePointSet() = default;
  CodePointSet(std::initializer_list<Range> ranges) {
    for (const Range& range : ranges) add(range.first, range.second);
  }
  void add(std::uint32_t low, std::uint32_t high);
  void add(const CodePointSet& other);
  CodePointSet complement() const;
  CodePointSet without(const CodePointSet& other) const;
  bool contains(std::uint32_t code_point) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

/// One way to write the code points of a range: each byte within its bounds.
struct ByteSequence {
  int length = 0;
  std::uint8_t low[4] = {};
  std::uint8_t high[4] = {};
};

/// The UTF-8 of a range of scalar values as sequences of byte ranges: disjoint, shortest forms
/// only.
std::vector<ByteSequence> utf8_sequences(std::uint32_t low, std::uint32_t high);

}  // namespace heddle
