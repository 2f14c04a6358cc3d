// GGUF's kind "llama" on a small vocabulary: what is refused, spaces, bytes, special tokens, time.
// tokenizer_kinds_test.py compares whole texts with sentencepiece and tokenizers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/tokenizer.h"

namespace heddle {
namespace {

using ::testing::ElementsAre;

constexpr std::int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUser = 4, kUnused = 5, kByte = 6;

TokenizerSpec tiny() {
  TokenizerSpec spec;
  spec.source = "tiny.gguf";
  spec.model = "llama";
  const auto add = [&](const char* text, std::int32_t type, float score) {
    spec.tokens.emplace_back(text);
    spec.types.push_back(type);
    spec.scores.push_back(score);
  };
  add("<unk>", kUnknown, 0);         // 0
  add("<s>", kControl, 0);           // 1
  add("</s>", kControl, 0);          // 2
  add("<0xC3>", kByte, 0);           // 3
  add("<0xA9>", kByte, 0);           // 4
  add("\u2581", kNormal, -9);        // 5
  add("a", kNormal, -10);            // 6
  add("b", kNormal, -11);            // 7
  add("ab", kNormal, -2);            // 8
  add("\u2581a", kNormal, -1);       // 9
  add("bb", kNormal, -3);            // 10
  add("\u2581\u2581", kNormal, -4);  // 11
  add("\u2581x\u2581", kUser, 0);    // 12
  add("aa", kUnused, -1);            // 13
  spec.bos = 1;
  spec.eos = 2;
  spec.unk = 0;
  return spec;
}

std::string refusal(const std::function<void(TokenizerSpec&)>& change) {
  TokenizerSpec spec = tiny();
  change(spec);
  try {
    make_tokenizer(spec);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "";
}

TEST(SpmTokenizer, TheBestScoreMergesFirst) {
  const auto tokenizer = make_tokenizer(tiny());
  EXPECT_EQ(tokenizer->describe(), "SentencePiece BPE, 14 tokens");
  EXPECT_THAT(tokenizer->encode("ab", {}), ElementsAre(9, 7));      // _a before ab
  EXPECT_THAT(tokenizer->encode("bab", {}), ElementsAre(5, 7, 8));  // ab before bb
  EXPECT_THAT(tokenizer->encode("", {}), ElementsAre());
}

TEST(SpmTokenizer, UnusedPiecesAreTakenApartAgain) {
  EXPECT_THAT(make_tokenizer(tiny())->encode("baa", {}), ElementsAre(5, 7, 6, 6));
}

TEST(SpmTokenizer, CharactersWithoutAPieceAreBytesOrUnknown) {
  const auto tokenizer = make_tokenizer(tiny());
  EXPECT_THAT(tokenizer->encode("\u00e9??b", {}), ElementsAre(5, 3, 4, 0, 7));
  EXPECT_EQ(tokenizer->decode({5, 3, 4, 7}), "\u00e9b");
}

TEST(SpmTokenizer, OneSpaceAtTheBeginIsTheEncoders) {
  const auto tokenizer = make_tokenizer(tiny());
  EXPECT_THAT(tokenizer->encode("  a", {}), ElementsAre(11, 9));
  EXPECT_EQ(tokenizer->decode({11, 9}), "  a");
  EXPECT_EQ(tokenizer->decode({1, 9}), "a");
  EXPECT_EQ(tokenizer->decode({5, 5, 6}), " a");
  EXPECT_EQ(tokenizer->token_bytes(9), " a");
  TokenizerSpec spec = tiny();
  spec.add_space_prefix = false;
  const auto without = make_tokenizer(spec);
  EXPECT_THAT(without->encode(" a", {}), ElementsAre(9));
  EXPECT_EQ(without->decode({9}), " a");
}

TEST(SpmTokenizer, UserDefinedTokensAreFoundAmongSpaceSymbols) {
  const auto tokenizer = make_tokenizer(tiny());
  EXPECT_THAT(tokenizer->encode("x b", {}), ElementsAre(12, 7));
  EXPECT_THAT(tokenizer->encode("a x a", {}), ElementsAre(9, 12, 6));
  EXPECT_EQ(tokenizer->decode({9, 12, 6}), "a x a");
}

TEST(SpmTokenizer, MessageContentNeverBecomesAControlToken) {
  TokenizerSpec spec = tiny();
  spec.add_bos = spec.add_eos = true;
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_THAT(tokenizer->encode("a</s>a", {}), ElementsAre(1, 9, 2, 9, 2));
  EXPECT_THAT(tokenizer->encode("a</s>a", {.parse_special = false}), ElementsAre(1, 9, 0, 6, 2));
  EXPECT_THAT(tokenizer->encode("a</s>a", {.plain = {{2, 3}}}), ElementsAre(1, 9, 0, 6, 2));
}

TEST(SpmTokenizerM13, WhatDoesNotFitIsNamed) {
  const std::string start = "tiny.gguf: tokenizer: tokenizer.ggml.";
  EXPECT_EQ(refusal([](TokenizerSpec& s) { s.scores.pop_back(); }),
            start + "scores, got 13 entries, allowed 14, one per token");
  EXPECT_EQ(refusal([](TokenizerSpec& s) { s.scores[3] = std::nanf(""); }),
            start + "scores[3], got nan, allowed finite numbers");
  EXPECT_EQ(refusal([](TokenizerSpec& s) { s.tokens[3] = "<0xZZ>"; }),
            start + "tokens[3], got '<0xZZ>' of 6 bytes, allowed <0x00> to <0xFF> for bytes");
  EXPECT_EQ(refusal([](TokenizerSpec& s) { s.tokens[7] = "a"; }),
            start + "tokens[7], got 'a' of 1 bytes, allowed distinct tokens");
  EXPECT_EQ(refusal([](TokenizerSpec& s) { s.tokens[7] = "\xff"; }),
            start + "tokens[7], got '\\xff' of 1 bytes, allowed UTF-8 of up to 1024 bytes");
  EXPECT_EQ(refusal([](TokenizerSpec& s) { s.types[7] = 7; }),
            start + "token_type[7], got 7, allowed 1 to 6");
  EXPECT_EQ(refusal([](TokenizerSpec& s) { s.bos = 14; }),
            start + "bos_token_id, got 14, allowed 0 to 13");
}

TEST(SpmTokenizerTime, AMegabyteOfOneLetterTakesLessThanASecond) {
  TokenizerSpec spec = tiny();
  for (std::size_t n = 4; n <= 64; n *= 2) {
    spec.tokens.push_back(std::string(n, 'b'));
    spec.types.push_back(kNormal);
    spec.scores.push_back(-3.0F);
  }
  const auto tokenizer = make_tokenizer(spec);
  for (const char* unit : {"a", "b", " ", "ab", "\u00e9", "?", " x "}) {
    std::string text;
    while (text.size() < (1U << 20U)) text += unit;
    const std::clock_t start = std::clock();
    tokenizer->encode(text, {});
    // Sanitizers make this many times slower; quadratic work would take minutes.
    EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 15.0) << unit;
    RecordProperty(unit, std::to_string((std::clock() - start) * 1000 / CLOCKS_PER_SEC));
  }
}

}  // namespace
}  // namespace heddle
