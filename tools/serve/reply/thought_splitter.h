#pragma once

#include <string>
#include <string_view>

#include "tools/serve/reply/marker_matcher.h"
#include "tools/serve/reply/reply_style.h"
#include "tools/serve/reply/tool_parser.h"

namespace heddle::serve {

/// Takes the thoughts from a reply's beginning and passes the rest on, a byte at a time. Thoughts
/// begin with the reply if the prompt ended inside <think> (a <think> that the model repeats is
/// dropped), else with a <think> that nothing but white space precedes; elsewhere the tags are
/// text. They end with the first </think> or with the reply. Line breaks at both ends of the
/// thoughts and behind </think> belong to the tags, as in the templates that put thoughts back into
/// prompts. A value.
class ThoughtSplitter {
 public:
  ThoughtSplitter(ReasoningStyle style, bool open);

  void step(char c, ToolParser& rest, DeltaWriter& out);
  void finish(ToolParser& rest, DeltaWriter& out);

 private:
  enum class State {
    kStart,
    kOpenTag,  // in what may be <think>
    kThoughtsStart,
    kThoughts,
    kCloseTag,  // in what may be </think>
    kRestStart,
    kRest,
  };
  void start(char c, ToolParser& rest, DeltaWriter& out);
  void no_tag(ToolParser& rest, DeltaWriter& out);
  void open_tag(char c, ToolParser& rest, DeltaWriter& out);
  void thoughts(char c, DeltaWriter& out);
  void close_tag(char c, DeltaWriter& out);

  bool open_ = false;
  State state_ = State::kRest;
  MarkerMatcher marker_;
  std::string held_;
};

}  // namespace heddle::serve
