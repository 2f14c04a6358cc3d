#include "engine/deadlines.h"

#include <fmt/format.h>

namespace heddle {

void Deadlines::add(RequestId id, const Request& request, double now) {
  const auto add_timer = [&](double seconds, bool queue) {
    if (seconds <= 0.0) return;
    const Timer timer(now + seconds, id, queue);
    timers_.insert(timer);
    of_request_.emplace(id, timer);
  };
  add_timer(request.queue_deadline, true);
  add_timer(request.deadline, false);
}

void Deadlines::remove(RequestId id) {
  const auto [begin, end] = of_request_.equal_range(id);
  for (auto it = begin; it != end; ++it) timers_.erase(it->second);
  of_request_.erase(begin, end);
}

std::vector<Deadlines::Due> Deadlines::due(double now) {
  std::vector<Due> due;
  due.reserve(timers_.size());  // none is lost for want of memory
  while (!timers_.empty() && std::get<0>(*timers_.begin()) <= now) {
    const auto [at, id, queue] = *timers_.begin();
    due.push_back({id, queue});
    timers_.erase(timers_.begin());
  }
  return due;
}

std::string describe_overdue(const Request& request, bool queue) {
  return queue ? fmt::format(
                     "queue_deadline: the request has not begun within {} s of being "
                     "submitted",
                     request.queue_deadline)
               : fmt::format("deadline: the request has not ended within {} s of being submitted",
                             request.deadline);
}

}  // namespace heddle
