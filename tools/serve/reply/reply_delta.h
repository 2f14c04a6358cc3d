#pragma once
// What a piece of a model's text adds to a reply, and the place where parsers put it.

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace heddle::serve {

/// The first piece of a call has id and name and no arguments; the later ones have only a fragment
/// of the arguments' JSON text. Fragments of one call, put together, are valid JSON unless the call
/// is unfinished (ReplyParser::has_unfinished_call).
struct ToolDelta {
  int index = 0;
  std::string id;
  std::string name;
  std::string arguments;
  std::size_t content_before = 0;  // bytes of the delta's content that the model wrote before it
};

enum class ReplyPartKind { kReasoning, kContent, kCall };

struct ReplyDelta {
  std::string content;
  std::string reasoning;
  std::vector<ToolDelta> tools;
  bool empty() const { return content.empty() && reasoning.empty() && tools.empty(); }
  /// Calls take(kind, text, tool) for what is in it, in the order in which the model wrote it.
  /// `tool` is not null for a piece of a call, and `text` is its arguments then.
  template <typename Take>
  void in_order(const Take& take) const {
    const std::string_view all = content;
    if (!reasoning.empty()) take(ReplyPartKind::kReasoning, std::string_view(reasoning), nullptr);
    std::size_t taken = 0;
    const auto take_content = [&](std::size_t end) {
      if (end > taken) take(ReplyPartKind::kContent, all.substr(taken, end - taken), nullptr);
      taken = end;
    };
    for (const ToolDelta& tool : tools) {
      take_content(tool.content_before);
      take(ReplyPartKind::kCall, std::string_view(tool.arguments), &tool);
    }
    take_content(all.size());
  }
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;
};

/// A stretch of a reply that is all of one kind.
struct ReplyPart {
  ReplyPartKind kind = ReplyPartKind::kContent;
  std::size_t begin = 0;  // in Reply::content or reasoning; of a call its number
  std::size_t size = 0;   // bytes
};

/// A reply put together from its deltas.
struct Reply {
  std::string content;
  std::string reasoning;
  std::vector<ToolCall> calls;
  std::vector<ReplyPart> parts;  // all of these, in the order in which the model wrote them
  void add(const ReplyDelta& delta);
};

/// Collects a delta. Calls are numbered as they begin; one is open at a time. A value.
class DeltaWriter {
 public:
  explicit DeltaWriter(std::function<std::string()> make_call_id)
      : make_call_id_(std::move(make_call_id)) {}

  void content(std::string_view text) { delta_.content += text; }
  void reasoning(std::string_view text) { delta_.reasoning += text; }
  /// `id` is the model's own; one that is no id of nine letters and digits, or was there before,
  /// gives way to a made one.
  void begin_call(std::string_view name, std::string_view id);
  void arguments(std::string_view fragment);
  /// The open call's arguments are whole.
  void end_call() { ++n_ended_; }

  int n_calls() const { return n_calls_; }
  bool has_unfinished_call() const { return n_ended_ < n_calls_; }
  ReplyDelta take();

 private:
  std::function<std::string()> make_call_id_;
  ReplyDelta delta_;
  std::unordered_set<std::string> own_ids_;
  int n_calls_ = 0;
  int n_ended_ = 0;
};

}  // namespace heddle::serve
