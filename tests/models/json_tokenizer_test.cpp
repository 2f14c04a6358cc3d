// tokenizer.json on small files: what is refused and how, special tokens, configuration, limits.
// tokenizer_kinds_test.py compares whole texts with the reference.

#include "models/tokenizer/json_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "models/folder_tokenizer.h"
#include "models/tokenizer/json_node.h"
#include "models/tokenizer/regex.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kRows = 24;

/// BPE over characters with bytes as fallback for two of them; <s> and </s> are special.
Json tiny() {
  return parse_json(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 2, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "_"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "_"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
      "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
      "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "_": 3, "a": 4, "b": 5, "ab": 6, "_a": 7,
                "<0xC3>": 8, "<0xA9>": 9, "<": 10, "s": 11, ">": 12, "/": 13},
      "merges": ["a b", ["_", "a"]]}})",
                    "tiny");
}

std::unique_ptr<const Tokenizer> make(const Json& json, const TokenizerConfig& config = {}) {
  return make_json_tokenizer(JsonNode(json, "tokenizer.json"), config, kRows);
}

/// The error of the file after a change; "" if it is accepted.
template <typename Change>
std::string refusal(const Change& change) {
  Json json = tiny();
  change(json);
  try {
    make(json);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    return error.what();
  }
  return "";
}

std::string refusal_at(const std::string& pointer, const std::string& value) {
  return refusal(
      [&](Json& json) { json[Json::json_pointer(pointer)] = parse_json(value, "value"); });
}

std::vector<TokenId> encode(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.encode(text, {.add_special = false});
}

TEST(JsonTokenizer, EncodesAndDecodes) {
  const auto tokenizer = make(tiny());
  EXPECT_EQ(tokenizer->describe(), "BPE with byte fallback, 14 tokens, tokenizer.json");
  EXPECT_EQ(tokenizer->vocab_size(), kRows);
  EXPECT_THAT(tokenizer->encode("ab \u00e9?", {}), ElementsAre(1, 3, 6, 3, 8, 9, 0));
  EXPECT_EQ(tokenizer->decode({1, 3, 6, 3, 8, 9}), "ab \u00e9");
  EXPECT_EQ(tokenizer->decode({1, 3, 6}, true), "<s> ab");
  EXPECT_EQ(tokenizer->decode({20, 4, 23}), "a");  // rows without a token have no text
  EXPECT_EQ(tokenizer->find("ab"), 6);
  EXPECT_EQ(tokenizer->find("nothing"), std::nullopt);
  EXPECT_TRUE(tokenizer->is_control(1));
  EXPECT_FALSE(tokenizer->is_control(4));
}

TEST(JsonTokenizer, ATextLosesItsFirstSpaceAndOnlyThat) {
  const auto tokenizer = make(tiny());
  DecodeState state;
  std::string text;
  for (const TokenId id : {1, 7, 3, 3, 4}) text += tokenizer->next_bytes(id, state, false);
  EXPECT_EQ(text, "a  a");
  EXPECT_EQ(tokenizer->decode({1, 7, 3, 3, 4}), "a  a");
  EXPECT_EQ(tokenizer->decode({3, 3, 4}), " a");
  EXPECT_EQ(tokenizer->token_bytes(7), " a");  // within a text
}

TEST(JsonTokenizer, MessageContentNeverBecomesASpecialToken) {
  const auto tokenizer = make(tiny());
  const std::vector<TokenId> spelled = {3, 10, 11, 12};  // _ < s >
  EXPECT_EQ(encode(*tokenizer, "<s>"), std::vector<TokenId>{1});
  EXPECT_EQ(tokenizer->encode("<s>", {.add_special = false, .parse_special = false}), spelled);
  EXPECT_EQ(tokenizer->encode("<s>", {.add_special = false, .plain = {{0, 3}}}), spelled);
  EXPECT_THAT(tokenizer->encode("<s><s>", {.add_special = false, .plain = {{4, 5}}}),
              ElementsAre(1, 3, 10, 11, 12));
}

TEST(JsonTokenizer, NormalizedSpecialTokensKnowWhereTheyComeFrom) {
  Json json = tiny();
  for (Json& token : json["added_tokens"]) token["normalized"] = true;
  json["normalizer"] = parse_json(
      R"({"type": "Sequence", "normalizers": [{"type": "NFKC"},
          {"type": "Replace", "pattern": {"String": "b"}, "content": "aaaa"}]})",
      "value");
  const auto tokenizer = make(json);
  // "b" grows fourfold before the token, which stays where the message put it.
  const std::string text = "bb<s>bb<s>";
  EXPECT_EQ(encode(*tokenizer, "bb<s>").back(), 1);
  const auto plain_first = tokenizer->encode(text, {.add_special = false, .plain = {{0, 5}}});
  const auto plain_last = tokenizer->encode(text, {.add_special = false, .plain = {{5, 10}}});
  EXPECT_EQ(std::count(plain_first.begin(), plain_first.end(), 1), 1);
  EXPECT_EQ(plain_first.back(), 1);
  EXPECT_EQ(std::count(plain_last.begin(), plain_last.end(), 1), 1);
  EXPECT_EQ(plain_last.back(), 12);
  // Forged by compatibility forms.
  const std::string forged = "\uff1cs\uff1e";
  EXPECT_THAT(encode(*tokenizer, forged), ElementsAre(1));
  EXPECT_THAT(tokenizer->encode(forged, {.add_special = false, .plain = {{0, forged.size()}}}),
              ElementsAre(10, 11, 12));
}

TEST(JsonTokenizer, TheConfigurationAddsTokensAndEnds) {
  TokenizerConfig config;
  const Json json = parse_json(R"({
    "tokenizer_class": "LlamaTokenizerFast", "add_eos_token": true, "add_bos_token": false,
    "bos_token": {"__type": "AddedToken", "content": "<s>", "lstrip": false, "normalized": false,
                  "rstrip": false, "single_word": false},
    "eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "<unk>",
    "added_tokens_decoder": {"14": {"content": "<tool>", "special": false, "normalized": false}},
    "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}],
    "clean_up_tokenization_spaces": false, "model_max_length": 4096})",
                               "tokenizer_config.json");
  read_tokenizer_config(JsonNode(json, "tokenizer_config.json"), config);
  EXPECT_EQ(config.chat_template, "D");
  const auto tokenizer = make(tiny(), config);
  EXPECT_EQ(tokenizer->facts().bos, 1);
  EXPECT_EQ(tokenizer->facts().eos, 2);
  EXPECT_EQ(tokenizer->facts().unk, 0);
  EXPECT_EQ(tokenizer->facts().pad, std::nullopt);
  EXPECT_FALSE(tokenizer->facts().add_bos());
  EXPECT_TRUE(tokenizer->facts().add_eos());
  EXPECT_THAT(tokenizer->encode("a<tool>", {}), ElementsAre(7, 14, 2));
  EXPECT_EQ(tokenizer->decode({7, 14}), "a<tool>");
}

TEST(JsonTokenizer, ClassesThatIgnoreTheFlagsKeepTheFilesOwnEnds) {
  TokenizerConfig config;
  config.tokenizer_class = "PreTrainedTokenizerFast";
  config.add_bos = false;
  EXPECT_THAT(make(tiny(), config)->encode("a", {}), ElementsAre(1, 7));
}

// ------------------------------------------------------------------------ what files may say

TEST(JsonTokenizerM14, UnknownComponentsAreRefusedByName) {
  EXPECT_EQ(
      refusal_at("/normalizer", R"({"type": "BertNormalizer"})"),
      "tokenizer.json: tokenizer: /normalizer/type, got 'BertNormalizer', allowed Sequence (up "
      "to 8 deep), NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, "
      "Precompiled, Nmt");
  EXPECT_EQ(refusal_at("/pre_tokenizer", R"({"type": "Sequence", "pretokenizers":
                [{"type": "Digits"}, {"type": "UnicodeScripts"}]})"),
            "tokenizer.json: tokenizer: /pre_tokenizer/pretokenizers/1/type, got 'UnicodeScripts', "
            "allowed Sequence (up to 8 deep), ByteLevel, Metaspace, Split, Digits, Whitespace, "
            "WhitespaceSplit, Punctuation, CharDelimiterSplit");
  EXPECT_EQ(refusal_at("/decoder", R"({"type": "CTC"})"),
            "tokenizer.json: tokenizer: /decoder/type, got 'CTC', allowed Sequence (up to 8 deep), "
            "ByteLevel, Metaspace, ByteFallback, Fuse, Strip, Replace");
  EXPECT_EQ(refusal_at("/post_processor", R"({"type": "X"})"),
            "tokenizer.json: tokenizer: /post_processor/type, got 'X', allowed Sequence (up to 8 "
            "deep), TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing");
  EXPECT_EQ(refusal_at("/model/type", R"("WordLevel")"),
            "tokenizer.json: tokenizer: /model/type, got 'WordLevel', allowed BPE, Unigram");
}

TEST(JsonTokenizerM14, UnknownMembersAreRefused) {
  EXPECT_EQ(refusal_at("/extra", "1"),
            "tokenizer.json: tokenizer: /, got a member 'extra', allowed version, truncation, "
            "padding, added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model");
  EXPECT_THAT(refusal_at("/model/cache", "1"), HasSubstr("/model, got a member 'cache', allowed"));
  EXPECT_THAT(refusal_at("/normalizer", R"({"type": "NFC", "x": 1})"),
              HasSubstr("/normalizer, got a member 'x', allowed type"));
}

TEST(JsonTokenizerM14, OptionsThatChangeIdsAreRefused) {
  EXPECT_EQ(refusal_at("/model/dropout", "0.1"),
            "tokenizer.json: tokenizer: /model/dropout, got 0.1, allowed null: token ids must not "
            "depend on chance");
  EXPECT_EQ(refusal_at("/model/continuing_subword_prefix", R"("##")"),
            "tokenizer.json: tokenizer: /model/continuing_subword_prefix, got '##', allowed none");
  EXPECT_EQ(refusal_at("/model/dropout", "0.0"), "");
  EXPECT_EQ(refusal_at("/model/end_of_word_suffix", R"("")"), "");
}

TEST(JsonTokenizerM14, IdsThatAreDoubleOrMissingAreRefused) {
  EXPECT_EQ(refusal_at("/model/vocab/b", "4"),
            "tokenizer.json: tokenizer: /model/vocab, got id 4 for 'b' and for 'a', allowed "
            "distinct ids");
  EXPECT_EQ(refusal_at("/model/vocab/b", "20"),
            "tokenizer.json: tokenizer: /model/vocab, got no token with id 5 but ones up to 20, "
            "allowed ids without gaps");
  for (const char* id : {"24", "-1", "1.5", "null", "\"4\"", "18446744073709551615"}) {
    EXPECT_THAT(refusal_at("/model/vocab/b", id),
                HasSubstr("/model/vocab, got id " + std::string(id) +
                          " for 'b', allowed 0 to 23, the rows of the embedding"));
  }
  EXPECT_EQ(refusal_at("/model/vocab/", "14"),
            "tokenizer.json: tokenizer: /model/vocab, got an empty token, allowed texts");
  EXPECT_THAT(refusal_at("/model/vocab", "{}"), HasSubstr("tokenizer.json: tokenizer: "));
}

TEST(JsonTokenizerM14, MergesOfUnknownTokensAreRefused) {
  const std::string start = "tokenizer.json: tokenizer: /model/merges/0, got ";
  EXPECT_EQ(refusal_at("/model/merges/0", R"("b a")"),
            start + "the unknown token 'ba', allowed tokens of /model/vocab");
  EXPECT_EQ(refusal_at("/model/merges/0", R"("a x")"),
            start + "the unknown token 'x', allowed tokens of /model/vocab");
  EXPECT_EQ(refusal_at("/model/merges/0", R"("a b c")"),
            start + "'a b c', allowed two tokens with one space between them");
  EXPECT_EQ(refusal_at("/model/merges/0", R"(["a"])"), start + "a list, allowed two tokens");
  EXPECT_EQ(refusal_at("/model/merges/0", R"("a ")"),
            start + "the unknown token '', allowed tokens of /model/vocab");
  EXPECT_EQ(refusal_at("/model/merges/0", "7"), start + "7, allowed a string");
}

TEST(JsonTokenizerM14, AddedTokensThatCannotBeAreRefused) {
  const std::string start = "tokenizer.json: tokenizer: /added_tokens/0";
  EXPECT_EQ(refusal_at("/added_tokens/0/content", R"("")"),
            start + "/content, got 0 bytes, allowed a token of 1 to 1024 bytes");
  EXPECT_EQ(refusal_at("/added_tokens/0/id", "3"),
            start + ", got id 3 for the token '<s>', allowed 1, its id in the vocabulary");
  EXPECT_EQ(refusal_at("/added_tokens/0/content", R"("<new>")"),
            start + ", got id 1 for the token '<new>', allowed another id: it is that of '<s>'");
  EXPECT_EQ(refusal([](Json& json) {
              json["added_tokens"][0]["content"] = "<new>";
              json["added_tokens"][0]["id"] = 24;
            }),
            start + ", got id 24, allowed 0 to 23, the rows of the embedding");
}

TEST(JsonTokenizerM14, BytesThatAreNotBase64AreRefused) {
  const std::string start = "tokenizer.json: tokenizer: /normalizer/precompiled_charsmap, got ";
  const auto with = [](const std::string& text) {
    return refusal_at("/normalizer",
                      R"({"type": "Precompiled", "precompiled_charsmap": ")" + text + "\"}");
  };
  EXPECT_EQ(with("A*=="), start + "a text that is not base64, allowed base64");
  EXPECT_EQ(with("AAA"), start + "a text that is not base64, allowed base64");
  EXPECT_EQ(with("AAAA"), start +
                              "a character map of 3 bytes whose size is missing, allowed a size, a "
                              "trie of that size and its replacements");
  EXPECT_THAT(with("//8AAA=="), HasSubstr("a character map of 4 bytes whose trie has 65535 bytes"));
  EXPECT_THAT(with("AAAAAP8="), HasSubstr("whose replacements are not UTF-8"));
  EXPECT_EQ(with("AAAAAA=="), "");
}

TEST(JsonTokenizerM14, PatternsThatAreNotReadAreRefused) {
  const auto with = [](const std::string& regex) {
    return refusal([&](Json& json) {
      json["pre_tokenizer"] = {{"type", "Split"},
                               {"pattern", {{"Regex", regex}}},
                               {"behavior", "Isolated"},
                               {"invert", false}};
    });
  };
  const std::string start = "tokenizer.json: tokenizer: /pre_tokenizer/pattern/Regex, got ";
  const std::string end = ", allowed the regular expressions of docs/tokenizers.md";
  EXPECT_EQ(with("(a"), start +
                            "a pattern that does not compile at position 4: missing closing "
                            "parenthesis");
  EXPECT_EQ(with("(a)\\1"), start + "an escape \\1 at position 3 of a pattern" + end);
  EXPECT_EQ(with("(?<n>a)"), start + "a group '(?<n...' at position 0 of a pattern" + end);
  EXPECT_EQ(with("[a[b]]"), start + "a class within a class at position 2 of a pattern" + end);
  EXPECT_EQ(with("[a&&b]"), start + "an intersection of classes at position 2 of a pattern" + end);
  EXPECT_EQ(with("(?m:a)"), start + "a group '(?m:...' at position 0 of a pattern" + end);
  EXPECT_EQ(with("\\K"), start + "an escape \\K at position 0 of a pattern" + end);
  EXPECT_THAT(with("\\p{Nonsense}"), HasSubstr("does not compile"));
}

TEST(JsonTokenizerM14, AnExponentialPatternEndsInAnErrorSoon) {
  Json json = tiny();
  json["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "(a|b|ab)*c|(_|_a|a)*d"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  const auto tokenizer = make(json);
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "ab";
  const auto start = std::chrono::steady_clock::now();
  try {
    tokenizer->encode(text, {});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_THAT(error.what(),
                HasSubstr("/pre_tokenizer/pattern/Regex, got a text on which it fails"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(JsonTokenizerM14, NormalizersThatGrowWithoutEndAreStopped) {
  Json json = tiny();
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array()}};
  for (int i = 0; i < 30; ++i) {
    json["normalizer"]["normalizers"].push_back(
        {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  }
  const auto tokenizer = make(json);
  EXPECT_THROW(tokenizer->encode("aaaa", {}), Error);
  EXPECT_NE(refusal([](Json& j) {
              j["normalizer"]["normalizers"][0]["prepend"] = std::string(257, 'a');
            }),
            "");
}

TEST(JsonTokenizerM14, DeepSequencesAreRefused) {
  Json json = parse_json(R"({"type": "NFC"})", "value");
  for (int i = 0; i < 9; ++i) {
    json = {{"type", "Sequence"}, {"normalizers", Json::array({json})}};
  }
  EXPECT_THAT(refusal([&](Json& j) { j["normalizer"] = json; }),
              HasSubstr("type, got 'Sequence', allowed Sequence (up to 8 deep)"));
}

// -------------------------------------------------------------------------------------- folders

TEST(FolderTokenizer, ReadsTheFilesOfAFolder) {
  const test::TempFolder folder;
  folder.write("tokenizer.json", tiny().dump());
  folder.write("tokenizer_config.json",
               R"({"bos_token": "<s>", "eos_token": "</s>", "chat_template": "old"})");
  folder.write("chat_template.jinja", "new");
  const FolderTokenizer text = folder_tokenizer(Folder(folder.path()), kRows);
  EXPECT_EQ(text.chat_template, "new");
  EXPECT_EQ(text.chat_template_source, folder / "chat_template.jinja" + ": chat_template");
  EXPECT_EQ(text.tokenizer->facts().eos, 2);
}

TEST(FolderTokenizer, AFileThatIsTooLargeOrNoJsonIsNamed) {
  const test::TempFolder folder;
  const std::string path = folder / "tokenizer.json";
  const auto error_of = [&] {
    try {
      folder_tokenizer(Folder(folder.path()), kRows);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(error_of(),
              HasSubstr(": tokenizer: files, got none, allowed tokenizer.json or tokenizer.model"));
  folder.write("tokenizer.json", "{");
  EXPECT_EQ(error_of(), path + ": tokenizer:1:2: not valid JSON near the end");
  folder.write("tokenizer.json", std::string(40, '[') + std::string(40, ']'));
  EXPECT_EQ(error_of(), path + ": tokenizer:1:33: JSON nested deeper than 32");
  folder.write("tokenizer.json", tiny().dump());
  std::filesystem::resize_file(path, 200U << 20U);
  EXPECT_EQ(error_of(),
            path + ": tokenizer: file size, got 209715200 bytes, allowed up to 134217728");
  folder.write("tokenizer.json",
               "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
  EXPECT_THAT(error_of(), HasSubstr("Git LFS"));
}

// ------------------------------------------------------------------------------- linear time

/// Milliseconds of processor time that a megabyte of `unit` takes.
double megabyte_ms(const Tokenizer& tokenizer, const std::string& unit) {
  std::string text;
  while (text.size() < (1U << 20U)) text += unit;
  const std::clock_t start = std::clock();
  tokenizer.encode(text, {});
  return 1000.0 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

// Less than 300 ms on an idle machine; sanitizers make this many times slower, and quadratic work
// would take minutes.
constexpr double kMegabyteMs = 15000.0;

TEST(JsonTokenizerTime, AMegabyteOfOneLetterTakesLessThanASecond) {
  Json json = tiny();
  json["model"]["vocab"]["aa"] = 14;
  json["model"]["vocab"]["aaaa"] = 15;
  json["model"]["merges"].push_back("a a");
  json["model"]["merges"].push_back("aa aa");
  const auto bpe = make(json);
  json["model"] = {
      {"type", "Unigram"}, {"unk_id", 0}, {"byte_fallback", false}, {"vocab", Json::array()}};
  json["added_tokens"] = Json::array();
  json["post_processor"] = nullptr;
  json["model"]["vocab"].push_back({"<unk>", 0.0});
  for (std::size_t n = 1; n < 20; ++n) {
    json["model"]["vocab"].push_back({std::string(n, 'a'), -1.0 - static_cast<double>(n)});
  }
  const auto unigram = make(json);
  for (const char* unit : {"a", "b", " ", "\u00e9", "?", "<s", "ab "}) {
    EXPECT_LT(megabyte_ms(*bpe, unit), kMegabyteMs) << unit;
    EXPECT_LT(megabyte_ms(*unigram, unit), kMegabyteMs) << unit;
  }
}

}  // namespace
}  // namespace heddle
