#include "tools/serve/reply/reply_delta.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace heddle::serve {
namespace {

bool is_call_id(std::string_view id) {
  return id.size() == 9 && std::all_of(id.begin(), id.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
         });
}

}  // namespace

void Reply::add(const ReplyDelta& delta) {
  delta.in_order([this](ReplyPartKind kind, std::string_view text, const ToolDelta* tool) {
    const bool begins_call = tool != nullptr && !tool->name.empty();
    const bool more = !parts.empty() && parts.back().kind == kind && !begins_call;
    if (tool != nullptr) {
      if (begins_call) calls.push_back({tool->id, tool->name, ""});
      HEDDLE_CHECK(tool->index + 1 == static_cast<int>(calls.size()));
      if (!more) parts.push_back({.kind = kind, .begin = calls.size() - 1});
      calls.back().arguments += text;
      return;
    }
    std::string& whole = kind == ReplyPartKind::kContent ? content : reasoning;
    if (!more) parts.push_back({.kind = kind, .begin = whole.size()});
    parts.back().size += text.size();
    whole += text;
  });
}

void DeltaWriter::begin_call(std::string_view name, std::string_view id) {
  const bool own = is_call_id(id) && own_ids_.insert(std::string(id)).second;
  delta_.tools.push_back({.index = n_calls_,
                          .id = own ? std::string(id) : make_call_id_(),
                          .name = std::string(name),
                          .arguments = "",
                          .content_before = delta_.content.size()});
  ++n_calls_;
}

void DeltaWriter::arguments(std::string_view fragment) {
  HEDDLE_CHECK(n_calls_ > 0);
  if (fragment.empty()) return;
  const int index = n_calls_ - 1;
  if (delta_.tools.empty() || !delta_.tools.back().name.empty()) {
    delta_.tools.push_back({.index = index,
                            .id = "",
                            .name = "",
                            .arguments = "",
                            .content_before = delta_.content.size()});
  }
  delta_.tools.back().arguments += fragment;
}

ReplyDelta DeltaWriter::take() {
  return std::exchange(delta_, {});
}

}  // namespace heddle::serve
