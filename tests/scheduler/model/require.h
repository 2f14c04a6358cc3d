#pragma once
// How the rules of the scheduler's model are written.

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "tests/scheduler/model/fake_decoder.h"

namespace heddle::test {

/// Else the rule is violated, and `seen` says how.
template <typename... Args>
void require(bool holds, std::string_view rule, fmt::format_string<Args...> seen, Args&&... args) {
  if (!holds) throw Violation(std::string(rule), fmt::format(seen, std::forward<Args>(args)...));
}

}  // namespace heddle::test
