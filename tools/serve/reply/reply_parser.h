#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "tools/serve/reply/reply_delta.h"
#include "tools/serve/reply/reply_style.h"
#include "tools/serve/reply/thought_splitter.h"
#include "tools/serve/reply/tool_parser.h"

namespace heddle::serve {

/// Turns the text of one reply, as it comes, into content, thoughts and tool calls. What comes out,
/// put together, does not depend on how the text was divided: every byte is read once, by automata
/// that look at nothing twice. Time is linear in the text; what is held back is at most a tag, 64
/// bytes of white space, or a call whose name or arguments have not come yet. The text is UTF-8,
/// and code points that came whole go out whole. Control tokens that begin calls ([TOOL_CALLS],
/// <|python_tag|>) are expected as their text.
///
/// Nothing is lost but what is left of a call that the end of a cut text keeps from beginning: its
/// opening tag was whole, its name or arguments had not come. Other text that is no whole call
/// (broken JSON, a tag without a call, a name that does not come) is content as it was written,
/// unless the style says `only_calls`; without calls and thoughts, content is the text. A call that
/// was begun and then breaks off, because the text was cut or its JSON is broken, stays
/// unfinished: its arguments are a prefix of JSON, never mended into something that the model did
/// not say, and what follows is content. Servers should end such a reply with "length". A value, of
/// one thread.
class ReplyParser {
 public:
  /// `make_call_id` gives the ids of calls, each another one. It must not throw.
  ReplyParser(ReplyStyle style, std::function<std::string()> make_call_id);

  ReplyDelta push(std::string_view text);
  /// After the last text, once. `cut`: it ended for another reason than that the model ended it;
  /// else closing tags that are missing at the end are taken as said.
  ReplyDelta finish(bool cut);

  bool called_tools() const { return n_calls() > 0; }
  int n_calls() const { return writer_.n_calls(); }
  /// Behind finish: the last call that was begun, or one before it, has arguments that are not
  /// whole, or the last was cut before it began.
  bool has_unfinished_call() const {
    return writer_.has_unfinished_call() || tools_.dropped_call();
  }

 private:
  ThoughtSplitter thoughts_;
  ToolParser tools_;
  DeltaWriter writer_;
  bool finished_ = false;
};

/// The same for a whole text.
Reply parse_reply(const ReplyStyle& style,
                  std::function<std::string()> make_call_id,
                  std::string_view text,
                  bool cut = false);

}  // namespace heddle::serve
