#include "tools/serve/reply/parameter_value.h"

#include <utility>

namespace heddle::serve {

void ParameterValue::step(char c, std::string& json) {
  if (is_text_) {
    text_byte(c, json);
    return;
  }
  written_ += c;
  const JsonScanner::Step step = read(c);
  if (step == JsonScanner::Step::kBad || (step == JsonScanner::Step::kDoneBefore && !is_space(c))) {
    become_text(json);
  } else if (step != JsonScanner::Step::kMore) {
    state_ = State::kWhole;
  }
}

JsonScanner::Step ParameterValue::read(char c) {
  switch (state_) {
    case State::kStart:
      return is_space(c) ? JsonScanner::Step::kMore : begin(c);
    case State::kJson:
      return scanner_.step(c, value_);
    case State::kPython:
      if (c != python_.front()) return JsonScanner::Step::kBad;
      python_.remove_prefix(1);
      return python_.empty() ? JsonScanner::Step::kDone : JsonScanner::Step::kMore;
    default:
      return is_space(c) ? JsonScanner::Step::kMore : JsonScanner::Step::kBad;
  }
}

JsonScanner::Step ParameterValue::begin(char c) {
  if (c != 'T' && c != 'F' && c != 'N') {
    state_ = State::kJson;
    return scanner_.step(c, value_);
  }
  state_ = State::kPython;
  python_ = c == 'T' ? "rue" : c == 'F' ? "alse" : "one";
  value_ = c == 'T' ? "true" : c == 'F' ? "false" : "null";
  return JsonScanner::Step::kMore;
}

void ParameterValue::finish(std::string& json) {
  if (!is_text_ && (state_ == State::kWhole || (state_ == State::kJson && scanner_.may_end()))) {
    json += value_;
    return;
  }
  if (!is_text_) become_text(json);
  if (!open_) json += '"';
  json += '"';
}

void ParameterValue::become_text(std::string& json) {
  is_text_ = true;
  const std::string written = std::exchange(written_, {});
  for (const char c : written) text_byte(c, json);
}

void ParameterValue::text_byte(char c, std::string& json) {
  if (std::exchange(first_, false) && c == '\n') return;
  if (!std::exchange(open_, true)) json += '"';
  if (line_break_) json += "\\n";
  line_break_ = c == '\n';
  if (!line_break_) append_escaped(c, json);
}

}  // namespace heddle::serve
