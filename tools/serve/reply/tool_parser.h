#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tools/serve/reply/call_parsers.h"
#include "tools/serve/reply/marker_matcher.h"
#include "tools/serve/reply/reply_style.h"

namespace heddle::serve {

/// What stands around calls. The texts are static.
struct CallBlock {
  std::string_view open = {};       // "" for calls without a tag
  std::string_view close = {};      // "" where there is none
  bool objects = false;             // holds {"name": ...}
  bool named = false;               // holds name[ARGS]{...}, and ends with it
  ElementTags element = {};         // holds elements, unless empty
  bool opens_element = false;       // `open` is the element's, and the block ends with it
  bool list = false;                // objects may be in a list; without `close`, ] ends the block
  std::string_view separator = {};  // a byte that may stand between calls
};

/// Divides the text behind the thoughts into content and calls, a byte at a time. White space
/// around calls belongs to them, unless there is content before and behind: then it parts the two,
/// up to 64 bytes of it. What turns out to be no call comes out as content, byte for byte; it is
/// not searched again for calls, nor is, with `only_calls_or_text`, anything behind it. With
/// `only_calls` there is no content: that is dropped. A value.
class ToolParser {
 public:
  ToolParser(ToolStyle style,
             std::vector<DeclaredTool> declared,
             bool only_calls_or_text = false,
             bool only_calls = false);

  void step(char c, DeltaWriter& out);
  /// `cut`: a call whose opening tag is whole and whose arguments have not begun is dropped.
  void finish(bool cut, DeltaWriter& out);
  bool dropped_call() const { return dropped_call_; }

 private:
  enum class State { kText, kMarker, kBlock, kBlockMarker, kCall };
  using Call = std::variant<CallObject, NamedCall, CallElement>;

  void text(char c, DeltaWriter& out);
  void marker(char c, DeltaWriter& out);
  void open_block(const CallBlock& block);
  void block(char c, DeltaWriter& out);
  bool punctuation(char c, DeltaWriter& out);
  void block_marker(char c, DeltaWriter& out);
  void reopen_block(DeltaWriter& out);
  void end_block(DeltaWriter& out);
  void begin_call(Call call);
  void begin_element();
  void call(char c, DeltaWriter& out);
  void end_call(bool ends_block);
  void to_text(char c, DeltaWriter& out);
  void flush(DeltaWriter& out);
  void keep_gap(std::string_view text);

  std::shared_ptr<const std::vector<DeclaredTool>> declared_;
  std::span<const CallBlock> blocks_;
  MarkerMatcher openers_;  // has read nothing
  bool only_calls_or_text_ = false;
  bool only_calls_ = false;
  bool dropped_call_ = false;
  bool plain_ = false;  // there are no calls, or no more
  State state_ = State::kText;
  MarkerMatcher marker_;
  std::string held_;      // read, and neither content nor a call's yet
  bool at_start_ = true;  // no content but white space
  bool trim_ = false;     // a call came last
  bool has_content_ = false;
  std::string gap_;  // white space since the last content, around calls
  const CallBlock* block_ = nullptr;
  bool in_list_ = false;
  bool opened_ = false;  // what is held begins before the block, and none of it is a call's yet
  int n_in_block_ = 0;   // calls
  Call call_;
};

}  // namespace heddle::serve
