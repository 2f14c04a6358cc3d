// The flags of `heddle needle`: what they become, and what is refused.

#include "tools/heddle/needle_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace heddle::cli {
namespace {

using needle::Scorer;
using needle::Wording;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

Arguments parse(const std::vector<std::string>& args) {
  return parse_arguments(find_command("needle"), args,
                         {.environment = [](const char*) -> const char* { return nullptr; },
                          .read_file = [](const std::string&) { return std::string(); }});
}

NeedleOptions options(const std::vector<std::string>& args, const std::string& model = "m") {
  return needle_options(parse(args), model);
}

template <typename Act>
std::string refusal_of(const Act& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "";
}
std::string refusal(const std::vector<std::string>& args) {
  return refusal_of([&] { options(args); });
}
std::string modes_refusal(const std::string& text) {
  return refusal_of([&] { attention_modes(text); });
}

TEST(NeedleOptions, HaveTheDefaultsOfTheHelpText) {
  const NeedleOptions some = options({"m"}, "org/some model.gguf");
  EXPECT_EQ(some.suite, "niah");
  EXPECT_THAT(some.tasks, SizeIs(5));
  EXPECT_THAT(some.lengths, IsEmpty());
  EXPECT_THAT(some.depths, SizeIs(11));
  EXPECT_EQ(some.samples, 1);
  EXPECT_EQ(some.seed, 0U);
  EXPECT_EQ(some.haystack, "");
  EXPECT_FALSE(some.chat.has_value());
  EXPECT_FALSE(some.prefix.has_value());
  EXPECT_EQ(some.prompt.draft.wording, Wording::kRuler);
  EXPECT_EQ(some.prompt.answer_tokens, 0);
  EXPECT_THAT(some.prompt.stop, IsEmpty());
  EXPECT_EQ(some.scorer, Scorer::kTask);
  EXPECT_EQ(some.scorer_name, "task");
  EXPECT_TRUE(some.reuse);
  EXPECT_EQ(some.concurrency, 1U);
  EXPECT_THAT(some.modes, IsEmpty());
  EXPECT_FALSE(some.self_check || some.resume);
  EXPECT_EQ(some.out, "needle-org-some-model.gguf");
}

TEST(NeedleOptions, OfNeedleHybridAreThoseOfItsCard) {
  const NeedleOptions hybrid = options({"m"}, "needle-hybrid");
  EXPECT_EQ(hybrid.prompt.draft.wording, Wording::kPlain);
  EXPECT_THAT(hybrid.prompt.stop, ElementsAre("."));
  const NeedleOptions ruler = options({"m", "--wording", "ruler"}, "needle-hybrid");
  EXPECT_EQ(ruler.prompt.draft.wording, Wording::kRuler);
  EXPECT_THAT(ruler.prompt.stop, IsEmpty());
  EXPECT_THAT(options({"m", "--stop", "!", "--stop", "?"}, "needle-hybrid").prompt.stop,
              ElementsAre("!", "?"));
  EXPECT_EQ(options({"m"}, "needle-hybrid2").prompt.draft.wording, Wording::kRuler);
}

TEST(NeedleOptions, TakeWhatFlagsSay) {
  const NeedleOptions all = options(
      {"m",       "--suite",         "ruler",       "--task",          "vt",    "--task",
       "cwe",     "--lengths",       "2k,1k",       "--depths",        "5",     "--spacing",
       "sigmoid", "--samples",       "3",           "--seed",          "7",     "--haystack",
       "dir",     "--template",      "raw",         "--wording",       "plain", "--stop",
       "x",       "--scorer",        "rouge1",      "--cache",         "off",   "--concurrency",
       "4",       "--answer-tokens", "9",           "--answer-prefix", "none",  "--out",
       "here",    "--resume",        "--self-check"});
  EXPECT_EQ(all.suite, "ruler");
  ASSERT_THAT(all.tasks, SizeIs(2));
  EXPECT_EQ(std::set<std::string_view>({all.tasks[0].name, all.tasks[1].name}),
            std::set<std::string_view>({"cwe", "vt"}));
  EXPECT_THAT(all.lengths, ElementsAre(1024, 2048));
  EXPECT_THAT(all.depths, ElementsAre(0, 7.586, 50, 92.414, 100));
  EXPECT_EQ(all.samples, 3);
  EXPECT_EQ(all.seed, 7U);
  EXPECT_EQ(all.haystack, "dir");
  EXPECT_EQ(all.chat, false);
  EXPECT_EQ(all.prompt.draft.wording, Wording::kPlain);
  EXPECT_THAT(all.prompt.stop, ElementsAre("x"));
  EXPECT_EQ(all.scorer, Scorer::kRouge1);
  EXPECT_FALSE(all.reuse);
  EXPECT_EQ(all.concurrency, 4U);
  EXPECT_EQ(all.prompt.answer_tokens, 9);
  EXPECT_EQ(all.prefix, "none");
  EXPECT_EQ(all.out, "here");
  EXPECT_TRUE(all.resume && all.self_check);
  EXPECT_EQ(options({"m", "--scorer", "contain"}).scorer, Scorer::kContain);
  EXPECT_EQ(options({"m", "--scorer", "exact"}).scorer, Scorer::kExact);
  EXPECT_EQ(options({"m", "--template", "chat"}).chat, true);
}

TEST(NeedleOptions, ANeedleOfOnesOwnTakesThePlaceOfTasks) {
  const NeedleOptions own =
      options({"m", "--needle", "The cat is in.", "--question", "Where?", "--answer", "in"});
  ASSERT_THAT(own.tasks, SizeIs(1));
  EXPECT_EQ(own.tasks[0].name, "custom");
  EXPECT_EQ(own.prompt.draft.own.needle, "The cat is in.");
  EXPECT_EQ(own.prompt.draft.own.question, "Where?");
  EXPECT_EQ(own.prompt.draft.own.answer, "in");
  EXPECT_EQ(refusal({"m", "--needle", "a"}),
            "--question is missing: --needle, --question and --answer go together");
  EXPECT_EQ(refusal({"m", "--question", "a", "--answer", "b"}),
            "--needle is missing: --needle, --question and --answer go together");
  EXPECT_EQ(refusal({"m", "--needle", "a", "--question", "b", "--answer", ""}),
            "--answer is missing: --needle, --question and --answer go together");
  EXPECT_EQ(refusal({"m", "--needle", "a", "--question", "b", "--answer", "c", "--suite", "niah"}),
            "--needle and --suite exclude each other");
  EXPECT_EQ(refusal({"m", "--needle", "a", "--question", "b", "--answer", "c", "--task", "word"}),
            "--needle and --task exclude each other");
}

TEST(NeedleOptions, WhatCannotBeIsNamed) {
  EXPECT_THAT(refusal({"m", "--lengths", "1x"}), StartsWith("--lengths: '1x' is not valid"));
  EXPECT_THAT(refusal({"m", "--depths", "0"}), StartsWith("--depths: '0' is not valid"));
  EXPECT_THAT(refusal({"m", "--task", "none"}), HasSubstr("'none'"));
  EXPECT_THAT(refusal({"m", "--suite", "none"}), HasSubstr("'none'"));
  EXPECT_THAT(refusal({"m", "--samples", "0"}), StartsWith("--samples: '0' is not valid"));
  EXPECT_THAT(refusal({"m", "--concurrency", "0"}), StartsWith("--concurrency: '0' is not valid"));
  EXPECT_THAT(refusal({"m", "--seed", "-1"}), StartsWith("--seed: '-1' is not valid"));
  EXPECT_THAT(refusal({"m", "--out", ""}), StartsWith("--out: "));
  EXPECT_THAT(refusal({"m", "--stop", ""}), StartsWith("--stop: "));
  EXPECT_EQ(refusal({"m", "--compare", "dense,sliding:512", "--attention", "dense"}),
            "--compare and --attention exclude each other");
}

TEST(NeedleOptions, ModesAreDividedWhereANameBegins) {
  EXPECT_THAT(attention_modes("dense,power:64,4,sliding:512"),
              ElementsAre("dense", "power:64,4", "sliding:512"));
  EXPECT_THAT(attention_modes("infllm:64,16,streaming:64,512,strided:64,8"),
              ElementsAre("infllm:64,16", "streaming:64,512", "strided:64,8"));
  EXPECT_THAT(attention_modes("power:64@0-3,7,dense"), ElementsAre("power:64@0-3,7", "dense"));
  EXPECT_THAT(attention_modes("power:64@0-3;sliding:512@4-7,dense"),
              ElementsAre("power:64@0-3;sliding:512@4-7", "dense"));
}

TEST(NeedleOptions, ModesThatAreNoneAreNamed) {
  EXPECT_EQ(modes_refusal("dense"), "--compare: 'dense' is one mode, at least two are needed");
  EXPECT_EQ(modes_refusal("power:64,4"),
            "--compare: 'power:64,4' is one mode, at least two are needed");
  EXPECT_EQ(modes_refusal("dense,power:64,dense"), "--compare: 'dense' is there twice");
  for (const char* text : {"", ",", "dense,", ",dense", "dense,,sliding:512", "dense,power",
                           "dense,power:7x", "dense, sliding:512", "4,dense", "dense,4", "a,b"}) {
    EXPECT_THAT(modes_refusal(text), StartsWith("--compare: ")) << text;
  }
}

/// Each mode has a folder: two in one would be each other's results.
TEST(NeedleOptions, ModesHaveFoldersOfTheirOwn) {
  EXPECT_EQ(modes_refusal("power:64,4,power:64@4"),
            "--compare: 'power:64,4' and 'power:64@4' would have one folder, power-64-4");
  EXPECT_EQ(modes_refusal("power:64@0-7,12,dense"), "");
}

TEST(NeedleOptions, FolderNamesArePlain) {
  EXPECT_EQ(folder_name("power:64,4"), "power-64-4");
  EXPECT_EQ(folder_name("dense"), "dense");
  EXPECT_EQ(folder_name("a/../b c\n\xc3\xa9"), "a-..-b-c---");
  EXPECT_EQ(folder_name(".."), "_..");
  EXPECT_EQ(folder_name(""), "_");
  EXPECT_EQ(folder_name("A_z0.9"), "A_z0.9");
}

/// Words as a shell divides them.
std::vector<std::string> shell_words(const std::string& line) {
  std::vector<std::string> words;
  const std::string script = "for w in " + line + "; do printf '%s\\001' \"$w\"; done";
  FILE* const pipe = ::popen(script.c_str(), "r");
  std::string text;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text += static_cast<char>(c);
  EXPECT_EQ(::pclose(pipe), 0);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\1', begin);
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

TEST(NeedleOptions, TheCommandLineGivesTheSameOnceMore) {
  const std::vector<std::string> given = {"a model's.gguf",
                                          "--lengths",
                                          "1k..4k:4",
                                          "--needle",
                                          "It's $HOME `x` \"y\" \\ * ~ #;",
                                          "--question",
                                          "Where?\nIn",
                                          "--answer",
                                          "\xc3\xa9\xff !&|<>(){}[]",
                                          "--stop",
                                          "-x",
                                          "--stop",
                                          " ",
                                          "--resume",
                                          "--seed",
                                          "7"};
  const Arguments args = parse(given);
  const std::string line = command_line(args);
  EXPECT_THAT(line, StartsWith("heddle needle 'a model'\\''s.gguf' "));
  std::vector<std::string> words = shell_words(line);
  ASSERT_GE(words.size(), 2U);
  EXPECT_EQ(words[0] + words[1], "heddleneedle");
  words.erase(words.begin(), words.begin() + 2);
  const Arguments again = parse(words);
  EXPECT_EQ(again.operands(), args.operands());
  for (const char* flag : {"needle", "question", "answer", "stop", "lengths", "seed"}) {
    EXPECT_EQ(again.texts(flag), args.texts(flag)) << flag;
  }
  EXPECT_TRUE(again.on("resume"));
  EXPECT_EQ(command_line(again), line);
}

TEST(NeedleOptions, PlainWordsOfACommandLineAreNotQuoted) {
  EXPECT_EQ(command_line(parse({"needle-hybrid", "--depths=0,50,100", "--out", "a/b_c.d"})),
            "heddle needle needle-hybrid --depths 0,50,100 --out a/b_c.d");
}

TEST(NeedleOptions, NotesSayWhatRulerLikeMeans) {
  EXPECT_THAT(needle_notes(options({"m"})), SizeIs(3));
  const auto notes = needle_notes(options({"m", "--suite", "ruler"}));
  ASSERT_THAT(notes, SizeIs(4));
  EXPECT_THAT(notes[3], HasSubstr("ruler-like"));
}

}  // namespace
}  // namespace heddle::cli
