// Ids equal to the `tokenizers` package's on the strings of golden/tokenizer (see its README).

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/tokenizer.h"
#include "tests/support/default_model.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;

fs::path golden_folder() {
  return fs::path(HEDDLE_SOURCE_DIR) / "tests/models/golden/tokenizer";
}

struct GoldenString {
  bool parse_special = true;
  std::vector<std::string> hashes;  // smollm with the default model's vocabulary, then the small
                                    // vocabulary with smollm, llama-bpe, qwen2
  std::string text;
};

std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out.push_back(static_cast<char>(std::stoi(std::string(text.substr(i + 2, 2)), nullptr, 16)));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<GoldenString> read_golden() {
  const char* other = std::getenv("HEDDLE_TOKENIZER_GOLDEN");
  std::ifstream file(other != nullptr ? fs::path(other) : golden_folder() / "strings.tsv",
                     std::ios::binary);
  std::vector<GoldenString> result;
  for (std::string line; std::getline(file, line);) {
    std::vector<std::string> fields;
    std::size_t begin = 0;
    for (int i = 0; i < 5; ++i) {
      const std::size_t tab = line.find('\t', begin);
      fields.push_back(line.substr(begin, tab - begin));
      begin = tab + 1;
    }
    GoldenString golden{fields[0] == "S",
                        {fields.begin() + 1, fields.end()},
                        unescape(std::string_view(line).substr(begin))};
    result.push_back(std::move(golden));
  }
  return result;
}

std::string id_hash(const std::vector<TokenId>& ids) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const TokenId id : ids) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xFFU)) * 0x100000001B3U;
    }
  }
  char text[11] = {};
  std::snprintf(text, sizeof(text), "%010llx",
                static_cast<unsigned long long>(hash & 0xFFFFFFFFFFU));
  return text;
}

/// The vocabulary of golden/tokenizer/small_vocab.txt: the 256 bytes, then one token per line.
TokenizerSpec small_spec(const std::string& pre) {
  TokenizerSpec spec;
  spec.source = "small_vocab.txt";
  spec.model = "gpt2";
  spec.pre = pre;
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    spec.tokens.push_back(encode_byte_level({&text, 1}));
    spec.types.push_back(1);
  }
  std::ifstream file(golden_folder() / "small_vocab.txt", std::ios::binary);
  for (std::string line; std::getline(file, line);) {
    const std::size_t space = line.find(' ');
    const std::string kind = line.substr(0, space);
    std::string text = line.substr(space + 1);
    if (kind == "merge") {
      spec.merges.push_back(text);
      text.erase(text.find(' '), 1);
    }
    const std::size_t newline = text.find("\\n");
    if (kind == "user" && newline != std::string::npos) text.replace(newline, 2, "\n");
    spec.tokens.push_back(text);
    spec.types.push_back(kind == "control" ? 3 : kind == "user" ? 4 : 1);
  }
  return spec;
}

/// Just enough of a GGUF reader for the vocabulary of a file that is known to be good.
class GgufVocabulary {
 public:
  explicit GgufVocabulary(const fs::path& path) : file_(path, std::ios::binary) {
    number<std::uint64_t>();  // magic and version
    number<std::uint64_t>();  // tensors
    const auto entries = number<std::uint64_t>();
    spec_.source = path.filename().string();
    for (std::uint64_t i = 0; i < entries && file_; ++i) {
      const std::string key = text();
      value(key, number<std::uint32_t>());
    }
  }
  TokenizerSpec take() { return std::move(spec_); }

 private:
  template <typename T>
  T number() {
    T result{};
    file_.read(reinterpret_cast<char*>(&result), sizeof(result));
    return result;
  }
  std::string text() {
    std::string result(number<std::uint64_t>(), '\0');
    file_.read(result.data(), static_cast<std::streamsize>(result.size()));
    return result;
  }
  void value(const std::string& key, std::uint32_t type) {
    constexpr int kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    constexpr std::uint32_t kInt32 = 5, kString = 8, kArray = 9;
    if (type == kArray) {
      const auto element = number<std::uint32_t>();
      const auto count = number<std::uint64_t>();
      for (std::uint64_t i = 0; i < count && file_; ++i) value(key, element);
    } else if (type == kString) {
      std::string value = text();
      if (key == "tokenizer.ggml.tokens")
        spec_.tokens.push_back(std::move(value));
      else if (key == "tokenizer.ggml.merges")
        spec_.merges.push_back(std::move(value));
      else if (key == "tokenizer.ggml.model")
        spec_.model = std::move(value);
      else if (key == "tokenizer.ggml.pre")
        spec_.pre = std::move(value);
    } else if (type == kInt32 && key == "tokenizer.ggml.token_type") {
      spec_.types.push_back(number<std::int32_t>());
    } else {
      file_.ignore(kBytes[type]);
    }
  }

  std::ifstream file_;
  TokenizerSpec spec_;
};

void expect_golden_ids(const Tokenizer& tokenizer, std::size_t column) {
  const std::vector<GoldenString> strings = read_golden();
  ASSERT_GE(strings.size(), 5000U);
  std::size_t differences = 0;
  for (const GoldenString& golden : strings) {
    if (golden.hashes[column] == "-") continue;
    EncodeOptions options;
    options.add_special = false;
    options.parse_special = golden.parse_special;
    const std::vector<TokenId> ids = tokenizer.encode(golden.text, options);
    if (id_hash(ids) == golden.hashes[column]) continue;
    if (++differences <= 5) {
      ADD_FAILURE() << (golden.parse_special ? "S '" : "P '") << golden.text
                    << "': " << testing::PrintToString(ids);
    }
  }
  EXPECT_EQ(differences, 0U) << "of " << strings.size();
}

TEST(TokenizerParity, SmolLmWithTheDefaultModelsVocabulary) {
  const std::string path = test::default_model();
  if (path.empty()) GTEST_SKIP() << "the default model is absent (heddle pull smollm2-135m)";
  expect_golden_ids(*make_tokenizer(GgufVocabulary(path).take()), 0);
}

TEST(TokenizerParity, SmolLm) {
  expect_golden_ids(*make_tokenizer(small_spec("smollm")), 1);
}

TEST(TokenizerParity, Llama3) {
  expect_golden_ids(*make_tokenizer(small_spec("llama-bpe")), 2);
}

TEST(TokenizerParity, Qwen2) {
  expect_golden_ids(*make_tokenizer(small_spec("qwen2")), 3);
}

TEST(TokenizerParity, DecodingGivesTheTextBack) {
  const auto tokenizer = make_tokenizer(small_spec("llama-bpe"));
  for (const GoldenString& golden : read_golden()) {
    EncodeOptions options;
    options.parse_special = golden.parse_special;
    const std::vector<TokenId> ids = tokenizer->encode(golden.text, options);
    ASSERT_EQ(tokenizer->decode(ids, /*special=*/true), golden.text);
    StreamDecoder stream;
    std::string text;
    for (const TokenId id : ids) text += stream.push(tokenizer->token_bytes(id, true));
    ASSERT_EQ(text + stream.finish(), golden.text);
  }
}

TEST(TokenizerParity, PlainPartsEqualPlainTextOnEveryString) {
  const auto tokenizer = make_tokenizer(small_spec("qwen2"));
  for (const GoldenString& golden : read_golden()) {
    EncodeOptions whole;
    whole.parse_special = false;
    EncodeOptions parts;
    parts.plain = {{0, golden.text.size()}};
    ASSERT_EQ(tokenizer->encode(golden.text, parts), tokenizer->encode(golden.text, whole));
  }
}

TEST(DefaultModel, HasTheIdsOfTheAcceptanceStrings) {
  const std::string path = test::default_model();
  if (path.empty()) GTEST_SKIP() << "the default model is absent (heddle pull smollm2-135m)";
  const auto tokenizer = make_tokenizer(GgufVocabulary(path).take());
  EXPECT_EQ(tokenizer->describe(), "byte-level BPE, 49152 tokens, pre smollm");
  const std::pair<std::string, std::vector<TokenId>> cases[] = {
      {"Hello, world! It's 12:30, isn't it?",
       {19556, 28, 905, 17, 657, 506, 216, 33, 34, 42, 35, 32, 28, 3247, 982, 357, 47}},
      {"  leading and   inner   spaces\n\n\ttabs\r\nend ",
       {216, 2899, 284, 256, 6210, 256, 5600, 1116, 197, 100, 7366, 201, 198, 486, 216}},
      {"Gr\u00f6\u00dfe, na\u00efve, \ufb01, \u2167, \u00bd, \u0663\u0664\u0665",
       {27302, 7466, 34878, 85,    28, 15486, 46494, 28,  40367, 28,  216, 173, 223,
        117,   28,   216,   16738, 28, 216,   164,   113, 164,   114, 164, 115}},
      {"\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\ud55c\uad6d\uc5b4 \ubb38\uc7a5. "
       "\u0939\u093f\u0928\u094d\u0926\u0940 \u0935\u093e\u0915\u094d\u092f\u0964",
       {23274, 115,   40993, 179,   120,   248,   26453, 11100, 224,  10391, 251,   10391,
        134,   11100, 226,   19076, 33085, 246,   181,   130,   251,  183,   240,   129,
        25947, 122,   133,   183,   248,   115,   30,    12335, 134,  27011, 30658, 16525,
        44757, 37189, 12335, 130,   18075, 38565, 16525, 32932, 9310, 114}},
      {"\U0001F469\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466\U0001F3F3\ufe0f\u200d\U0001F308 "
       "e\u0301 \u200b\u00a0x",
       {10813, 235, 119, 321,   231, 10813, 235,   119, 321,   231,   10813, 235,
        117,   321, 231, 10813, 235, 116,   10813, 233, 128,   31752, 321,   231,
        10813, 230, 226, 297,   151, 219,   459,   229, 15442, 104}},
      {"<|im_start|>user\nhi<|im_end|> not <|im_strt|>",
       {1, 4093, 198, 6004, 2, 441, 2067, 108, 306, 79, 1321, 100, 108, 46}},
      {"def f(x):\n    return x**2  # squared\n",
       {1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 216, 907, 27402, 198}},
      {std::string(300, 'a'), std::vector<TokenId>(75, 46880)},
      {"1234567890 3.14159e-10 0x1F", {33, 34, 35, 36, 37, 38, 39, 40, 41,  32, 216, 35, 30, 33,
                                       36, 33, 37, 41, 85, 29, 33, 32, 216, 32, 104, 33, 54}},
  };
  EncodeOptions options;
  options.add_special = false;
  for (const auto& [text, ids] : cases) EXPECT_EQ(tokenizer->encode(text, options), ids) << text;
}

}  // namespace
}  // namespace heddle
