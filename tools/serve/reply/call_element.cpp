#include <algorithm>

#include "tools/serve/reply/call_parsers.h"

namespace heddle::serve {
namespace {

constexpr std::string_view kParameterClose = "</parameter>";

/// Without quotes around it and spaces at its ends.
std::string_view unquoted(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  const bool quoted = text.size() >= 2 && text.front() == text.back() &&
                      (text.front() == '"' || text.front() == '\'');
  return quoted ? text.substr(1, text.size() - 2) : text;
}

/// Adds `c` to a name that ends before '>'. Whether it can be part of one.
bool add_to_name(char c, std::string& name) {
  name += c;
  return name.size() <= kMostNameBytes && c != '\n' && c != '<';
}

}  // namespace

CallStep CallElement::step(char c, DeltaWriter& out) {
  switch (state_) {
    case State::kName:
      return name(c);
    case State::kBody:
    case State::kAfterArguments:
      return body(c, out);
    case State::kTag:
      return tag(c, out);
    case State::kKey:
      return key(c, out);
    case State::kValue:
      return value(c, out);
    case State::kValueTag:
      return value_tag(c, out);
    default:
      return arguments(c, out);
  }
}

CallStep CallElement::name(char c) {
  if (c != '>') return add_to_name(c, head_.name) ? CallStep::kMore : CallStep::kBad;
  head_.name = std::string(unquoted(head_.name));
  state_ = State::kBody;
  const bool good = std::all_of(head_.name.begin(), head_.name.end(), NamedCall::is_name_byte);
  return good && !head_.name.empty() ? CallStep::kMore : CallStep::kBad;
}

CallStep CallElement::body(char c, DeltaWriter& out) {
  if (is_space(c)) return CallStep::kMore;
  const bool whole = head_.whole();
  if (c == '{' && n_parameters_ == 0 && !whole) {
    state_ = State::kArguments;
    return arguments(c, out);
  }
  marker_ = MarkerMatcher({tags_.close, whole ? "" : tags_.parameter, block_close_});
  state_ = State::kTag;
  return tag(c, out);
}

CallStep CallElement::tag(char c, DeltaWriter& out) {
  const MarkerMatcher::Step step = marker_.step(c);
  if (step == MarkerMatcher::Step::kNone) {
    return head_.whole() ? CallStep::kDoneBefore : CallStep::kBad;
  }
  if (step == MarkerMatcher::Step::kMore) return CallStep::kMore;
  if (marker_.read() == tags_.parameter) {
    key_.clear();
    state_ = State::kKey;
    return CallStep::kMore;
  }
  closed_block_ = marker_.read() == block_close_;
  return close(out);
}

CallStep CallElement::key(char c, DeltaWriter& out) {
  if (c != '>') return add_to_name(c, key_) ? CallStep::kMore : CallStep::kBad;
  const std::string_view key = unquoted(key_);
  if (key.empty()) return CallStep::kBad;
  head_.begin(out);
  std::string json = n_parameters_ == 0 ? "{\"" : ", \"";
  for (const char byte : key) append_escaped(byte, json);
  head_.arguments(json + "\": ", out);
  ++n_parameters_;
  value_ = ParameterValue(is_text(key));
  state_ = State::kValue;
  return CallStep::kGiven;
}

CallStep CallElement::value(char c, DeltaWriter& out) {
  if (c == kParameterClose.front()) {
    marker_ = MarkerMatcher({kParameterClose});
    state_ = State::kValueTag;
    return value_tag(c, out);
  }
  std::string json;
  value_.step(c, json);
  head_.arguments(json, out);
  return CallStep::kGiven;
}

CallStep CallElement::value_tag(char c, DeltaWriter& out) {
  const MarkerMatcher::Step step = marker_.step(c);
  if (step == MarkerMatcher::Step::kMatch) end_value(out);
  if (step != MarkerMatcher::Step::kNone) return CallStep::kGiven;
  std::string json;
  for (const char byte : marker_.read()) value_.step(byte, json);
  head_.arguments(json, out);
  state_ = State::kValue;
  return value(c, out);
}

CallStep CallElement::arguments(char c, DeltaWriter& out) {
  std::string text;
  const JsonScanner::Step step = scanner_.step(c, text);
  if (step == JsonScanner::Step::kBad) return CallStep::kBad;
  head_.begin(out);
  head_.arguments(text, out);
  if (step == JsonScanner::Step::kDone) {
    head_.end(out);
    state_ = State::kAfterArguments;
  }
  return CallStep::kGiven;
}

void CallElement::end_value(DeltaWriter& out) {
  std::string json;
  value_.finish(json);
  head_.arguments(json, out);
  state_ = State::kBody;
}

CallStep CallElement::close(DeltaWriter& out) {
  head_.begin(out);
  if (!head_.whole()) {
    head_.arguments(n_parameters_ == 0 ? "{}" : "}", out);
    head_.end(out);
  }
  return CallStep::kDone;
}

void CallElement::finish(bool cut, DeltaWriter& out) {
  if (cut || !head_.begun() || head_.whole() || n_parameters_ == 0) return;
  if (state_ == State::kValueTag) {
    std::string json;
    for (const char byte : marker_.read()) value_.step(byte, json);
    head_.arguments(json, out);
    end_value(out);
  } else if (state_ == State::kValue) {
    end_value(out);
  }
  close(out);
}

bool CallElement::is_text(std::string_view key) const {
  for (const DeclaredTool& tool : *tools_) {
    if (tool.name != head_.name) continue;
    return std::find(tool.text_parameters.begin(), tool.text_parameters.end(), key) !=
           tool.text_parameters.end();
  }
  return false;
}

}  // namespace heddle::serve
