#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "engine/request.h"

namespace heddle {

/// Which requests are overdue (Request::queue_deadline, Request::deadline). Times are seconds of
/// any one clock.
class Deadlines {
 public:
  struct Due {
    RequestId id = 0;
    bool queue = false;  // it should have begun by now; else it should have ended
  };

  void add(RequestId id, const Request& request, double now);
  void remove(RequestId id);  // unknown ids are ignored
  /// Those whose time has come, the earliest first; each is told once.
  std::vector<Due> due(double now);

 private:
  using Timer = std::tuple<double, RequestId, bool>;
  std::set<Timer> timers_;
  std::multimap<RequestId, Timer> of_request_;
};

/// "deadline: the request has not ended within 2.5 s of being submitted"
std::string describe_overdue(const Request& request, bool queue);

}  // namespace heddle
