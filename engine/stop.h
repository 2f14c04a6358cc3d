#pragma once
// From token bytes to text that may be shown: whole code points, and nothing that a stop text could
// still swallow.

#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"

namespace heddle {

/// Watches a growing text for stop texts. Text is given out as soon as it cannot be part of one.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  /// Appends text; returns what is certain. After a stop text: stopped(), and the rest is dropped.
  std::string push(std::string_view text);
  /// End of the stream: what was held back.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

/// Token bytes in, text out.
class TextAssembler {
 public:
  explicit TextAssembler(std::vector<std::string> stops) : matcher_(std::move(stops)) {}
  std::string push(std::string_view token_bytes) {
    return matcher_.push(decoder_.push(token_bytes));
  }
  std::string finish();
  bool stopped() const { return matcher_.stopped(); }

 private:
  StreamDecoder decoder_;
  StopMatcher matcher_;
};

}  // namespace heddle
