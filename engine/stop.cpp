#include "engine/stop.h"

#include <algorithm>
#include <utility>

namespace heddle {

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  std::size_t earliest = std::string::npos;
  for (const std::string& stop : stops_) earliest = std::min(earliest, held_.find(stop));
  if (earliest != std::string::npos) {
    stopped_ = true;
    held_.resize(earliest);
    return std::exchange(held_, {});
  }
  // Hold back the longest end that is the beginning of a stop text.
  std::size_t hold = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > hold; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) hold = n;
    }
  }
  std::string certain = held_.substr(0, held_.size() - hold);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

std::string TextAssembler::finish() {
  std::string text = matcher_.push(decoder_.finish());
  return text + matcher_.finish();
}

}  // namespace heddle
