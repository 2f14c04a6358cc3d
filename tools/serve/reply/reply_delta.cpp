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
  content += delta.content;
  reasoning += delta.reasoning;
  for (const ToolDelta& piece : delta.tools) {
    if (!piece.name.empty()) calls.push_back({piece.id, piece.name, ""});
    HEDDLE_CHECK(piece.index + 1 == static_cast<int>(calls.size()));
    calls.back().arguments += piece.arguments;
  }
}

void DeltaWriter::begin_call(std::string_view name, std::string_view id) {
  const bool own = is_call_id(id) && own_ids_.insert(std::string(id)).second;
  delta_.tools.push_back(
      {n_calls_, own ? std::string(id) : make_call_id_(), std::string(name), ""});
  ++n_calls_;
}

void DeltaWriter::arguments(std::string_view fragment) {
  HEDDLE_CHECK(n_calls_ > 0);
  if (fragment.empty()) return;
  const int index = n_calls_ - 1;
  if (delta_.tools.empty() || !delta_.tools.back().name.empty()) {
    delta_.tools.push_back({index, "", "", ""});
  }
  delta_.tools.back().arguments += fragment;
}

ReplyDelta DeltaWriter::take() {
  return std::exchange(delta_, {});
}

}  // namespace heddle::serve
