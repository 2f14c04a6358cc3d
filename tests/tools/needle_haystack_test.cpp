// The text around the needles: where its sentences end, what files are read, and the essays.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tests/support/temp_folder.h"
#include "tools/needle/haystack.h"
#include "tools/needle/words.h"

namespace heddle::needle {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using Texts = std::vector<std::string>;

std::string refusal(const std::string& path) {
  try {
    Haystack::read(path);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "";
}

TEST(NeedleHaystack, SentencesEndWhereReadersSeeAnEnd) {
  const std::vector<std::pair<std::string, Texts>> cases = {
      {"", {}},
      {" \t\r\n\n ", {}},
      {"One", {"One"}},
      {"One. Two? Three! Four", {"One.", "Two?", "Three!", "Four"}},
      {"One.Two. Three.", {"One.Two.", "Three."}},
      {"  One\n two\t three.\r\nFour.  ", {"One two three.", "Four."}},
      // Titles, initials, and what is none.
      {"Mr. A. B. Hill and Dr.\nWhite vs. St. John. End.",
       {"Mr. A. B. Hill and Dr. White vs. St. John.", "End."}},
      {"Fruit (e.g. apples), i.e. food. See \"Prof. X\".",
       {"Fruit (e.g. apples), i.e. food.", "See \"Prof. X\"."}},
      {"MRS. Hill. No. 5 is alive.", {"MRS. Hill.", "No. 5 is alive."}},
      {"It was I. He left.", {"It was I.", "He left."}},
      {"Was it Mr.? Yes! I met Dr.", {"Was it Mr.?", "Yes!", "I met Dr."}},
      {"He met Mr.\n\nThe next part.", {"He met Mr.", "The next part."}},
      // Quotes and brackets behind an end belong to it.
      {"He said \"Stop.\" Then (so it was.) We [went.'\"] On.",
       {"He said \"Stop.\"", "Then (so it was.)", "We [went.'\"]", "On."}},
      {"\u201cStop.\u201d \u2018Go.\u2019 \u00abWait.\u00bb So",
       {"\u201cStop.\u201d", "\u2018Go.\u2019", "\u00abWait.\u00bb", "So"}},
      {"\"What?!\" she asked.", {"\"What?!\"", "she asked."}},
      {"Call it (Mr.) White.", {"Call it (Mr.) White."}},
      {"Wait... what?! Yes!!! No.", {"Wait...", "what?!", "Yes!!!", "No."}},
      {"And then\u2026 nothing. End.", {"And then\u2026 nothing.", "End."}},
      // Full-width ends need no space behind them.
      {"\u4f60\u597d\u3002\u518d\u89c1\uff01\u771f\u7684\uff1f",
       {"\u4f60\u597d\u3002", "\u518d\u89c1\uff01", "\u771f\u7684\uff1f"}},
      {"\u300c\u597d\u3002\u300d\u4ed6\u8bf4\u3002",
       {"\u300c\u597d\u3002\u300d", "\u4ed6\u8bf4\u3002"}},
      {"\u300e\u597d\u3002\u300f\uff08\u597d\u3002\uff09\u4ed6\u3002",
       {"\u300e\u597d\u3002\u300f", "\uff08\u597d\u3002\uff09", "\u4ed6\u3002"}},
      {"\u771f\u7684\uff1f\uff01\u597d\u3002\u3002",
       {"\u771f\u7684\uff1f\uff01", "\u597d\u3002\u3002"}},
      // Blank lines end what has no end; one line break does not.
      {"Chapter One\n\nIt was so.\nIt was", {"Chapter One", "It was so.", "It was"}},
      {"One\r\n\r\nTwo\n \t \nThree\r\nFour", {"One", "Two", "Three Four"}},
      // Points within a word are none.
      {"Pi is 3.14. See http://a.b/c?d=e!f and x.y. Now 1.000.000,5!",
       {"Pi is 3.14.", "See http://a.b/c?d=e!f and x.y.", "Now 1.000.000,5!"}},
      {". ? !", {".", "?", "!"}},
      // What is no UTF-8 becomes U+FFFD.
      {"a\xff"
       "b. \xe4\xbd. \xc0\x80!",
       {"a\ufffd"
        "b.",
        "\ufffd.", "\ufffd\ufffd!"}}};
  for (const auto& [text, wanted] : cases) {
    EXPECT_THAT(split_sentences(text), ElementsAreArray(wanted)) << text;
  }
}

TEST(NeedleHaystack, WhatHasNoEndIsCutAtASpace) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "seven7 ";
  text += "tail";
  std::string joined;
  for (const std::string& sentence : split_sentences(text)) {
    EXPECT_LE(sentence.size(), 400U);
    EXPECT_NE(sentence.back(), ' ');
    joined += sentence + " ";
  }
  EXPECT_EQ(joined, text + " ");
}

TEST(NeedleHaystack, LinesOfALogAreSentences) {
  std::string text;
  std::vector<std::string> lines;
  for (int i = 0; i < 100; ++i) {
    lines.push_back("line " + std::to_string(i) + " of a log: " + std::string(40, 'a'));
    text += lines.back() + "\n";
  }
  EXPECT_EQ(split_sentences(text), lines);
  // Lines of prose are none.
  EXPECT_THAT(split_sentences("It was a\nlong day.\nSo it\nwas."),
              ElementsAre("It was a long day.", "So it was."));
}

TEST(NeedleHaystack, AWordWithoutEndIsCutBetweenCharacters) {
  for (const std::string part : {"x", "\u5c71"}) {
    std::string text;
    while (text.size() < 18'000) text += part;
    std::string joined;
    for (const std::string& sentence : split_sentences(text)) {
      EXPECT_LE(sentence.size(), 4000U);
      EXPECT_EQ(sentence.size() % part.size(), 0U);
      joined += sentence;
    }
    EXPECT_EQ(joined, text);
  }
}

/// A minute and more where every period looks back to the begin of its word.
TEST(NeedleHaystack, LongWordsTakeLinearTime) {
  for (const std::string part : {"a.", "e.g.", ".", ".)", "x.\""}) {
    std::string text;
    while (text.size() < 1'000'000) text += part;
    EXPECT_LT(split_sentences(text).size(), 2'000'000 / 200U) << part;
  }
}

TEST(NeedleHaystack, HashesTheSentencesAndNotTheWayTheyWereCut) {
  const Haystack a(split_sentences("One. Two."));
  EXPECT_EQ(a.hash(), Haystack(split_sentences("One.\n\n Two.\r\n")).hash());
  EXPECT_NE(a.hash(), Haystack(Texts{"One. Two."}).hash());
  EXPECT_NE(a.hash(), Haystack(split_sentences("Two. One.")).hash());
  EXPECT_EQ(a.hash(),  // of "One.\nTwo.\n"
            "4ff383aed1c1f960d918badc8521e2eeee95deaa423df74c719b5edaa3c52270");
}

TEST(NeedleHaystack, ContainsWithoutRegardToCase) {
  const Haystack haystack(split_sentences("The Quiet-Harbor lies\nhere. \u00c9t\u00e9 AT 48213."));
  for (const char* text : {"quiet-harbor", "QUIET", "t-h", "lies here. \u00e9t\u00e9",
                           "\u00c9T\u00c9", "\u00e9t\u00e9", "48213", "821", "."}) {
    EXPECT_TRUE(haystack.contains(text)) << text;
  }
  for (const char* text : {"", "quiet harbor", "48214", "lies  here", "ete"}) {
    EXPECT_FALSE(haystack.contains(text)) << text;
  }
}

TEST(NeedleHaystack, ReadsTheTextsOfAFolderInTheOrderOfTheirNames) {
  const test::TempFolder folder;
  folder.write("b.txt", "Of b");
  folder.write("a10.txt", "Of a10.");
  folder.write("a9.txt", "Of a9.");
  folder.write("B.txt", "");
  folder.write("c.md", "Of no text.");
  folder.write("d.txt.bak", "Of a copy.");
  folder.write(".txt", "Of no name.");
  folder.write("deeper/e.txt", "Of a folder below.");
  EXPECT_THAT(Haystack::read(folder.path()).sentences(), ElementsAre("Of a10.", "Of a9.", "Of b"));
  EXPECT_THAT(Haystack::read(folder / "b.txt").sentences(), ElementsAre("Of b"));
  EXPECT_THAT(Haystack::read(folder / "c.md").sentences(), ElementsAre("Of no text."));
}

TEST(NeedleHaystack, TextsThatCannotBeReadAreNamed) {
  const test::TempFolder folder;
  EXPECT_EQ(refusal(folder / "none"),
            "--haystack: " + folder / "none" + ": cannot open: No such file or directory");
  EXPECT_EQ(refusal(folder.path()), "--haystack: " + folder.path() + ": no file *.txt in it");
  folder.write("a.txt", " \n\n ");
  EXPECT_EQ(refusal(folder.path()), "--haystack: " + folder.path() + ": no sentence in it");
  EXPECT_EQ(refusal(folder / "a.txt"), "--haystack: " + folder / "a.txt" + ": no sentence in it");
  fs::create_directory(folder / "b.txt");
  EXPECT_EQ(refusal(folder.path()),
            "--haystack: " + folder / "b.txt" + ": cannot read: Is a directory");
  fs::remove(folder / "b.txt");
  fs::create_symlink("nowhere", folder / "c.txt");
  EXPECT_EQ(refusal(folder.path()),
            "--haystack: " + folder / "c.txt" + ": cannot open: No such file or directory");
}

TEST(NeedleHaystack, TextsThatTakeTooMuchRoomAreRefused) {
  const test::TempFolder folder;
  folder.write("a.txt", "One.");
  const std::string large = folder.write("b.txt", "");
  fs::resize_file(large, (std::uint64_t{1} << 30) + 1);  // takes no room on the disk
  EXPECT_EQ(refusal(large), "--haystack: " + large + ": more than 1073741824 bytes");
  const test::TempFolder many;
  for (int i = 0; i < 10'001; ++i) std::ofstream(many / (std::to_string(i) + ".txt"));
  EXPECT_EQ(refusal(many.path()), "--haystack: " + many.path() + ": more than 10000 files");
}

// ---- The essays, by tools/needle/essays/README.md

std::map<std::string, std::string> essay_files() {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(HEDDLE_SOURCE_DIR "/tools/needle/essays")) {
    if (entry.path().extension() != ".txt") continue;
    std::ostringstream text;
    text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
    files[entry.path().filename().string()] = text.str();
  }
  return files;
}

/// Runs of letters, in lower case, with the hyphens within.
Texts words_of(const std::string& text) {
  Texts words(1);
  for (const char c : text) {
    if (std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '-') {
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  return words;
}

TEST(NeedleEssays, AreFifteenFilesOfPlainParagraphs) {
  const auto files = essay_files();
  EXPECT_EQ(files.size(), 15U);
  std::size_t n_bytes = 0;
  for (const auto& [name, text] : files) {
    n_bytes += text.size();
    ASSERT_FALSE(text.empty()) << name;
    EXPECT_EQ(text.back(), '\n') << name;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      if (line.empty()) continue;
      EXPECT_NE(line.front(), ' ') << name;
      EXPECT_TRUE(line.back() == '.' || line.back() == '?' || line.back() == '!') << name << line;
      EXPECT_EQ(line.find("  "), std::string::npos) << name << line;
      EXPECT_TRUE(std::all_of(line.begin(), line.end(),
                              [](char c) {
                                return c >= ' ' && c <= '~' &&
                                       std::isdigit(static_cast<unsigned char>(c)) == 0;
                              }))
          << name << ": " << line;
    }
  }
  EXPECT_GT(n_bytes, 120'000U);
  EXPECT_LT(n_bytes, 140'000U);
}

TEST(NeedleEssays, HoldNoWordThatTasksAskFor) {
  const std::set<std::string> refused = {
      "magic",  "key",      "keys",      "pass",      "passkey",     "code",
      "codes",  "secret",   "san",       "francisco", "dolores",     "special",
      "uuid",   "uuids",    "needle",    "needles",   "numbers",     "value",
      "values", "variable", "variables", "var",       "remember-it", "haystack"};
  std::set<std::string> pairs;
  for (const std::string_view first : adjectives()) {
    for (const std::string_view second : nouns()) {
      pairs.insert(std::string(first) + "-" + std::string(second));
    }
  }
  for (const auto& [name, text] : essay_files()) {
    for (const std::string& word : words_of(text)) {
      EXPECT_FALSE(refused.contains(word)) << name << ": " << word;
      EXPECT_FALSE(pairs.contains(word)) << name << ": " << word;
    }
  }
}

TEST(NeedleEssays, SayEverySentenceOnce) {
  std::map<std::string, std::string> seen;
  for (const auto& [name, text] : essay_files()) {
    for (const std::string& sentence : split_sentences(text)) {
      const auto [it, is_new] = seen.try_emplace(sentence, name);
      EXPECT_TRUE(is_new) << name << " and " << it->second << ": " << sentence;
      EXPECT_LT(sentence.size(), 400U) << name << ": " << sentence;
    }
  }
  EXPECT_GT(seen.size(), 1000U);
}

TEST(NeedleEssays, AreInTheProgramInTheOrderOfTheirNames) {
  std::string all;
  for (const auto& [name, text] : essay_files()) all += text + "\n\n";
  EXPECT_EQ(essays(), all);
  EXPECT_EQ(Haystack::of_essays().hash(), Haystack(split_sentences(all)).hash());
  EXPECT_EQ(Haystack::of_essays().hash(),
            Haystack::read(HEDDLE_SOURCE_DIR "/tools/needle/essays").hash());
}

TEST(NeedleHaystack, NoiseIsLandmarks) {
  EXPECT_THAT(noise_sentences(),
              ElementsAre("The grass is green.", "The sky is blue.", "The sun is yellow.",
                          "Here we go.", "There and back again."));
}

}  // namespace
}  // namespace heddle::needle
