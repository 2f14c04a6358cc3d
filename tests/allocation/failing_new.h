#pragma once
// Allocations of this test binary that can be made to fail: failing_new.cpp replaces operator new.

#include <cstdint>

namespace heddle::test {

/// While it lives, the `nth` allocation of this thread (from 1) throws std::bad_alloc; the others
/// go through.
class FailNth {
 public:
  explicit FailNth(std::int64_t nth);
  ~FailNth();
  FailNth(const FailNth&) = delete;
  FailNth& operator=(const FailNth&) = delete;
  bool failed() const;  // there were as many
};

/// Allocations of this process that were not freed yet.
std::int64_t n_allocated();

}  // namespace heddle::test
