#include "engine/request.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "engine/require_between.h"
#include "engine/sampler.h"
#include "scheduler/sequence.h"

namespace heddle {

std::string_view name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      break;
  }
  return "error";
}

std::string prefix_scope(const Request& r) {
  if (r.shared_scope) return "shared:" + r.cache_scope;
  if (r.client.empty() && r.cache_scope.empty()) return "";
  return fmt::format("client:{}:{}{}", r.client.size(), r.client, r.cache_scope);
}

void validate(const Request& r, std::int64_t vocab) {
  if (r.prompt.empty()) throw bad_input("the prompt has no tokens");
  for (std::size_t i = 0; i < r.prompt.size(); ++i) {
    if (r.prompt[i] < 0 || r.prompt[i] >= vocab) {
      throw bad_input(
          fmt::format("prompt token {} is {}, allowed: 0 .. {}", i, r.prompt[i], vocab - 1));
    }
  }
  validate(r.sampling, vocab);
  require_between("max_new_tokens", r.max_new_tokens, 0, std::int64_t{1} << 40);
  const std::int64_t most = r.max_new_tokens > 0 ? r.max_new_tokens : std::int64_t{1} << 40;
  require_between("min_new_tokens", r.min_new_tokens, 0, most);
  if (r.score && (r.grammar || r.min_new_tokens > 0)) {
    throw bad_input("grammar and min_new_tokens are of answers, and `score` asks for none");
  }
  for (const auto& [field, seconds] :
       {std::pair("queue_deadline", r.queue_deadline), std::pair("deadline", r.deadline)}) {
    if (!(seconds >= 0.0) || std::isinf(seconds)) {
      throw bad_input(fmt::format("{} is {}, allowed: seconds, finite, from 0", field, seconds));
    }
  }
  require_between("n_logprobs", r.n_logprobs, -1, 20);
  require_between("prompt_logprobs", r.prompt_logprobs, -1, 20);
  require_between("logits_from", r.logits_from, 0, static_cast<std::int64_t>(r.prompt.size()) - 1);
  require_between("number of snapshot positions", static_cast<std::int64_t>(r.snapshot_at.size()),
                  0, 64);
  if (!std::ranges::is_sorted(r.snapshot_at)) throw bad_input("snapshot_at is not ascending");
  require_between("priority", r.priority, -kMostPriority, kMostPriority);
  require_between("n", r.n, 1, kMostChoices);
  if (r.n > 1 && (r.score || r.all_logits || r.on_logits)) {
    throw bad_input(fmt::format("n is {}, allowed with the logits of the prompt: 1", r.n));
  }
  require_between("number of stop texts", static_cast<std::int64_t>(r.stop.size()), 0, 32);
  for (const std::string& stop : r.stop) {
    require_between("bytes of a stop text", static_cast<std::int64_t>(stop.size()), 1, 1024);
  }
  for (const std::int32_t id : r.stop_ids) require_between("stop id", id, 0, vocab - 1);
}

}  // namespace heddle
