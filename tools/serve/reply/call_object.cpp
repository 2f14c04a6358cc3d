// CallHead and the calls whose outer form is JSON or nearly so: CallObject and NamedCall.
#include "tools/serve/reply/call_parsers.h"

namespace heddle::serve {

void CallHead::arguments(std::string_view fragment, DeltaWriter& out) {
  if (begun_) {
    out.arguments(fragment);
  } else {
    kept_ += fragment;
  }
}

void CallHead::begin(DeltaWriter& out) {
  if (begun_) return;
  begun_ = true;
  out.begin_call(name, id);
  out.arguments(kept_);
  kept_ = {};
  if (whole_) out.end_call();
}

void CallHead::end(DeltaWriter& out) {
  whole_ = true;
  if (begun_) out.end_call();
}

CallStep CallObject::step(char c, DeltaWriter& out) {
  const bool begun = head_.begun();
  const CallStep result = read(c, out);
  if (result == CallStep::kBad && begun && head_.whole()) return CallStep::kDoneBefore;
  return result;
}

CallStep CallObject::read(char c, DeltaWriter& out) {
  switch (state_) {
    case State::kInKey:
      return key(c);
    case State::kText:
      return text(c, out);
    case State::kArguments:
      return arguments(c, out);
    case State::kWrapped:
      return wrapped(c, out);
    case State::kNull:
      return null(c, out);
    case State::kSkipped:
      return skipped(c, out);
    default:
      return is_space(c) && state_ != State::kOpen ? CallStep::kMore : between(c, out);
  }
}

CallStep CallObject::between(char c, DeltaWriter& out) {
  switch (state_) {
    case State::kOpen:
      if (c != '{') return CallStep::kBad;
      state_ = State::kFirstKey;
      return CallStep::kMore;
    case State::kFirstKey:
      if (c == '}') return close(out);
      [[fallthrough]];
    case State::kKey:
      if (c != '"') return CallStep::kBad;
      key_.clear();
      string_ = JsonStringReader(JsonStringReader::Form::kDecoded);
      state_ = State::kInKey;
      return CallStep::kMore;
    case State::kColon:
      if (c != ':') return CallStep::kBad;
      state_ = State::kValue;
      return CallStep::kMore;
    case State::kValue:
      return begin_value(c, out);
    default:
      if (c == '}') return close(out);
      if (c != ',') return CallStep::kBad;
      state_ = State::kKey;
      return CallStep::kMore;
  }
}

CallStep CallObject::key(char c) {
  if (string_.step(c, key_)) {
    state_ = State::kColon;
    const bool known = key_ == "name" || key_ == "id" || key_ == "type" || key_ == "arguments" ||
                       key_ == "parameters";
    if (bare_ && !known) return CallStep::kBad;
  } else if (key_.size() > kMostNameBytes) {
    key_.resize(kMostNameBytes);  // none that we know
  }
  return CallStep::kMore;
}

CallStep CallObject::begin_value(char c, DeltaWriter& out) {
  const bool is_arguments = (key_ == "arguments" || key_ == "parameters") && !has_arguments_;
  if (key_ == "name" && head_.name.empty() && c != '"') return CallStep::kBad;
  const bool is_name = key_ == "name" && head_.name.empty();
  if (is_name || (key_ == "id" && c == '"' && head_.id.empty())) {
    text_.clear();
    string_ = JsonStringReader(JsonStringReader::Form::kDecoded);
    state_ = State::kText;
    return CallStep::kMore;
  }
  scanner_ = JsonScanner();
  if (!is_arguments) {
    state_ = State::kSkipped;
    return skipped(c, out);
  }
  has_arguments_ = true;
  if (c == '{') {
    state_ = State::kArguments;
    begin_if_named(out);
    return arguments(c, out);
  }
  if (c == '"') {
    string_ = JsonStringReader(JsonStringReader::Form::kDecoded);
    state_ = State::kWrapped;
    return CallStep::kMore;
  }
  if (c != 'n') return CallStep::kBad;
  state_ = State::kNull;
  return null(c, out);
}

CallStep CallObject::text(char c, DeltaWriter& out) {
  const bool ended = string_.step(c, text_);
  if (text_.size() > kMostNameBytes) return CallStep::kBad;
  if (!ended) return CallStep::kMore;
  state_ = State::kAfter;
  if (key_ == "id") {
    head_.id = text_;
    return CallStep::kMore;
  }
  if (text_.empty()) return CallStep::kBad;
  head_.name = text_;
  if (!has_arguments_) return CallStep::kMore;
  head_.begin(out);
  return CallStep::kGiven;
}

CallStep CallObject::arguments(char c, DeltaWriter& out) {
  text_.clear();
  const JsonScanner::Step step = scanner_.step(c, text_);
  if (step == JsonScanner::Step::kBad) return CallStep::kBad;
  head_.arguments(text_, out);
  if (step == JsonScanner::Step::kDone) {
    head_.end(out);
    state_ = State::kAfter;
  }
  return head_.begun() ? CallStep::kGiven : CallStep::kMore;
}

CallStep CallObject::wrapped(char c, DeltaWriter& out) {
  text_.clear();
  const bool ended = string_.step(c, text_);
  const std::string decoded = text_;
  for (const char byte : decoded) {
    if (wrapped_byte(byte, out) == CallStep::kBad) return CallStep::kBad;
  }
  if (ended && !wrapped_begun_) no_arguments(out);
  if (ended && !head_.whole()) return CallStep::kBad;
  if (ended) state_ = State::kAfter;
  return head_.begun() ? CallStep::kGiven : CallStep::kMore;
}

CallStep CallObject::wrapped_byte(char c, DeltaWriter& out) {
  if (is_space(c) && (!wrapped_begun_ || head_.whole())) return CallStep::kMore;
  if (head_.whole() || (!wrapped_begun_ && c != '{')) return CallStep::kBad;
  if (!wrapped_begun_) begin_if_named(out);
  wrapped_begun_ = true;
  text_.clear();
  const JsonScanner::Step step = scanner_.step(c, text_);
  if (step == JsonScanner::Step::kBad) return CallStep::kBad;
  head_.arguments(text_, out);
  if (step == JsonScanner::Step::kDone) head_.end(out);
  return CallStep::kMore;
}

CallStep CallObject::null(char c, DeltaWriter& out) {
  text_.clear();
  const JsonScanner::Step step = scanner_.step(c, text_);
  if (step == JsonScanner::Step::kBad) return CallStep::kBad;
  if (step == JsonScanner::Step::kMore) return CallStep::kMore;
  no_arguments(out);
  state_ = State::kAfter;
  return head_.begun() ? CallStep::kGiven : CallStep::kMore;
}

CallStep CallObject::skipped(char c, DeltaWriter& out) {
  text_.clear();
  const JsonScanner::Step step = scanner_.step(c, text_);
  if (step == JsonScanner::Step::kBad) return CallStep::kBad;
  if (step == JsonScanner::Step::kMore) return CallStep::kMore;
  state_ = State::kAfter;
  return step == JsonScanner::Step::kDoneBefore ? read(c, out) : CallStep::kMore;
}

CallStep CallObject::close(DeltaWriter& out) {
  if (head_.name.empty() || (bare_ && !has_arguments_)) return CallStep::kBad;
  if (!has_arguments_) no_arguments(out);
  return CallStep::kDone;
}

void CallObject::no_arguments(DeltaWriter& out) {
  begin_if_named(out);
  head_.arguments("{}", out);
  head_.end(out);
}

void CallObject::begin_if_named(DeltaWriter& out) {
  if (!head_.name.empty()) head_.begin(out);
}

bool NamedCall::is_name_byte(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c == '-' || c == '.' || c == ':' || c == '/';
}

CallStep NamedCall::step(char c, DeltaWriter& out) {
  switch (state_) {
    case State::kName:
      if (is_name_byte(c)) {
        head_.name += c;
        return head_.name.size() > kMostNameBytes ? CallStep::kBad : CallStep::kMore;
      }
      state_ = State::kAfterName;
      [[fallthrough]];
    case State::kAfterName:
      if (is_space(c)) return CallStep::kMore;
      if (c == '{') return arguments(c, out);
      return head_.name.empty() ? CallStep::kBad : begin_marker(c);
    case State::kMarker:
      return marker(c);
    case State::kId:
      if (is_space(c)) return CallStep::kMore;
      if (!is_name_byte(c)) return begin_marker(c);
      head_.id += c;
      return head_.id.size() > kMostNameBytes ? CallStep::kBad : CallStep::kMore;
    case State::kBeforeArguments:
      if (is_space(c)) return CallStep::kMore;
      return c == '{' ? arguments(c, out) : CallStep::kBad;
    default:
      return arguments(c, out);
  }
}

CallStep NamedCall::begin_marker(char c) {
  marker_ = MarkerMatcher({"[ARGS]", state_ == State::kId ? "" : "[CALL_ID]"});
  state_ = State::kMarker;
  return marker(c);
}

CallStep NamedCall::marker(char c) {
  const MarkerMatcher::Step step = marker_.step(c);
  if (step == MarkerMatcher::Step::kNone) return CallStep::kBad;
  if (step == MarkerMatcher::Step::kMatch) {
    state_ = marker_.read() == "[ARGS]" ? State::kBeforeArguments : State::kId;
  }
  return CallStep::kMore;
}

CallStep NamedCall::arguments(char c, DeltaWriter& out) {
  std::string text;
  const JsonScanner::Step step = scanner_.step(c, text);
  if (step == JsonScanner::Step::kBad) return CallStep::kBad;
  state_ = State::kArguments;
  head_.begin(out);
  head_.arguments(text, out);
  if (step != JsonScanner::Step::kDone) return CallStep::kGiven;
  head_.end(out);
  return CallStep::kDone;
}

}  // namespace heddle::serve
