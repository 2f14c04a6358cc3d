#include "tools/heddle/similar_name.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace heddle::cli {
namespace {

constexpr std::size_t kMostLetters = 64;
constexpr std::size_t kFewestLettersOfAStart = 3;

/// Edits between a and b: the restricted Damerau-Levenshtein distance.
std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(last.begin(), last.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::optional<std::string_view> similar_name(std::string_view typed,
                                             std::span<const std::string_view> names) {
  if (typed.size() > kMostLetters) return std::nullopt;
  std::optional<std::string_view> best;
  std::size_t fewest = 0;
  for (const std::string_view name : names) {
    const bool begins = typed.size() >= kFewestLettersOfAStart && name.starts_with(typed);
    const std::size_t distance = begins ? 0 : edits(typed, name);
    if (distance * 3 > name.size() || (best && distance >= fewest)) continue;
    best = name;
    fewest = distance;
  }
  return best;
}

}  // namespace heddle::cli
