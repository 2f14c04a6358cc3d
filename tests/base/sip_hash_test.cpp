#include "base/sip_hash.h"

#include <gtest/gtest.h>

#include <vector>

namespace heddle {
namespace {

/// The key of the authors' test vectors: bytes 0 .. 15.
constexpr std::array<std::uint64_t, 2> kKey = {0x0706050403020100U, 0x0f0e0d0c0b0a0908U};

TEST(SipHash, IsTheAuthorsVectorOfAnEmptyText) {
  // a3 81 7f 04 ba 25 a8 e6 6d f6 72 14 c7 55 02 93
  EXPECT_EQ(sip_hash({}, kKey), (Hash128{0xe6a825ba047f81a3U, 0x930255c71472f66dU}));
}

TEST(SipHash, DependsOnEveryWordItsPlaceTheLengthAndTheKey) {
  const std::vector<std::uint64_t> words = {1, 2, 3};
  const Hash128 hash = sip_hash(words, kKey);
  EXPECT_EQ(hash, sip_hash(words, kKey));
  EXPECT_NE(hash, sip_hash(std::vector<std::uint64_t>{1, 2, 4}, kKey));
  EXPECT_NE(hash, sip_hash(std::vector<std::uint64_t>{2, 1, 3}, kKey));
  EXPECT_NE(hash, sip_hash(std::vector<std::uint64_t>{1, 2, 3, 0}, kKey));
  EXPECT_NE(hash, sip_hash(words, {kKey[0], kKey[1] + 1}));
  EXPECT_NE(hash.low, hash.high);
}

}  // namespace
}  // namespace heddle
