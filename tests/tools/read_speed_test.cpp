#include "tools/heddle/read_speed.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace heddle::cli {
namespace {

TEST(ReadSpeed, SumCoversEveryWord) {
  for (const std::size_t n : {0U, 1U, 15U, 16U, 17U, 33U, 1000U}) {
    std::vector<std::uint64_t> words(n);
    for (std::size_t i = 0; i < n; ++i) words[i] = (std::uint64_t{1} << (i % 60)) + i;
    EXPECT_EQ(sum_words(words.data(), static_cast<std::int64_t>(n)),
              std::accumulate(words.begin(), words.end(), std::uint64_t{0}))
        << n;
  }
}

TEST(ReadSpeed, IsThatOfMemory) {
  const double speed = measure_read_speed(1);
  EXPECT_GT(speed, 0.05e9);
  EXPECT_LT(speed, 1000e9);  // a cache or dropped reads would be beyond
}

}  // namespace
}  // namespace heddle::cli
