#pragma once
#include <exception>

#include "scheduler/scheduler.h"

namespace heddle {

/// In each call that changes blocks, slots or lists: rebuilds what an earlier one has left half
/// done, and says so of this one if it throws. Internal to scheduler/.
class Scheduler::Recovery {
 public:
  static constexpr bool kAsItIs = true;  // a call that can do without
  explicit Recovery(Scheduler& scheduler, bool as_it_is = false);
  ~Recovery();
  Recovery(const Recovery&) = delete;
  Recovery& operator=(const Recovery&) = delete;

 private:
  Scheduler& scheduler_;
  int before_ = std::uncaught_exceptions();
};

}  // namespace heddle
