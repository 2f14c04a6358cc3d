// What is to be compared gives its room back, whichever allocation fails.

#include <gtest/gtest.h>

#include <cstdint>
#include <new>
#include <vector>

#include "engine/cache_check.h"
#include "tests/allocation/failing_new.h"

namespace heddle {
namespace {

using Rows = std::vector<std::vector<float>>;

/// A hit of a prompt of four tokens.
void record_hit(CacheCheck& checks, RequestId id, const Rows& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    checks.record(id, static_cast<std::int64_t>(i), rows[i]);
  }
  const std::vector<std::int32_t> tokens(4 + rows.size(), 5);
  checks.end(id, tokens, 4, 3);
}

TEST(CacheCheckAllocation, NoRoomIsLostToAFailure) {
  const Rows rows(8, std::vector<float>(100, 1.0F));
  Rows other = rows;
  for (std::vector<float>& row : other) row[0] = 2.0F;
  bool failed = true;
  for (std::int64_t nth = 1; failed; ++nth) {
    ASSERT_LT(nth, 200);
    // Of rows, three quarters: what one hit has, and not a row more.
    CacheCheck checks({.fraction = 1.0, .memory = 8 * 400 * 4 / 3 + 1});
    {
      const test::FailNth fail(nth);
      try {
        record_hit(checks, 1, rows);
      } catch (const std::bad_alloc&) {
      }
      failed = fail.failed();
    }
    checks.forget(1);
    if (!failed) break;
    record_hit(checks, 2, rows);
    ASSERT_TRUE(checks.waiting()) << "allocation " << nth << ": no room for what it needs";
    checks.begin();
    checks.compare(10, other[7]);
    const std::optional<std::string> difference = checks.complete();
    ASSERT_TRUE(difference.has_value());
    EXPECT_EQ(difference->find("in rows not kept"), std::string::npos)
        << "allocation " << nth << ": " << *difference;
  }
}

}  // namespace
}  // namespace heddle
