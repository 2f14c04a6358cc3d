#include "tools/serve/reply/tool_parser.h"

#include <algorithm>
#include <array>
#include <utility>

namespace heddle::serve {
namespace {

constexpr ElementTags kFunction = {"<function=", "</function>", "<parameter="};
constexpr ElementTags kInvoke = {"<invoke name=", "</invoke>", "<parameter name="};

constexpr std::array kHermes = {
    CallBlock{.open = "<tool_call>",
              .close = "</tool_call>",
              .objects = true,
              .element = kFunction,
              .list = true},
    CallBlock{.open = "<function=", .element = kFunction, .opens_element = true},
};
constexpr std::array kLlama3 = {
    CallBlock{.objects = true, .separator = ";"},
    CallBlock{.open = "<|python_tag|>", .objects = true, .separator = ";"},
    CallBlock{.open = "<function=", .element = kFunction, .opens_element = true},
};
constexpr std::array kMistral = {
    CallBlock{.open = "[TOOL_CALLS]", .objects = true, .named = true, .list = true},
};
constexpr std::array kMiniMax = {
    CallBlock{.open = "<tool_calls>", .close = "</tool_calls>", .objects = true, .list = true},
    CallBlock{.open = "<minimax:tool_call>", .close = "</minimax:tool_call>", .element = kInvoke},
};

std::span<const CallBlock> blocks_of(ToolStyle style) {
  switch (style) {
    case ToolStyle::kHermes:
      return kHermes;
    case ToolStyle::kLlama3:
      return kLlama3;
    case ToolStyle::kMistral:
      return kMistral;
    case ToolStyle::kMiniMax:
      return kMiniMax;
    default:
      return {};
  }
}

/// White space is held back, for a call may follow; no more of it than this.
constexpr std::size_t kMostSpaces = 64;

bool only_spaces(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_space);
}

}  // namespace

ToolParser::ToolParser(ToolStyle style,
                       std::vector<DeclaredTool> declared,
                       bool only_calls_or_text,
                       bool only_calls)
    : declared_(std::make_shared<const std::vector<DeclaredTool>>(std::move(declared))),
      blocks_(blocks_of(style)),
      only_calls_or_text_(only_calls_or_text),
      only_calls_(only_calls),
      plain_(blocks_.empty()),
      call_(NamedCall()) {
  std::array<std::string_view, MarkerMatcher::kMost> markers;
  for (std::size_t i = 0; i < blocks_.size(); ++i) markers[i] = blocks_[i].open;
  openers_ = MarkerMatcher(markers);
}

void ToolParser::step(char c, DeltaWriter& out) {
  if (plain_) {
    out.content({&c, 1});
    return;
  }
  switch (state_) {
    case State::kText:
      text(c, out);
      return;
    case State::kMarker:
      marker(c, out);
      return;
    case State::kBlock:
      block(c, out);
      return;
    case State::kBlockMarker:
      block_marker(c, out);
      return;
    case State::kCall:
      call(c, out);
      return;
  }
}

void ToolParser::finish(bool cut, DeltaWriter& out) {
  bool of_a_call = block_ != nullptr && n_in_block_ > 0;  // what is held
  if (state_ == State::kCall) {
    const auto begun = [&](auto& parser) {
      parser.finish(cut, out);
      return parser.begun();
    };
    of_a_call = std::visit(begun, call_);
  }
  if (of_a_call) {
    held_.clear();
    return;
  }
  const bool opened = block_ != nullptr && (!block_->open.empty() || n_in_block_ > 0);
  dropped_call_ = (cut && opened) || (only_calls_ && !only_spaces(held_));
  if (dropped_call_) held_.clear();
  flush(out);
}

void ToolParser::text(char c, DeltaWriter& out) {
  if (is_space(c)) {
    held_ += c;
    if (held_.size() == kMostSpaces) flush(out);
  } else if (c == '{' && at_start_ && blocks_.front().open.empty()) {
    open_block(blocks_.front());
    block(c, out);
  } else if (openers_.begins_with(c)) {
    marker_ = openers_;
    state_ = State::kMarker;
    marker(c, out);
  } else {
    held_ += c;
    flush(out);
  }
}

void ToolParser::marker(char c, DeltaWriter& out) {
  const MarkerMatcher::Step step = marker_.step(c);
  if (step == MarkerMatcher::Step::kNone) {
    to_text(c, out);
    return;
  }
  held_ += c;
  if (step != MarkerMatcher::Step::kMatch) return;
  const auto opened = std::find_if(blocks_.begin(), blocks_.end(),
                                   [&](const CallBlock& b) { return b.open == marker_.read(); });
  open_block(*opened);
}

void ToolParser::open_block(const CallBlock& block) {
  block_ = &block;
  state_ = State::kBlock;
  opened_ = true;
  in_list_ = false;
  n_in_block_ = 0;
  if (block.opens_element) begin_element();
}

void ToolParser::block(char c, DeltaWriter& out) {
  if (is_space(c)) {
    held_ += c;
    return;
  }
  if (punctuation(c, out)) return;
  if (c == '{' && block_->objects) {
    begin_call(CallObject(block_->open.empty()));
    call(c, out);
    return;
  }
  if (block_->named && !in_list_ && NamedCall::is_name_byte(c)) {
    begin_call(NamedCall());
    call(c, out);
    return;
  }
  if (c == '<') {
    marker_ = MarkerMatcher({block_->close, block_->open, block_->element.open});
    state_ = State::kBlockMarker;
    block_marker(c, out);
    return;
  }
  to_text(c, out);
}

/// Whether `c` is a separator, or of a list.
bool ToolParser::punctuation(char c, DeltaWriter& out) {
  if (block_->list && c == '[' && !in_list_ && n_in_block_ == 0) {
    in_list_ = true;
    held_ += c;
    return true;
  }
  if (in_list_ && c == ']') {
    in_list_ = false;
    held_ += c;
    if (block_->close.empty()) end_block(out);
    return true;
  }
  const bool comma = block_->list && c == ',';
  const bool separator = !block_->separator.empty() && c == block_->separator.front();
  if (n_in_block_ == 0 || !(comma || separator)) return false;
  held_ += c;
  return true;
}

void ToolParser::block_marker(char c, DeltaWriter& out) {
  const MarkerMatcher::Step step = marker_.step(c);
  if (step == MarkerMatcher::Step::kNone) {
    to_text(c, out);
    return;
  }
  held_ += c;
  if (step != MarkerMatcher::Step::kMatch) return;
  if (marker_.read() == block_->close) {
    end_block(out);
  } else if (marker_.read() == block_->open) {
    reopen_block(out);
  } else {
    begin_element();
  }
}

/// The closing tag is missing.
void ToolParser::reopen_block(DeltaWriter& out) {
  held_.resize(held_.size() - block_->open.size());
  if (n_in_block_ == 0) flush(out);
  held_ = block_->open;
  if (plain_) {
    flush(out);
    block_ = nullptr;
    state_ = State::kText;
  } else {
    open_block(*block_);
  }
}

void ToolParser::end_block(DeltaWriter& out) {
  if (n_in_block_ == 0) flush(out);
  held_.clear();
  block_ = nullptr;
  state_ = State::kText;
}

void ToolParser::begin_call(Call call) {
  call_ = std::move(call);
  state_ = State::kCall;
}

void ToolParser::begin_element() {
  begin_call(CallElement(block_->element, block_->close, declared_.get()));
}

void ToolParser::call(char c, DeltaWriter& out) {
  switch (std::visit([&](auto& parser) { return parser.step(c, out); }, call_)) {
    case CallStep::kMore:
      held_ += c;
      return;
    case CallStep::kGiven:
      if (std::exchange(opened_, false)) keep_gap(held_);
      held_.clear();
      trim_ = true;
      return;
    case CallStep::kDone: {
      const auto* element = std::get_if<CallElement>(&call_);
      if (std::exchange(opened_, false)) keep_gap(held_);
      held_.clear();
      end_call(element != nullptr && element->closed_block());
      return;
    }
    case CallStep::kDoneBefore:
      end_call(false);
      if (!only_spaces(held_)) flush(out);
      step(c, out);
      return;
    case CallStep::kBad:
      to_text(c, out);
      return;
  }
}

void ToolParser::end_call(bool ends_block) {
  trim_ = true;
  ++n_in_block_;
  if (ends_block || block_->opens_element || std::holds_alternative<NamedCall>(call_)) {
    block_ = nullptr;
    state_ = State::kText;
  } else {
    state_ = State::kBlock;
  }
}

/// What is held is no call, and `c` is read as text.
void ToolParser::to_text(char c, DeltaWriter& out) {
  flush(out);
  block_ = nullptr;
  state_ = State::kText;
  if (plain_) {
    out.content({&c, 1});
  } else {
    text(c, out);
  }
}

/// What is held is content.
void ToolParser::flush(DeltaWriter& out) {
  if (only_calls_) held_.clear();
  std::string_view text = held_;
  if (trim_) {
    keep_gap(text);
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  }
  if (!text.empty()) {
    trim_ = false;
    at_start_ = at_start_ && only_spaces(text);
    plain_ = only_calls_or_text_ && !at_start_;
    has_content_ = true;
    out.content(std::exchange(gap_, {}));
    out.content(text);
  }
  held_.clear();
}

/// The white space that `text` begins with is content if content follows.
void ToolParser::keep_gap(std::string_view text) {
  if (!has_content_) return;
  const auto end = std::find_if_not(text.begin(), text.end(), is_space);
  gap_.append(text.begin(), end);
  gap_.resize(std::min(gap_.size(), kMostSpaces));
}

}  // namespace heddle::serve
