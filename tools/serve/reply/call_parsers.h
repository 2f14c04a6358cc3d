#pragma once
// One tool call of a reply, in the forms in which models write them. All of them are read a byte at
// a time; what becomes certain goes to a DeltaWriter, and a call is begun there when its name is
// known and its arguments have begun. Values; the step that says kDone, kDoneBefore or kBad is the
// last one.

#include <cstddef>
#include <string>
#include <string_view>

#include "tools/serve/reply/json_scanner.h"
#include "tools/serve/reply/marker_matcher.h"
#include "tools/serve/reply/parameter_value.h"
#include "tools/serve/reply/reply_delta.h"
#include "tools/serve/reply/reply_style.h"

namespace heddle::serve {

enum class CallStep {
  kMore,        // what was read since the last kGiven may still turn out to be plain text
  kGiven,       // it belongs to the call for good
  kDone,        // the call ends with this byte
  kDoneBefore,  // the call is whole; this byte, and what was read since the last kGiven, is not its
  kBad,         // no call, or one that stays unfinished if it was begun; this byte was not read
};

/// Longer names are none.
inline constexpr std::size_t kMostNameBytes = 256;

/// What all forms know of their call.
class CallHead {
 public:
  std::string name;
  std::string id;

  bool begun() const { return begun_; }
  bool whole() const { return whole_; }
  /// To the writer, or if the call cannot begin there yet, kept.
  void arguments(std::string_view fragment, DeltaWriter& out);
  void begin(DeltaWriter& out);
  /// The arguments are whole.
  void end(DeltaWriter& out);

 private:
  std::string kept_;
  bool begun_ = false;
  bool whole_ = false;
};

/// {"name": ..., "arguments" or "parameters": ..., "id": ...} in any order. Arguments are an
/// object, a string that holds one ("" is none), null or absent; other members are passed over.
class CallObject {
 public:
  /// `bare` is for text without any tag: a call then needs arguments, and has no members but those
  /// above and "type".
  explicit CallObject(bool bare) : bare_(bare) {}
  /// From the opening brace on.
  CallStep step(char c, DeltaWriter& out);
  void finish(bool, DeltaWriter&) {}
  bool begun() const { return head_.begun(); }

 private:
  enum class State {
    kOpen,
    kFirstKey,
    kKey,
    kInKey,
    kColon,
    kValue,
    kText,  // of "name" or "id"
    kArguments,
    kWrapped,
    kNull,
    kSkipped,
    kAfter,
  };

  CallStep read(char c, DeltaWriter& out);
  CallStep between(char c, DeltaWriter& out);
  CallStep begin_value(char c, DeltaWriter& out);
  CallStep key(char c);
  CallStep text(char c, DeltaWriter& out);
  CallStep arguments(char c, DeltaWriter& out);
  CallStep wrapped(char c, DeltaWriter& out);
  CallStep wrapped_byte(char c, DeltaWriter& out);
  CallStep null(char c, DeltaWriter& out);
  CallStep skipped(char c, DeltaWriter& out);
  void no_arguments(DeltaWriter& out);
  CallStep close(DeltaWriter& out);
  void begin_if_named(DeltaWriter& out);

  bool bare_;
  State state_ = State::kOpen;
  CallHead head_;
  bool has_arguments_ = false;
  bool wrapped_begun_ = false;
  std::string key_;
  std::string text_;
  JsonStringReader string_;
  JsonScanner scanner_;
};

/// name[ARGS]{...}, name{...} and name[CALL_ID]id[ARGS]{...} of Mistral's newer tokenizers.
class NamedCall {
 public:
  static bool is_name_byte(char c);
  CallStep step(char c, DeltaWriter& out);
  void finish(bool, DeltaWriter&) {}
  bool begun() const { return head_.begun(); }

 private:
  enum class State { kName, kAfterName, kMarker, kId, kBeforeArguments, kArguments };
  CallStep marker(char c);
  CallStep begin_marker(char c);
  CallStep arguments(char c, DeltaWriter& out);

  State state_ = State::kName;
  CallHead head_;
  MarkerMatcher marker_;
  JsonScanner scanner_;
};

/// The tags of a call of elements. The texts must outlive the parser.
struct ElementTags {
  std::string_view open;       // "<function=" or "<invoke name=": what stands before the name
  std::string_view close;      // "</function>"
  std::string_view parameter;  // "<parameter=" or "<parameter name="
};

/// <function=NAME><parameter=KEY>VALUE</parameter>...</function> of Qwen3-Coder, <invoke
/// name="NAME"> <parameter name="KEY">VALUE</parameter>...</invoke> of MiniMax-M2, and either with
/// a JSON object in the place of the parameters, as Llama 3.1 writes it. What a VALUE is:
/// ParameterValue.
class CallElement {
 public:
  /// `block_close` may end it too, where the closing tag is missing. `tools` must outlive it.
  CallElement(const ElementTags& tags,
              std::string_view block_close,
              const std::vector<DeclaredTool>* tools)
      : tags_(tags), block_close_(block_close), tools_(tools) {}
  /// From behind `tags.open` on.
  CallStep step(char c, DeltaWriter& out);
  /// A text that was not cut ends here: closing tags that are missing are taken as said.
  void finish(bool cut, DeltaWriter& out);
  bool begun() const { return head_.begun(); }
  /// After kDone: whether it was `block_close` that ended the call.
  bool closed_block() const { return closed_block_; }

 private:
  enum class State { kName, kBody, kTag, kKey, kValue, kValueTag, kArguments, kAfterArguments };
  CallStep name(char c);
  CallStep body(char c, DeltaWriter& out);
  CallStep tag(char c, DeltaWriter& out);
  CallStep key(char c, DeltaWriter& out);
  CallStep value(char c, DeltaWriter& out);
  CallStep value_tag(char c, DeltaWriter& out);
  CallStep arguments(char c, DeltaWriter& out);
  void end_value(DeltaWriter& out);
  CallStep close(DeltaWriter& out);
  bool is_text(std::string_view key) const;

  ElementTags tags_;
  std::string_view block_close_;
  const std::vector<DeclaredTool>* tools_;
  State state_ = State::kName;
  CallHead head_;
  std::string key_;
  int n_parameters_ = 0;
  MarkerMatcher marker_;
  JsonScanner scanner_;
  ParameterValue value_;
  bool closed_block_ = false;
};

}  // namespace heddle::serve
