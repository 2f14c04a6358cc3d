// SentencePiece models written by hand: what is refused before libsentencepiece sees it, and what a
// folder makes of it. tokenizer_kinds_test.py compares whole texts with the package.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ctime>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/folder_tokenizer.h"
#include "models/tokenizer/sentencepiece_tokenizer.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7U) out.push_back(static_cast<char>(value | 0x80U));
  out.push_back(static_cast<char>(value));
  return out;
}
std::string number(std::uint64_t field, std::uint64_t value) {
  return varint(field << 3U) + varint(value);
}
std::string bytes(std::uint64_t field, const std::string& value) {
  return varint(field << 3U | 2U) + varint(value.size()) + value;
}
std::string piece(const std::string& text, float score, std::uint64_t type = 1) {
  std::string raw(sizeof(score), '\0');
  std::memcpy(raw.data(), &score, sizeof(score));
  return bytes(1, bytes(1, text) + varint(2U << 3U | 5U) + raw + number(3, type));
}

const std::string kStart = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3);
const std::string kPieces = kStart + piece("\u2581", -3) + piece("a", -4) + piece("b", -5) +
                            piece("ab", -2) + piece("\u2581a", -1);
const std::string kTrainer = bytes(2, number(3, 2));
const std::string kNormalizer = bytes(3, bytes(1, "identity") + number(4, 0));

std::unique_ptr<const Tokenizer> make(const std::string& file, const TokenizerConfig& config = {}) {
  return make_sentencepiece_tokenizer(file, "tokenizer.model", config, 20);
}

std::string refusal(const std::string& file, const TokenizerConfig& config = {}) {
  try {
    make(file, config);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "";
}

TEST(SentencePiece, EncodesAndDecodes) {
  const auto tokenizer = make(kPieces + kTrainer + kNormalizer);
  EXPECT_EQ(tokenizer->describe(), "SentencePiece BPE, 8 tokens, tokenizer.model");
  EXPECT_EQ(tokenizer->vocab_size(), 20);
  EXPECT_THAT(tokenizer->encode("ab</s>bab", {}), ElementsAre(1, 7, 5, 2, 3, 5, 6));
  EXPECT_EQ(tokenizer->decode({1, 7, 5, 2, 3, 5, 6}), "ab bab");
  EXPECT_EQ(tokenizer->facts().bos, 1);
  EXPECT_EQ(tokenizer->facts().eos, 2);
  EXPECT_TRUE(tokenizer->facts().add_bos());
}

TEST(SentencePiece, MessageContentNeverBecomesAControlToken) {
  const auto tokenizer = make(kPieces + kTrainer + kNormalizer);
  EXPECT_THAT(tokenizer->encode("a</s>", {.plain = {{0, 5}}}), ElementsAre(1, 7, 0));
  EXPECT_THAT(tokenizer->encode("a</s>", {.parse_special = false}), ElementsAre(1, 7, 0));
}

TEST(SentencePiece, AFolderAddsTokensAndEnds) {
  const test::TempFolder folder;
  folder.write("tokenizer.model", kPieces + kTrainer + kNormalizer);
  folder.write("added_tokens.json", R"({"<|end|>": 9, "<|user|>": 8})");
  folder.write(
      "tokenizer_config.json",
      R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false, "eos_token": "<|end|>",
                   "add_eos_token": true})");
  const auto tokenizer = folder_tokenizer(Folder(folder.path()), 12).tokenizer;
  EXPECT_THAT(tokenizer->encode("<|user|>a", {}), ElementsAre(8, 7, 9));
  EXPECT_TRUE(tokenizer->is_control(9));
  EXPECT_FALSE(tokenizer->is_control(8));
  EXPECT_EQ(tokenizer->find("<|user|>"), 8);
  EXPECT_EQ(tokenizer->decode({7, 8, 7, 9}), "a<|user|> a");
}

TEST(SentencePiece, ARunOfUnknownCharactersIsOneToken) {
  const auto tokenizer = make(kPieces + kTrainer + kNormalizer);
  EXPECT_THAT(tokenizer->encode("a" + std::string(5000, '?') + "b?", {}),
              ElementsAre(1, 7, 0, 5, 0));
}

TEST(SentencePieceM14, WhatIsNoModelIsRefused) {
  const std::string start = "tokenizer.model: tokenizer: ";
  EXPECT_EQ(refusal(""),
            start +
                "file, got no trainer_spec or normalizer_spec, allowed a SentencePiece "
                "model");
  EXPECT_EQ(refusal("<html>"), start + "file, got wire type 4, allowed a SentencePiece model");
  EXPECT_EQ(refusal("\xff\xff"),
            start + "file, got a number without an end, allowed a SentencePiece model");
  EXPECT_EQ(
      refusal(kPieces + kTrainer + "\x1a\x7f"),
      start + "file, got a field 3 of 127 bytes where 0 are left, allowed a SentencePiece model");
  EXPECT_EQ(refusal(kPieces + kTrainer + kTrainer + kNormalizer),
            start + "trainer_spec, got two, allowed one");
  EXPECT_EQ(refusal(kPieces + bytes(2, number(3, 4)) + kNormalizer),
            start + "model_type, got 4, allowed 1 (unigram), 2 (bpe)");
  EXPECT_EQ(refusal(kPieces + kTrainer + bytes(3, number(5, 0))),
            start + "escape_whitespaces, got false, allowed true");
  EXPECT_EQ(refusal(kPieces + bytes(2, number(41, 8)) + kNormalizer),
            start + "bos_id, got 8, allowed -1 to 7");
}

TEST(SentencePieceM14, PiecesThatCannotBeAreRefused) {
  const std::string end = kTrainer + kNormalizer;
  const std::string start = "tokenizer.model: tokenizer: ";
  EXPECT_EQ(refusal(kPieces + piece("a", 0) + end),
            start + "piece 8, got 'a' of 1 bytes, allowed distinct pieces");
  EXPECT_EQ(refusal(kPieces + piece("", 0) + end),
            start + "piece 8, got '' of 0 bytes, allowed UTF-8 of 1 to 1024 bytes without NUL");
  EXPECT_EQ(refusal(kPieces + piece("<0xGG>", 0, 6) + end),
            start + "piece 8, got '<0xGG>' of 6 bytes, allowed <0x00> to <0xFF> for bytes");
  EXPECT_EQ(refusal(kPieces + piece("c", std::numeric_limits<float>::infinity()) + end),
            start + "score of piece 8, got no number, allowed one");
  EXPECT_EQ(refusal(kPieces + piece("c", 0, 7) + end),
            start + "type of piece 8, got 7, allowed 1 to 6");
  EXPECT_EQ(refusal(kPieces + piece("c", 0, 2) + end), start + "unknown pieces, got 2, allowed 1");
  std::string many = kPieces;
  for (char c = 'c'; c < 'q'; ++c) many += piece(std::string(1, c), -9);
  EXPECT_EQ(refusal(many + end),
            start + "pieces, got 22, allowed up to 20, the rows of the embedding");
}

TEST(SentencePieceM14, CharacterMapsThatLeadOutsideAreRefused) {
  const auto with = [](const std::string& map) {
    return refusal(kPieces + kTrainer + bytes(3, bytes(2, map)));
  };
  const auto trie = [](std::uint32_t first, const std::string& replacements) {
    std::string blob(4 + 256 * 4, '\0');
    const std::uint32_t size = 256 * 4;
    std::memcpy(blob.data(), &size, sizeof(size));
    std::memcpy(blob.data() + 4, &first, sizeof(first));
    return blob + replacements;
  };
  EXPECT_THAT(with("abc"), HasSubstr("precompiled_charsmap, got a character map of 3 bytes"));
  EXPECT_THAT(with(std::string(8, '\0')), HasSubstr("got a trie that has 0 units"));
  EXPECT_THAT(with(trie(0xFFFFU << 10U, std::string(1, '\0'))),
              HasSubstr("got a trie that leads outside at unit 0"));
  // The library follows the first unit whether or not it is marked as a value.
  EXPECT_THAT(with(trie((1U << 31U) | (0xFFFFU << 10U), std::string(1, '\0'))),
              HasSubstr("got a trie that leads outside at unit 0"));
  EXPECT_THAT(with(trie(1U << 8U, std::string(1, '\0'))),
              HasSubstr("got a trie that has the value"));
  EXPECT_THAT(with(trie(0, "a")), HasSubstr("got a trie that has replacements without an end"));
  EXPECT_EQ(with(trie(0, std::string("a\0", 2))), "");
}

TEST(SentencePieceM14, ClassesWithOtherIdsAreRefused) {
  TokenizerConfig config;
  config.tokenizer_class = "XLMRobertaTokenizer";
  EXPECT_THAT(refusal(kPieces + kTrainer + kNormalizer, config),
              HasSubstr("tokenizer_class, got 'XLMRobertaTokenizer', allowed LlamaTokenizer"));
}

TEST(SentencePieceTime, AMegabyteOfOneLetterTakesLittleTime) {
  for (const std::uint64_t type : {1, 2}) {
    const auto tokenizer = make(kPieces + bytes(2, number(3, type)) + kNormalizer);
    for (const char* unit : {"a", "b", " ", "?", "ab "}) {
      std::string text;
      while (text.size() < (1U << 20U)) text += unit;
      const std::clock_t start = std::clock();
      tokenizer->encode(text, {});
      const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      // Sanitizers make this many times slower; quadratic work would take minutes.
      EXPECT_LT(seconds, 15.0) << unit;
    }
  }
}

}  // namespace
}  // namespace heddle
