// Keys and values of the needle's tasks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "tools/needle/words.h"

namespace heddle::needle {
namespace {

using ::testing::ElementsAre;

TEST(NeedleWords, AreLowerCaseEachOnceAndInOrder) {
  for (const auto words : {adjectives(), nouns()}) {
    EXPECT_GE(words.size(), 190U);
    EXPECT_TRUE(std::is_sorted(words.begin(), words.end()));
    EXPECT_EQ(std::set<std::string_view>(words.begin(), words.end()).size(), words.size());
    for (const std::string_view word : words) {
      EXPECT_GE(word.size(), 2U);
      EXPECT_TRUE(std::all_of(word.begin(), word.end(), [](char c) {
        return c >= 'a' && c <= 'z';
      })) << word;
    }
  }
}

TEST(NeedleWords, KindsHaveTheirForms) {
  EXPECT_EQ(name(ValueKind::kNumber), "number");
  EXPECT_EQ(name(ValueKind::kWord), "word");
  EXPECT_EQ(name(ValueKind::kUuid), "uuid");
  Random random(1, "kinds");
  std::uint64_t least = 10'000'000;
  std::uint64_t most = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::string number = value_of(ValueKind::kNumber, random);
    ASSERT_EQ(number.size(), 7U);
    ASSERT_TRUE(std::all_of(number.begin(), number.end(), ::isdigit)) << number;
    least = std::min<std::uint64_t>(least, std::stoull(number));
    most = std::max<std::uint64_t>(most, std::stoull(number));
    const std::string key = passkey(random);
    ASSERT_TRUE(std::stoi(key) >= 1 && std::stoi(key) <= 50'000 && key[0] != '0') << key;
    const std::string pair = value_of(ValueKind::kWord, random);
    const auto dash = pair.find('-');
    ASSERT_NE(dash, std::string::npos);
    const auto has = [](auto words, std::string_view word) {
      return std::find(words.begin(), words.end(), word) != words.end();
    };
    ASSERT_TRUE(has(adjectives(), pair.substr(0, dash)) && has(nouns(), pair.substr(dash + 1)))
        << pair;
  }
  EXPECT_LT(least, 1'050'000U);
  EXPECT_GT(most, 9'950'000U);
}

/// RFC 9562, 5.4: xxxxxxxx-xxxx-4xxx-Nxxx-xxxxxxxxxxxx, N one of 8, 9, a, b.
TEST(NeedleWords, UuidsAreOfVersionFour) {
  Random random(1, "uuids");
  std::set<std::string> seen;
  std::vector<std::set<char>> at(36);
  for (int i = 0; i < 2000; ++i) {
    const std::string id = value_of(ValueKind::kUuid, random);
    ASSERT_EQ(id.size(), 36U);
    for (std::size_t k = 0; k < id.size(); ++k) at[k].insert(id[k]);
    seen.insert(id);
  }
  EXPECT_EQ(seen.size(), 2000U);
  for (std::size_t k = 0; k < at.size(); ++k) {
    if (k == 8 || k == 13 || k == 18 || k == 23) {
      EXPECT_THAT(at[k], ElementsAre('-')) << k;
    } else if (k == 14) {
      EXPECT_THAT(at[k], ElementsAre('4'));
    } else if (k == 19) {
      EXPECT_THAT(at[k], ElementsAre('8', '9', 'a', 'b'));
    } else {
      EXPECT_EQ(at[k].size(), 16U) << k;
      EXPECT_TRUE(std::all_of(at[k].begin(), at[k].end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
      })) << k;
    }
  }
}

TEST(NeedleWords, FreshValuesHoldNoOtherAndAreNoPartOfOne) {
  Random random(9, "fresh");
  for (const ValueKind kind : {ValueKind::kNumber, ValueKind::kWord, ValueKind::kUuid}) {
    // Parts of what would be drawn first, and what holds it, count as used.
    std::vector<std::string> used = {"1", "quiet-harbor and more", "bold-"};
    for (int i = 0; i < 500; ++i) fresh_value(kind, random, used);
    ASSERT_EQ(used.size(), 503U);
    for (std::size_t i = 3; i < used.size(); ++i) {
      for (std::size_t k = 0; k < used.size(); ++k) {
        ASSERT_TRUE(i == k || used[i].find(used[k]) == std::string::npos) << used[i] << used[k];
      }
    }
  }
}

TEST(NeedleWords, DrawsThatAreUsedUpAreRefused) {
  Random random(9, "none");
  std::vector<std::string> used = {"-"};
  try {
    fresh_value(ValueKind::kWord, random, used);
    ADD_FAILURE() << used.back();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_STREQ(error.what(),
                 "no word is left beside 1 in one prompt: it is too long for this task");
  }
  EXPECT_EQ(used.size(), 1U);
}

TEST(NeedleWords, FirstValuesStayWhatTheyAre) {
  Random random(1, "golden");
  const std::vector<std::string> values = {word_pair(random), number7(random), passkey(random),
                                           uuid(random)};
  EXPECT_THAT(values, ElementsAre("young-pigeon", "5004032", "38441",
                                  "12b3ae42-0c9e-491b-8482-82dca73ce088"));
}

}  // namespace
}  // namespace heddle::needle
