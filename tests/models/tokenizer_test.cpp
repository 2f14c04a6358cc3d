// The byte-level tokenizer on vocabularies made by hand: validation, special tokens, merges,
// threads and linear time. tokenizer_parity_test.cpp compares whole texts with the reference.

#include "models/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/normalize.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/vocabulary.h"
#include "tests/support/sanitizers.h"

namespace heddle {
namespace {

constexpr std::int32_t kNormal = 1;
constexpr std::int32_t kUnknown = 2;
constexpr std::int32_t kControl = 3;
constexpr std::int32_t kUser = 4;
constexpr std::int32_t kUnused = 5;

/// Id = byte for the first 256 tokens.
TokenizerSpec byte_spec(std::string pre = "smollm") {
  TokenizerSpec spec;
  spec.source = "tiny.gguf";
  spec.model = "gpt2";
  spec.pre = std::move(pre);
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    spec.tokens.push_back(encode_byte_level({&text, 1}));
    spec.types.push_back(kNormal);
  }
  return spec;
}

TokenId add_token(TokenizerSpec& spec, const std::string& text, std::int32_t type) {
  spec.tokens.push_back(text);
  spec.types.push_back(type);
  return static_cast<TokenId>(spec.tokens.size() - 1);
}

/// Adds the merge and the token that it makes.
TokenId add_merge(TokenizerSpec& spec, const std::string& left, const std::string& right) {
  spec.merges.push_back(left + " " + right);
  return add_token(spec, left + right, kNormal);
}

std::vector<TokenId> bytes_as_ids(std::string_view bytes) {
  std::vector<TokenId> ids;
  for (const char byte : bytes) ids.push_back(static_cast<unsigned char>(byte));
  return ids;
}

std::vector<TokenId> operator+(std::vector<TokenId> a, const std::vector<TokenId>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

EncodeOptions plain_text() {
  EncodeOptions options;
  options.parse_special = false;
  return options;
}

EncodeOptions plain_parts(std::vector<ByteRange> ranges) {
  EncodeOptions options;
  options.plain = std::move(ranges);
  return options;
}

void expect_bad_input(const std::function<void()>& action, const std::string& text) {
  try {
    action();
    FAIL() << "no error, wanted: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_STREQ(error.what(), text.c_str());
  }
}

void expect_refused(TokenizerSpec spec, const std::string& text) {
  expect_bad_input([&] { make_tokenizer(std::move(spec)); }, text);
}

// ------------------------------------------------------------------------ what files may say

TEST(TokenizerSpecM13, UnknownModelIsRefused) {
  TokenizerSpec spec = byte_spec();
  spec.model = "t5";
  expect_refused(spec, "tiny.gguf: tokenizer: tokenizer.ggml.model, got 't5', allowed gpt2, llama");
}

TEST(TokenizerSpecM13, UnknownPretokenizerIsRefusedWithTheKnownOnes) {
  expect_refused(
      byte_spec("gpt\n4o"),
      "tiny.gguf: tokenizer: tokenizer.ggml.pre, got 'gpt\\x0a4o', allowed smollm, llama-bpe, "
      "llama3, llama-v3, qwen2, qwen35, gpt-2, gpt-4o, tekken, starcoder, refact, "
      "command-r, dbrx, deepseek-v3");
}

TEST(TokenizerSpecM13, AMissingPretokenizerIsNotMadeUp) {
  TokenizerSpec spec = byte_spec();
  spec.pre.clear();
  expect_refused(
      spec,
      "tiny.gguf: tokenizer: tokenizer.ggml.pre, got nothing, allowed smollm, llama-bpe, "
      "llama3, llama-v3, qwen2, qwen35, gpt-2, gpt-4o, tekken, starcoder, refact, "
      "command-r, dbrx, deepseek-v3");
}

TEST(TokenizerSpecM13, EmptyVocabularyIsRefused) {
  TokenizerSpec spec = byte_spec();
  spec.tokens.clear();
  expect_refused(
      spec, "tiny.gguf: tokenizer: tokenizer.ggml.tokens, got 0 entries, allowed 1 to 16777216");
}

TEST(TokenizerSpecM13, TypesOfAnotherLengthAreRefused) {
  TokenizerSpec spec = byte_spec();
  spec.types.pop_back();
  expect_refused(
      spec,
      "tiny.gguf: tokenizer: tokenizer.ggml.token_type, got 255 entries, allowed 256, one per "
      "token");
}

TEST(TokenizerSpecM13, TokenTypesOutOfRangeAreRefused) {
  for (const std::int32_t type : {0, 7, -1, 1'000'000}) {
    TokenizerSpec spec = byte_spec();
    spec.types[65] = type;
    expect_refused(spec, "tiny.gguf: tokenizer: tokenizer.ggml.token_type[65], got " +
                             std::to_string(type) + ", allowed 1 to 6");
  }
}

TEST(TokenizerSpecM13, EqualTokensAreRefused) {
  TokenizerSpec spec = byte_spec();
  add_token(spec, "\u0120", kNormal);
  expect_refused(
      spec,
      "tiny.gguf: tokenizer: tokenizer.ggml.tokens[256], got '\u0120' as in tokens[32], allowed "
      "distinct tokens");
  spec = byte_spec();
  add_token(spec, "A", kControl);
  expect_refused(
      spec,
      "tiny.gguf: tokenizer: tokenizer.ggml.tokens[256], got 'A' as in tokens[65], allowed "
      "distinct tokens");
}

TEST(TokenizerSpecM13, EmptyTokensAreAllowedAndNeverFound) {
  TokenizerSpec spec = byte_spec();
  add_token(spec, "", kControl);
  add_token(spec, "", kNormal);
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_EQ(tokenizer->vocab_size(), 258);
  EXPECT_EQ(tokenizer->find(""), std::nullopt);
  EXPECT_EQ(tokenizer->encode("ab", {}), bytes_as_ids("ab"));
}

TEST(TokenizerSpecM13, MergesNamingAbsentTokensAreRefused) {
  const auto refuse = [](const std::string& merge, const std::string& missing) {
    TokenizerSpec spec = byte_spec();
    add_merge(spec, "a", "b");
    spec.merges.push_back(merge);
    expect_refused(spec, "tiny.gguf: tokenizer: tokenizer.ggml.merges[1], got '" + merge +
                             "', which needs the token '" + missing +
                             "', allowed tokens of tokenizer.ggml.tokens (257)");
  };
  refuse("xy z", "xy");
  refuse("x yz", "yz");
  refuse("x y", "xy");
}

TEST(TokenizerSpecM13, MalformedMergesAreRefused) {
  for (const std::string merge : {"", "ab", " ab", "ab ", "a b c", "a  b"}) {
    TokenizerSpec spec = byte_spec();
    spec.merges.push_back(merge);
    expect_refused(spec, "tiny.gguf: tokenizer: tokenizer.ggml.merges[0], got '" + merge +
                             "', allowed two tokens with one space between them");
  }
}

TEST(TokenizerSpecM13, SpecialIdsOutsideTheVocabularyAreRefused) {
  using Field = std::optional<TokenId> TokenizerSpec::*;
  const std::pair<Field, std::string> fields[] = {{&TokenizerSpec::bos, "bos_token_id"},
                                                  {&TokenizerSpec::eos, "eos_token_id"},
                                                  {&TokenizerSpec::eot, "eot_token_id"},
                                                  {&TokenizerSpec::unk, "unknown_token_id"},
                                                  {&TokenizerSpec::pad, "padding_token_id"}};
  for (const auto& [field, key] : fields) {
    for (const TokenId id : {256, -1}) {
      TokenizerSpec spec = byte_spec();
      spec.*field = id;
      expect_refused(spec, "tiny.gguf: tokenizer: tokenizer.ggml." + key + ", got " +
                               std::to_string(id) + ", allowed 0 to 255");
    }
    TokenizerSpec spec = byte_spec();
    spec.*field = 255;
    EXPECT_NO_THROW(make_tokenizer(spec));
  }
}

TEST(TokenizerSpecM13, AddingATokenThatIsNotNamedIsRefused) {
  TokenizerSpec spec = byte_spec();
  spec.add_bos = true;
  expect_refused(
      spec,
      "tiny.gguf: tokenizer: tokenizer.ggml.add_bos_token, got true, allowed false, as there is no "
      "tokenizer.ggml.bos_token_id");
  spec = byte_spec();
  spec.add_eos = true;
  expect_refused(
      spec,
      "tiny.gguf: tokenizer: tokenizer.ggml.add_eos_token, got true, allowed false, as there is no "
      "tokenizer.ggml.eos_token_id");
}

TEST(TokenizerSpecM13, SpecialTokensThatAreNotTextAreRefused) {
  TokenizerSpec spec = byte_spec();
  add_token(spec, "<\xFF>", kControl);
  expect_refused(
      spec,
      "tiny.gguf: tokenizer: tokenizer.ggml.tokens[256], got '<\\xff>' of 3 bytes, allowed "
      "UTF-8 of up to 1024 bytes for control and user-defined tokens");
  spec = byte_spec();
  add_token(spec, std::string(1025, 'a'), kUser);
  expect_refused(spec, "tiny.gguf: tokenizer: tokenizer.ggml.tokens[256], got '" +
                           std::string(64, 'a') +
                           "...' of 1025 bytes, allowed UTF-8 of up to 1024 bytes for control and "
                           "user-defined tokens");
}

// ------------------------------------------------------------------------------- special tokens

struct SpecialTokens : testing::Test {
  SpecialTokens() {
    TokenizerSpec spec = byte_spec();
    start = add_token(spec, "<|s|>", kControl);
    start_x = add_token(spec, "<|s|>x", kControl);
    unknown = add_token(spec, "<unk>", kUnknown);
    unused = add_token(spec, "[PAD]", kUnused);
    tool = add_token(spec, "<tool>", kUser);
    word = add_token(spec, "caf\u00e9", kUser);
    eos = add_token(spec, "</s>", kControl);
    spec.bos = start;
    spec.eos = eos;
    spec.add_bos = spec.add_eos = true;
    tokenizer = make_tokenizer(spec);
  }
  std::vector<TokenId> encode(std::string_view text, EncodeOptions options = {}) const {
    options.add_special = false;
    return tokenizer->encode(text, options);
  }
  TokenId start = 0, start_x = 0, unknown = 0, unused = 0, tool = 0, word = 0, eos = 0;
  std::unique_ptr<const Tokenizer> tokenizer;
};

using Ids = std::vector<TokenId>;

TEST_F(SpecialTokens, AreAddedAtBothEndsOnlyOnRequest) {
  EXPECT_EQ(tokenizer->encode("a", {}), (Ids({start, 'a', eos})));
  EXPECT_EQ(tokenizer->encode("", {}), (Ids({start, eos})));
  EXPECT_EQ(encode("a"), (Ids{'a'}));
  EXPECT_EQ(encode(""), Ids{});
}

TEST_F(SpecialTokens, InTextAreParsedUnlessItIsPlain) {
  EXPECT_EQ(encode("a<|s|>b"), (Ids({'a', start, 'b'})));
  EXPECT_EQ(encode("<unk>"), (Ids{unknown}));
  EXPECT_EQ(encode("a<|s|>b", plain_text()), bytes_as_ids("a<|s|>b"));
  EXPECT_EQ(encode("<unk>", plain_text()), bytes_as_ids("<unk>"));
}

TEST_F(SpecialTokens, TheLongestAtAPlaceWins) {
  EXPECT_EQ(encode("<|s|>x<|s|>y"), (Ids({start_x, start, 'y'})));
  EXPECT_EQ(encode("<|s<|s|>"), bytes_as_ids("<|s") + Ids{start});
}

TEST_F(SpecialTokens, UserDefinedOnesAreFoundInPlainTextToo) {
  EXPECT_EQ(encode("a<tool>", plain_text()), (Ids({'a', tool})));
  EXPECT_EQ(encode("a<tool>", plain_parts({{0, 7}})), (Ids({'a', tool})));
  EXPECT_EQ(encode("un caf\u00e9!"), bytes_as_ids("un ") + Ids({word, '!'}));
}

TEST_F(SpecialTokens, UnusedOnesAreNeverFoundInText) {
  EXPECT_EQ(encode("[PAD]"), bytes_as_ids("[PAD]"));
}

TEST_F(SpecialTokens, AreNotRecognisedWhereTheyOverlapAPlainPart) {
  const std::string text = "<|s|>a<|s|>b<|s|>";  // at 0, 6 and 12
  const Ids literal = bytes_as_ids("<|s|>");
  EXPECT_EQ(encode(text, plain_parts({{6, 11}})), Ids({start, 'a'}) + literal + Ids({'b', start}));
  // A border inside an occurrence is enough, at either end.
  EXPECT_EQ(encode(text, plain_parts({{0, 1}, {10, 13}})),
            literal + Ids{'a'} + literal + Ids{'b'} + literal);
  EXPECT_EQ(encode(text, plain_parts({{5, 6}, {11, 12}})), (Ids({start, 'a', start, 'b', start})));
  // Empty parts cover nothing.
  EXPECT_EQ(encode(text, plain_parts({{8, 8}, {17, 17}})), (Ids({start, 'a', start, 'b', start})));
}

TEST_F(SpecialTokens, AShorterOneStandsWhereTheLongerReachesIntoAPlainPart) {
  EXPECT_EQ(encode("<|s|>x", plain_parts({{5, 6}})), (Ids({start, 'x'})));
}

TEST_F(SpecialTokens, OfATemplateSurviveContentThatImitatesThem) {
  // An attack splits a token between the template and the content.
  const std::string text =
      "<|s|><|s"
      "|><|s|>";
  EXPECT_EQ(encode(text, plain_parts({{8, 10}})),
            Ids({start}) + bytes_as_ids("<|s|>") + Ids{start});
}

TEST_F(SpecialTokens, PlainPartsMoveWithRepairedBytes) {
  // Invalid bytes grow into U+FFFD in front of the part.
  const std::string text = "\xFF\xFF\xFF<|s|>a<|s|>";
  const Ids repaired = bytes_as_ids("\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(encode(text, plain_parts({{9, 14}})),
            repaired + Ids({start, 'a'}) + bytes_as_ids("<|s|>"));
  EXPECT_EQ(encode(text, plain_parts({{3, 8}})),
            repaired + bytes_as_ids("<|s|>") + Ids({'a', start}));
}

TEST_F(SpecialTokens, UnsortedPlainPartsBreakTheContract) {
  EXPECT_THROW(encode("abcd", plain_parts({{2, 3}, {0, 1}})), Error);
  EXPECT_THROW(encode("abcd", plain_parts({{0, 5}})), Error);
}

TEST_F(SpecialTokens, HaveNoBytesUnlessAskedFor) {
  EXPECT_EQ(tokenizer->token_bytes(start), "");
  EXPECT_EQ(tokenizer->token_bytes(unknown), "");
  EXPECT_EQ(tokenizer->token_bytes(unused), "");
  EXPECT_EQ(tokenizer->token_bytes(start, true), "<|s|>");
  EXPECT_EQ(tokenizer->token_bytes(word), "caf\u00e9");
  EXPECT_EQ(tokenizer->token_bytes(0xE9), "\xE9");
  EXPECT_EQ(tokenizer->decode({start, 'a', 0xC3, 0xA9, 0xC3, eos}), "a\u00e9\uFFFD");
  EXPECT_EQ(tokenizer->decode({start, 'a', eos}, true), "<|s|>a</s>");
}

TEST_F(SpecialTokens, FactsAboutTheVocabulary) {
  EXPECT_EQ(tokenizer->vocab_size(), 263);
  EXPECT_TRUE(tokenizer->is_control(start));
  EXPECT_TRUE(tokenizer->is_control(unknown));
  EXPECT_FALSE(tokenizer->is_control(tool));
  EXPECT_FALSE(tokenizer->is_control('a'));
  EXPECT_FALSE(tokenizer->is_control(-1));
  EXPECT_FALSE(tokenizer->is_control(263));
  EXPECT_EQ(tokenizer->find("<|s|>"), start);
  EXPECT_EQ(tokenizer->find("\u0120"), ' ');
  EXPECT_EQ(tokenizer->find(" "), std::nullopt);
  EXPECT_EQ(tokenizer->find("caf\u00e9"), word);
  EXPECT_EQ(tokenizer->describe(), "byte-level BPE, 263 tokens, pre smollm");
  EXPECT_EQ(tokenizer->facts().bos, start);
}

TEST_F(SpecialTokens, IdsOutsideTheVocabularyHaveNoBytes) {
  for (const TokenId id : {-1, 263}) {
    expect_bad_input([&] { tokenizer->token_bytes(id); },
                     "token id is " + std::to_string(id) + ", allowed: 0 to 262");
  }
}

TEST(ControlTokens, AreNeverMadeByMerges) {
  TokenizerSpec spec = byte_spec();
  add_token(spec, "ab", kControl);
  spec.merges.push_back("a b");
  const TokenId cd = add_merge(spec, "c", "d");
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_EQ(tokenizer->encode("abcd", plain_text()), (Ids({'a', 'b', cd})));
  EXPECT_EQ(make_tokenizer([&] {
              spec.pre = "llama-bpe";  // takes whole words from the vocabulary
              return spec;
            }())
                ->encode("ab", plain_text()),
            (Ids({'a', 'b'})));
}

// --------------------------------------------------------------------------------------- merges

TEST(Merges, LowestRankFirstThenLeftmost) {
  TokenizerSpec spec = byte_spec();
  const TokenId bc = add_merge(spec, "b", "c");
  const TokenId aa = add_merge(spec, "a", "a");
  const TokenId ab = add_merge(spec, "a", "b");
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_EQ(tokenizer->encode("abc", {}), (Ids({'a', bc})));
  EXPECT_EQ(tokenizer->encode("aaa", {}), (Ids({aa, 'a'})));
  EXPECT_EQ(tokenizer->encode("aab", {}), (Ids({aa, 'b'})));
  EXPECT_EQ(tokenizer->encode("cab", {}), (Ids({'c', ab})));
}

TEST(Merges, AWordInTheVocabularyIsTakenWholeOnlyByLlama) {
  TokenizerSpec spec = byte_spec("smollm");
  const TokenId whole = add_token(spec, "xyz", kNormal);
  const TokenId xy = add_merge(spec, "x", "y");
  EXPECT_EQ(make_tokenizer(spec)->encode("xyz", {}), (Ids({xy, 'z'})));
  spec.pre = "qwen2";
  EXPECT_EQ(make_tokenizer(spec)->encode("xyz", {}), (Ids({xy, 'z'})));
  for (const char* pre : {"llama-bpe", "llama3", "llama-v3"}) {
    spec.pre = pre;
    EXPECT_EQ(make_tokenizer(spec)->encode("xyz xyz", {}), (Ids({whole, ' ', xy, 'z'}))) << pre;
  }
}

TEST(Merges, OfEqualOnesTheLastCounts) {
  TokenizerSpec spec = byte_spec();
  const TokenId ab = add_merge(spec, "a", "b");
  add_merge(spec, "b", "c");
  spec.merges.push_back("a b");
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_EQ(tokenizer->encode("ab", {}), (Ids{ab}));
  EXPECT_EQ(tokenizer->encode("abc", {}).front(), 'a');
}

TEST(Merges, BytesWithoutATokenAreLeftOut) {
  TokenizerSpec spec = byte_spec();
  spec.tokens['q'] = "unreachable";
  const TokenId ab = add_merge(spec, "a", "b");
  const auto tokenizer = make_tokenizer(spec);
  EXPECT_EQ(tokenizer->encode("q", {}), Ids{});
  EXPECT_EQ(tokenizer->encode("xaqb", {}), (Ids({'x', ab})));
}

TEST(Merges, InvalidUtf8IsEncodedAsReplacementCharacters) {
  const auto tokenizer = make_tokenizer(byte_spec());
  for (const std::string bytes : {"a\xFF"
                                  "b",
                                  "\xE2\x82", "\xED\xA0\x80", "\xC3\xC3\xA9"}) {
    EXPECT_EQ(tokenizer->encode(bytes, {}), bytes_as_ids(utf8_lossy(bytes)));
  }
}

/// Byte-pair encoding by the definition: quadratic, one merge per round.
std::vector<TokenId> slow_bpe(const MergeTable& merges, std::vector<TokenId> ids) {
  while (true) {
    std::uint32_t best = MergeTable::kNoMerge;
    std::size_t at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const std::uint32_t rank = merges.rank(ids[i], ids[i + 1]);
      if (rank < best) {
        best = rank;
        at = i;
      }
    }
    if (best == MergeTable::kNoMerge) return ids;
    ids[at] = merges.result(best);
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(Merges, ShortAndLongWordsFollowTheDefinition) {
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    TokenizerSpec spec = byte_spec();
    std::vector<std::string> pieces = {"a", "b", "c"};
    while (pieces.size() < 60) {
      const std::string left = pieces[random() % pieces.size()];
      const std::string right = pieces[random() % pieces.size()];
      if (std::find(pieces.begin(), pieces.end(), left + right) != pieces.end()) continue;
      add_merge(spec, left, right);
      pieces.push_back(left + right);
    }
    const TokenVocabulary vocabulary(spec);
    const Bpe bpe(MergeTable(read_merges(spec, vocabulary)), vocabulary.size(),
                  /*whole_words=*/false);
    Bpe::Scratch scratch;
    for (std::size_t length = 1; length < 130; ++length) {
      std::string word;
      for (std::size_t i = 0; i < length; ++i) word.push_back("abc"[random() % 3]);
      std::vector<TokenId> ids;
      scratch.ids = bytes_as_ids(word);
      bpe.merge(/*whole=*/-1, scratch, ids);
      ASSERT_EQ(ids, slow_bpe(bpe.merges(), bytes_as_ids(word))) << word;
    }
  }
}

// -------------------------------------------------------------------------------- normalisation

TEST(Nfc, ComposesAndOrdersMarksForQwen2Only) {
  const std::string decomposed = "e\u0301 \u1100\u1161\u11A8 q\u0307\u0323 \u212B";
  const std::string composed = "\u00e9 \uAC01 q\u0323\u0307 \u00C5";
  EXPECT_EQ(to_nfc(decomposed), composed);
  EXPECT_EQ(make_tokenizer(byte_spec("qwen2"))->encode(decomposed, {}), bytes_as_ids(composed));
  EXPECT_EQ(make_tokenizer(byte_spec("llama-bpe"))->encode(decomposed, {}),
            bytes_as_ids(decomposed));
}

TEST(Nfc, OrdersMarksThatTheReferencesTablesLack) {
  // U+1ABF (class 220, Unicode 13) belongs before U+0301 (230); the `tokenizers` package keeps it.
  EXPECT_EQ(to_nfc("q\u0301\u1ABF"), "q\u1ABF\u0301");
}

TEST(Nfc, TheQuickCheckNeverClaimsTooMuch) {
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    if (!is_surely_nfc(text)) continue;
    for (const char* before : {"", "e", "\u0301", "\u0345", "\u0C46", "\u1100", "\uAC00"}) {
      ASSERT_EQ(to_nfc(before + text), before + text) << "U+" << std::hex << std::uint32_t{c};
    }
  }
}

TEST(Nfc, MatchesAcrossAnAddedTokenAreNotComposed) {
  TokenizerSpec spec = byte_spec("qwen2");
  const TokenId user = add_token(spec, "e", kUser);
  EXPECT_EQ(make_tokenizer([&] {
              spec.tokens['e'] = "unreachable";
              return spec;
            }())
                ->encode("e\u0301", {}),
            Ids({user}) + bytes_as_ids("\u0301"));
}

// ------------------------------------------------------------------------------ threads and time

TEST(Threads, ShareATokenizerFromItsFirstUse) {
  TokenizerSpec spec = byte_spec();
  std::vector<std::string> pieces = {"a", "b", "c"};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) pieces.push_back(pieces[i] + pieces[j]);
  }
  for (std::size_t i = 3; i < pieces.size(); ++i) {
    add_merge(spec, pieces[i].substr(0, 1), pieces[i].substr(1));
  }
  std::mt19937 random(3);
  std::vector<std::string> texts(50);
  for (std::string& text : texts) {
    for (int i = 0; i < 300; ++i) text.push_back("aabbcc ?1\n"[random() % 10]);
  }
  std::vector<Ids> expected;
  for (const std::string& text : texts) expected.push_back(make_tokenizer(spec)->encode(text, {}));
  const auto shared = make_tokenizer(spec);
  std::vector<std::vector<Ids>> got(4);
  std::vector<std::thread> threads;
  for (std::vector<Ids>& mine : got) {
    threads.emplace_back([&] {
      for (const std::string& text : texts) mine.push_back(shared->encode(text, {}));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<Ids>& mine : got) EXPECT_EQ(mine, expected);
}

double cpu_seconds(const std::function<void()>& action) {
  const auto now = [] {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  action();
  return now() - start;
}

// Sanitizers are thirty times slower: a tenth of a megabyte in three seconds.
TEST(Linear, AMegabyteOfAnythingTakesUnderASecond) {
  constexpr std::size_t kBytes = test::kSanitized ? 100'000 : 1'000'000;
  constexpr double kSeconds = test::kSanitized ? 3.0 : 1.0;
  const auto repeat = [](std::string_view unit) {
    std::string text;
    while (text.size() < kBytes) text += unit;
    return text;
  };
  for (const char* pre : {"smollm", "llama-bpe", "qwen2"}) {
    TokenizerSpec spec = byte_spec(pre);
    std::string run = "a";
    for (int i = 0; i < 6; ++i, run += run) add_merge(spec, run, run);
    add_token(spec, "<|im_start|>", kControl);
    add_token(spec, "<<<<<<<<<<<<<<<<", kControl);
    const auto tokenizer = make_tokenizer(spec);
    for (const std::string unit :
         {"a",   " ",           "\n",     "\r\n",         "1",      "'",          "=",
          "<",   "<|im_start|", "\u0301", "\u0323\u0301", "\u4e2d", "\U0001F600", "a ",
          " \n", "\t ",         "\u3000", "'s",           "\xFF",   "\u1100"}) {
      const std::string text = repeat(unit);
      for (const std::string& whole : {text, text + "x", " " + text}) {
        std::size_t count = 0;
        const double seconds = cpu_seconds([&] { count = tokenizer->encode(whole, {}).size(); });
        EXPECT_LT(seconds, kSeconds) << pre << ", a megabyte of '" << unit << "'";
        EXPECT_GT(count, kBytes / 65);
      }
    }
  }
}

}  // namespace
}  // namespace heddle
