#include "tools/serve/reply/thought_splitter.h"

#include <utility>

namespace heddle::serve {
namespace {

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
/// White space is held back, for a tag may follow; no more of it than this.
constexpr std::size_t kMostSpaces = 64;

bool is_line_break(char c) {
  return c == '\n' || c == '\r';
}

}  // namespace

ThoughtSplitter::ThoughtSplitter(ReasoningStyle style, bool open) : open_(open) {
  if (style == ReasoningStyle::kThink) state_ = State::kStart;
}

void ThoughtSplitter::step(char c, ToolParser& rest, DeltaWriter& out) {
  switch (state_) {
    case State::kStart:
      start(c, rest, out);
      return;
    case State::kOpenTag:
      open_tag(c, rest, out);
      return;
    case State::kThoughtsStart:
      if (is_line_break(c)) return;
      state_ = State::kThoughts;
      [[fallthrough]];
    case State::kThoughts:
      thoughts(c, out);
      return;
    case State::kCloseTag:
      close_tag(c, out);
      return;
    case State::kRestStart:
      if (is_line_break(c)) return;
      state_ = State::kRest;
      [[fallthrough]];
    case State::kRest:
      rest.step(c, out);
      return;
  }
}

void ThoughtSplitter::finish(ToolParser& rest, DeltaWriter& out) {
  if (state_ == State::kStart || state_ == State::kOpenTag) no_tag(rest, out);
  if (state_ == State::kCloseTag) held_ += marker_.read();
  out.reasoning(std::exchange(held_, {}));
}

void ThoughtSplitter::start(char c, ToolParser& rest, DeltaWriter& out) {
  if (is_space(c) && held_.size() < kMostSpaces) {
    held_ += c;
  } else if (c == kOpen.front()) {
    marker_ = MarkerMatcher({kOpen});
    state_ = State::kOpenTag;
    open_tag(c, rest, out);
  } else {
    no_tag(rest, out);
    step(c, rest, out);
  }
}

void ThoughtSplitter::open_tag(char c, ToolParser& rest, DeltaWriter& out) {
  const MarkerMatcher::Step step = marker_.step(c);
  if (step == MarkerMatcher::Step::kNone) {
    no_tag(rest, out);
    this->step(c, rest, out);
    return;
  }
  held_ += c;
  if (step != MarkerMatcher::Step::kMatch) return;
  held_.clear();
  state_ = State::kThoughtsStart;
}

/// What is held at the reply's beginning is no tag.
void ThoughtSplitter::no_tag(ToolParser& rest, DeltaWriter& out) {
  state_ = open_ ? State::kThoughtsStart : State::kRest;
  const std::string held = std::exchange(held_, {});
  for (const char c : held) step(c, rest, out);
}

void ThoughtSplitter::thoughts(char c, DeltaWriter& out) {
  if (c == kClose.front()) {
    marker_ = MarkerMatcher({kClose});
    state_ = State::kCloseTag;
    close_tag(c, out);
    return;
  }
  held_ += c;
  if (is_line_break(c) && held_.size() < kMostSpaces) return;
  out.reasoning(held_);
  held_.clear();
}

void ThoughtSplitter::close_tag(char c, DeltaWriter& out) {
  const MarkerMatcher::Step step = marker_.step(c);
  if (step == MarkerMatcher::Step::kMore) return;
  if (step == MarkerMatcher::Step::kMatch) {
    held_.clear();
    state_ = State::kRestStart;
    return;
  }
  held_ += marker_.read();
  out.reasoning(std::exchange(held_, {}));
  state_ = State::kThoughts;
  thoughts(c, out);
}

}  // namespace heddle::serve
