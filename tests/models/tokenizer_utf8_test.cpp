// UTF-8 repair and streaming: equal to Python's bytes.decode("utf-8", "replace").

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/utf8.h"

namespace heddle {
namespace {

const std::string kFffd = "\xEF\xBF\xBD";

std::uint64_t fnv(std::uint64_t hash, std::string_view bytes) {
  for (const char byte : bytes) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3U;
  }
  return hash;
}

constexpr std::uint64_t kFnvStart = 0xCBF29CE484222325U;

/// Valid text of every length class, and invalid bytes of every kind.
const std::vector<std::string>& samples() {
  static const std::vector<std::string> kSamples = {
      "",
      "plain",
      "a\u00e9\u20ac\U0001F600z",
      "\U0001F469\u200D\U0001F469\u200D\U0001F467",
      "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8",
      "\x80\xBF stray",
      "\xC3(\xE2\x82(\xF0\x9F\x98(",
      "\xC0\xAF\xE0\x80\x80\xF0\x80\x80\x80",
      "\xED\xA0\x80\xED\xBF\xBF",
      "\xF4\x90\x80\x80\xF5\xFF\xFE",
      "ok\xE2\x82",
      "ok\xF0\x9F\x98",
      "\xF0\x9F\xF0\x9F\x98\x80",
      std::string("\0\xC2\0\x7F", 4),
  };
  return kSamples;
}

TEST(Utf8Lossy, EqualsPythonOnEveryPairOfBytes) {
  std::uint64_t hash = kFnvStart;
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string bytes = {static_cast<char>(a), static_cast<char>(b)};
      hash = fnv(fnv(hash, utf8_lossy(bytes)), "\n");
    }
  }
  EXPECT_EQ(hash, 0x1CE027166D6188A5U);  // computed by Python, see golden/tokenizer/README.md
}

TEST(Utf8Lossy, EqualsPythonOnFourBytesAtTheBordersOfEveryClass) {
  constexpr std::string_view kBorders =
      "\x41\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF"
      "\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF";
  std::uint64_t hash = kFnvStart;
  for (const char a : kBorders) {
    for (const char b : kBorders) {
      for (const char c : kBorders) {
        for (const char d : kBorders) {
          hash = fnv(fnv(hash, utf8_lossy(std::string{a, b, c, d})), "\n");
        }
      }
    }
  }
  EXPECT_EQ(hash, 0x3FD8F190B856FD7DU);
}

TEST(Utf8Lossy, ReplacesMaximalSubpartsByOneCharacterEach) {
  const std::string& f = kFffd;
  EXPECT_EQ(utf8_lossy("a\xE2\x82z"), "a" + f + "z");
  EXPECT_EQ(utf8_lossy("\xED\xA0\x80"), f + f + f);
  EXPECT_EQ(utf8_lossy("\xF0\x9F\x98"), f);
  EXPECT_EQ(utf8_lossy("\xC0\xAF"), f + f);
}

TEST(Utf8Lossy, LeavesValidTextAloneAndIsIdempotent) {
  for (const std::string& sample : samples()) {
    const std::string text = utf8_lossy(sample);
    EXPECT_TRUE(is_valid_utf8(text));
    EXPECT_EQ(utf8_lossy(text), text);
    EXPECT_EQ(text == sample, is_valid_utf8(sample));
  }
}

TEST(Utf8Validity, AgreesWithLossyForInvalidBytesAtEveryOffset) {
  // The validator skips ASCII eight bytes at a time: an invalid byte must be seen at every offset.
  for (std::size_t offset = 0; offset < 40; ++offset) {
    std::string text(40, 'x');
    EXPECT_TRUE(is_valid_utf8(text));
    text[offset] = '\x9F';
    EXPECT_FALSE(is_valid_utf8(text)) << offset;
    text.replace(offset, 1, "\u00e9");
    EXPECT_TRUE(is_valid_utf8(text)) << offset;
  }
}

TEST(Utf8Lossy, MovesRangesWithTheBytesTheyCover) {
  //                          0  1-2       3  4      5
  const std::string bytes =
      "a\xE2\x82"
      "b\xFF"
      "c";
  std::vector<ByteRange> ranges = {{0, 1}, {1, 3}, {3, 4}, {4, 5}, {5, 6}, {6, 6}};
  EXPECT_EQ(utf8_lossy(bytes, ranges), "a\uFFFDb\uFFFDc");
  EXPECT_EQ(ranges, (std::vector<ByteRange>{{0, 1}, {1, 4}, {4, 5}, {5, 8}, {8, 9}, {9, 9}}));
}

TEST(Utf8Lossy, WidensRangesThatCutAReplacedPart) {
  std::vector<ByteRange> ranges = {{0, 2}, {2, 3}};
  EXPECT_EQ(utf8_lossy("a\xE2\x82", ranges), "a\uFFFD");
  EXPECT_EQ(ranges, (std::vector<ByteRange>{{0, 4}, {1, 4}}));
}

TEST(StreamDecoder, EverySplitInThreeGivesTheTextOfTheWhole) {
  for (const std::string& sample : samples()) {
    const std::string whole = utf8_lossy(sample);
    for (std::size_t i = 0; i <= sample.size(); ++i) {
      for (std::size_t j = i; j <= sample.size(); ++j) {
        StreamDecoder decoder;
        std::string text;
        for (const std::string& part :
             {sample.substr(0, i), sample.substr(i, j - i), sample.substr(j)}) {
          const std::string certain = decoder.push(part);
          EXPECT_TRUE(is_valid_utf8(certain));
          text += certain;
        }
        text += decoder.finish();
        ASSERT_EQ(text, whole) << "split at " << i << " and " << j;
      }
    }
  }
}

TEST(StreamDecoder, ByteByByteGivesTheTextOfTheWhole) {
  for (const std::string& sample : samples()) {
    StreamDecoder decoder;
    std::string text;
    for (const char byte : sample) text += decoder.push({&byte, 1});
    EXPECT_EQ(text + decoder.finish(), utf8_lossy(sample));
  }
}

TEST(StreamDecoder, HoldsBackNoCompleteCharacter) {
  StreamDecoder decoder;
  EXPECT_EQ(decoder.push("a\xE2\x82"), "a");
  EXPECT_EQ(decoder.push("\xAC"), "\u20ac");
  EXPECT_EQ(decoder.push("\xF0\x9F"), "");
  EXPECT_EQ(decoder.push("x"), "\uFFFDx");
}

TEST(StreamDecoder, IsAsNewAfterFinish) {
  StreamDecoder decoder;
  decoder.push("\xF0\x9F\x98");
  EXPECT_EQ(decoder.finish(), kFffd);
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_EQ(decoder.push("\x80"), kFffd);
}

}  // namespace
}  // namespace heddle
