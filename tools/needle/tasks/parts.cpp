#include "tools/needle/tasks/parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"

namespace heddle::needle {

Random draw(const CellKey& key, std::string_view what, Same same) {
  std::string purpose = fmt::format("{} {} {}", key.suite, key.task, what);
  if (same < Same::kSamples) purpose += fmt::format(" sample {}", key.sample);
  if (same < Same::kLengths) purpose += fmt::format(" length {}", key.length);
  if (same < Same::kDepths && key.depth) purpose += fmt::format(" depth {}", *key.depth);
  return Random(key.seed, purpose);
}

std::string joined(const std::vector<std::string>& items, Wording wording) {
  HEDDLE_CHECK(!items.empty());
  if (items.size() == 1) return items[0];
  if (items.size() == 2 && wording == Wording::kPlain) {
    return fmt::format("{} and {}", items[0], items[1]);
  }
  return fmt::format("{}, and {}", fmt::join(items.begin(), items.end() - 1, ", "), items.back());
}

void lay_out(Draft& draft, Wording wording, bool lines) {
  const bool plain = wording == Wording::kPlain;
  draft.outer = plain ? " " : "\n";
  draft.inner = plain || !lines ? " " : "\n";
}

}  // namespace heddle::needle
