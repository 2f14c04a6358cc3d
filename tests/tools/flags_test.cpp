#include "tools/heddle/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "tools/heddle/help.h"

namespace heddle::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Surroundings {
  std::map<std::string, std::string> environment;
  std::map<std::string, std::string> files;

  Arguments parse(std::string_view command, const std::vector<std::string>& args) const {
    return parse_arguments(
        find_command(command), args,
        {.environment =
             [this](const char* name) {
               const auto it = environment.find(name);
               return it == environment.end() ? nullptr : it->second.c_str();
             },
         .read_file = [this](const std::string& path) { return files.at(path); }});
  }
};

/// The message of the kBadInput that parsing throws; "" if it throws nothing.
std::string refusal(std::string_view command,
                    const std::vector<std::string>& args,
                    const Surroundings& around = {}) {
  try {
    around.parse(command, args);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kBadInput);
    return e.what();
  }
  return "";
}

TEST(Flags, TakeValuesApartAndJoinedAndLeaveOperands) {
  const Arguments args = Surroundings().parse(
      "generate", {"m.gguf", "-p", "-x", "--temp=0.5", "-n", "7", "--raw", "-"});
  EXPECT_THAT(args.operands(), ElementsAre("m.gguf", "-"));
  EXPECT_EQ(args.text("prompt"), "-x");
  EXPECT_EQ(args.number("temp"), 0.5);
  EXPECT_EQ(args.integer("max-tokens"), 7);
  EXPECT_TRUE(args.on("raw"));
  EXPECT_FALSE(args.on("json"));
  EXPECT_FALSE(args.integer("top-k").has_value());
}

TEST(Flags, LettersTakeJoinedValuesToo) {
  const Arguments args = Surroundings().parse("generate", {"m", "-t=2", "-p=a=b", "-n", "7"});
  EXPECT_EQ(args.integer("threads"), 2);
  EXPECT_EQ(args.text("prompt"), "a=b");
  EXPECT_EQ(args.integer("max-tokens"), 7);
  EXPECT_THAT(refusal("generate", {"m", "-v=1"}), HasSubstr("-v takes no value, got '1'"));
  EXPECT_THAT(refusal("generate", {"m", "-t="}), HasSubstr("-t: '' is not valid"));
  EXPECT_THAT(refusal("generate", {"m", "-t2"}), HasSubstr("unknown flag '-t2'"));
  EXPECT_THAT(refusal("generate", {"m", "-=2"}), HasSubstr("unknown flag '-=2'"));
}

TEST(Flags, LastOneCountsUnlessRepeatable) {
  const Arguments args =
      Surroundings().parse("generate", {"m", "-n", "1", "-n", "2", "--stop", "a", "--stop", "b"});
  EXPECT_EQ(args.integer("max-tokens"), 2);
  EXPECT_THAT(args.texts("stop"), ElementsAre("a", "b"));
}

TEST(Flags, DoubleDashEndsFlags) {
  EXPECT_THAT(Surroundings().parse("inspect", {"--", "--json"}).operands(), ElementsAre("--json"));
}

TEST(Flags, UnknownFlagListsTheValidOnes) {
  const std::string text = refusal("generate", {"m", "--no-such-flag"});
  EXPECT_THAT(text, HasSubstr("unknown flag '--no-such-flag'"));
  EXPECT_THAT(text, HasSubstr("-p --prompt"));
  EXPECT_THAT(text, HasSubstr("--top-k"));
  EXPECT_THAT(refusal("inspect", {"m", "--temp", "1"}), HasSubstr("unknown flag '--temp'; valid:"));
}

TEST(Flags, UnknownFlagsAndCommandsNameTheOneThatWasMeant) {
  EXPECT_THAT(refusal("generate", {"m", "--tmep=1"}), HasSubstr("did you mean --temp?"));
  EXPECT_THAT(refusal("generate", {"m", "--max_tokens"}), HasSubstr("did you mean --max-tokens?"));
  EXPECT_THAT(refusal("generate", {"m", "--max"}), HasSubstr("did you mean --max-tokens?"));
  EXPECT_THAT(refusal("generate", {"m", "--xyzzy"}), Not(HasSubstr("did you mean")));
  EXPECT_THAT(refusal("generate", {"m", "-x"}), Not(HasSubstr("did you mean")));
  try {
    find_command("sevre");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'sevre'; did you mean serve?; commands: "));
  }
}

TEST(Flags, FlagsThatLeaveNeedNoOperand) {
  EXPECT_TRUE(Surroundings().parse("serve", {"--show-limits"}).on("show-limits"));
  EXPECT_TRUE(Surroundings().parse("generate", {"--list-kernels"}).on("list-kernels"));
  EXPECT_THAT(refusal("serve", {}), HasSubstr("MODEL is missing"));
}

TEST(Flags, UnknownCommandListsTheCommands) {
  try {
    find_command("nonsense");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("unknown command 'nonsense'"));
    EXPECT_THAT(e.what(), HasSubstr("generate, chat, serve, batch, score"));
    EXPECT_THAT(e.what(), Not(HasSubstr("docs")));
  }
}

TEST(Flags, NumbersAreReadStrictly) {
  for (const char* text :
       {"many", "nan", "inf", "-inf", "1e400", "5x", "", " 5", "5 ", "0x10", "+1"}) {
    SCOPED_TRACE(text);
    EXPECT_THAT(refusal("generate", {"m", "--temp", text}),
                HasSubstr("--temp: '" + std::string(text) +
                          "' is not valid; allowed: a number from "
                          "0 to 100"));
    EXPECT_THAT(refusal("generate", {"m", "-n", text}),
                HasSubstr("allowed: a whole number from 0 to 2147483647"));
  }
  for (const char* text : {"1.5", "99999999999999999999"}) {
    EXPECT_THAT(refusal("generate", {"m", "-n", text}), HasSubstr("-n: '"));
  }
}

TEST(Flags, RangesHoldWithTheirEnds) {
  EXPECT_THAT(refusal("generate", {"m", "-n", "-5"}), HasSubstr("-n: '-5'"));
  EXPECT_EQ(refusal("generate", {"m", "--temp", "100"}), "");
  EXPECT_NE(refusal("generate", {"m", "--temp", "100.1"}), "");
  EXPECT_EQ(refusal("generate", {"m", "--top-p", "1"}), "");
  EXPECT_THAT(refusal("generate", {"m", "--top-p", "0"}), HasSubstr("above 0 up to 1"));
  EXPECT_EQ(refusal("generate", {"m", "--presence-penalty", "-100"}), "");
  EXPECT_EQ(refusal("score", {"m", "--ctx", "2"}), "");
  EXPECT_NE(refusal("score", {"m", "--ctx", "1"}), "");
}

TEST(Flags, SeedsAreComparedAsIntegers) {
  for (const std::int64_t seed : {std::int64_t{9007199254740993}, INT64_MAX}) {
    EXPECT_EQ(
        Surroundings().parse("generate", {"m", "--seed", std::to_string(seed)}).integer("seed"),
        seed);
  }
  EXPECT_THAT(refusal("generate", {"m", "--seed", "9223372036854775808"}),
              HasSubstr("allowed: a whole number from 0 to 9223372036854775807"));
  EXPECT_NE(refusal("generate", {"m", "--seed", "-1"}), "");
}

TEST(Flags, WhatWasTypedCannotDriveTheTerminal) {
  const std::string typed = "a\x1b[31mx";
  EXPECT_THAT(refusal("generate", {"m", "--" + typed}), HasSubstr("'--a\\x1b[31mx'"));
  EXPECT_THAT(refusal("generate", {"m", "--temp", typed}), HasSubstr("'a\\x1b[31mx'"));
  EXPECT_THAT(refusal("inspect", {"m", typed}), HasSubstr("'a\\x1b[31mx'"));
}

TEST(Flags, ChoicesAreListed) {
  EXPECT_THAT(refusal("bench", {"m", "--kv-dtype", "f64"}),
              HasSubstr("--kv-dtype: 'f64' is not valid; allowed: one of f32, f16, bf16"));
}

TEST(Flags, ListsOfNumbers) {
  EXPECT_THAT(Surroundings().parse("bench", {"m", "-d", "0,8192"}).integers("depth"),
              ElementsAre(0, 8192));
  for (const char* text : {"many", "1,,2", "1,", ",", "", "1;2"}) {
    EXPECT_THAT(refusal("bench", {"m", "-p", text}), HasSubstr("separated by commas")) << text;
  }
}

TEST(Flags, SwitchTakesNoValueAndOthersNeedOne) {
  EXPECT_THAT(refusal("generate", {"m", "--json=1"}), HasSubstr("--json takes no value"));
  EXPECT_THAT(refusal("generate", {"m", "--temp"}), HasSubstr("--temp needs a value: a number"));
}

TEST(Flags, OperandsAreCounted) {
  EXPECT_THAT(refusal("inspect", {}), HasSubstr("MODEL is missing"));
  EXPECT_THAT(refusal("inspect", {"a", "b"}), HasSubstr("unexpected argument 'b'"));
  EXPECT_EQ(refusal("inspect", {"--help"}), "");
  EXPECT_EQ(refusal("generate", {"--list-kernels"}), "");
}

TEST(Flags, EnvironmentServesWhereTheFlagIsAbsent) {
  Surroundings around;
  around.environment = {{"HEDDLE_TEMP", "0.25"}, {"HEDDLE_THREADS", ""}};
  EXPECT_EQ(around.parse("generate", {"m"}).number("temp"), 0.25);
  EXPECT_FALSE(around.parse("generate", {"m"}).integer("threads").has_value());
  EXPECT_EQ(around.parse("generate", {"m", "--temp", "1"}).number("temp"), 1.0);
  around.environment["HEDDLE_TEMP"] = "warm";
  EXPECT_THAT(refusal("generate", {"m"}, around), HasSubstr("HEDDLE_TEMP: 'warm' is not valid"));
  EXPECT_EQ(refusal("inspect", {"m"}, around), "") << "inspect has no temperature";
}

TEST(Flags, RepeatableVariableIsAList) {
  Surroundings around;
  around.environment = {{"HEDDLE_FORCE_KERNEL", "matmul=ref,rope=ref"}};
  EXPECT_THAT(around.parse("generate", {"m"}).texts("force-kernel"),
              ElementsAre("matmul=ref", "rope=ref"));
}

TEST(Flags, FileLosesToEnvironmentLosesToFlag) {
  Surroundings around;
  around.files["c.json"] =
      R"({"temp": 0.1, "top-k": 3, "seed": 5, "raw": true, "stop": ["x", "y"], "depth": 7})";
  around.environment = {{"HEDDLE_TOP_K", "4"}};
  const Arguments args = around.parse("generate", {"m", "--config", "c.json", "--seed", "6"});
  EXPECT_EQ(args.number("temp"), 0.1);
  EXPECT_EQ(args.integer("top-k"), 4);
  EXPECT_EQ(args.integer("seed"), 6);
  EXPECT_TRUE(args.on("raw"));
  EXPECT_THAT(args.texts("stop"), ElementsAre("x", "y"));
  EXPECT_THAT(around.parse("bench", {"m", "--config", "c.json"}).integers("depth"), ElementsAre(7));
}

TEST(Flags, FileMayBeNamedByTheEnvironment) {
  Surroundings around;
  around.files["c.json"] = R"({"temp": 2})";
  around.environment = {{"HEDDLE_CONFIG", "c.json"}};
  EXPECT_EQ(around.parse("generate", {"m"}).number("temp"), 2.0);
}

TEST(Flags, FileErrorsNameFileKeyAndWhatIsAllowed) {
  Surroundings around;
  const auto message = [&](const std::string& json) {
    around.files["c.json"] = json;
    return refusal("generate", {"m", "--config", "c.json"}, around);
  };
  EXPECT_THAT(message(R"({"tempp": 1})"), HasSubstr("c.json: 'tempp': unknown key; valid: prompt"));
  EXPECT_THAT(message(R"({"help": true})"), HasSubstr("unknown key"));
  EXPECT_THAT(message(R"({"temp": "hot"})"), HasSubstr("c.json: 'temp': 'hot' is not valid"));
  EXPECT_THAT(message(R"({"temp": null})"), HasSubstr("c.json: 'temp': null is not valid"));
  EXPECT_THAT(message(R"({"temp": [1]})"), HasSubstr("a list or object is not valid"));
  EXPECT_THAT(message(R"({"raw": 2})"), HasSubstr("allowed: true or false"));
  EXPECT_THAT(message("[]"), HasSubstr("must be a JSON object"));
  EXPECT_THAT(message("{"), HasSubstr("c.json"));
}

TEST(Flags, SwitchCanBeOffInTheFile) {
  Surroundings around;
  around.files["c.json"] = R"({"raw": false})";
  EXPECT_FALSE(around.parse("generate", {"m", "--config", "c.json"}).on("raw"));
}

TEST(Flags, UnknownVariablesAreFound) {
  const std::vector<std::string> names = {"HEDDLE_TEMPP", "HEDDLE_TEMP", "HEDDLE_HOME",
                                          "HEDDLE_DATA", "HOME"};
  EXPECT_THAT(unknown_environment(names), ElementsAre("HEDDLE_TEMPP"));
}

TEST(FlagTable, EveryRowIsSound) {
  for (const CommandSpec& command : command_table()) {
    std::set<std::string_view> names;
    std::set<char> letters;
    for (const FlagSpec* flag : flags_of(command)) {
      SCOPED_TRACE(std::string(command.name) + " --" + std::string(flag->name));
      EXPECT_TRUE(names.insert(flag->name).second);
      if (flag->letter != '\0') {
        EXPECT_TRUE(letters.insert(flag->letter).second);
      }
      EXPECT_FALSE(flag->help.empty());
      EXPECT_EQ(flag->kind == ValueKind::kSwitch, flag->value.empty());
      if (flag->kind == ValueKind::kInt || flag->kind == ValueKind::kFloat ||
          flag->kind == ValueKind::kIntList) {
        EXPECT_LT(flag->low, flag->high);
      }
      if (flag->kind == ValueKind::kChoice) {
        EXPECT_GE(choices_of(*flag).size(), 2U);
      }
    }
  }
}

TEST(FlagTable, HelpAndDocumentNameEveryFlag) {
  const std::string document = cli_markdown();
  for (const CommandSpec& command : command_table()) {
    const std::string help = help_of(command);
    for (const FlagSpec* flag : flags_of(command)) {
      EXPECT_THAT(help, HasSubstr("--" + std::string(flag->name)));
      EXPECT_THAT(document, HasSubstr("`--" + std::string(flag->name) + "`"));
      if (flag->env) {
        EXPECT_THAT(document, HasSubstr("`" + env_name(*flag) + "`"));
      }
    }
    if (!command.hidden) {
      EXPECT_THAT(help_overview(), HasSubstr("  " + std::string(command.name)));
    }
  }
}

TEST(FlagTable, HelpFitsTheTerminal) {
  for (const CommandSpec& command : command_table()) {
    const std::string help = help_of(command);
    for (std::size_t begin = 0; begin < help.size();) {
      const std::size_t end = std::min(help.find('\n', begin), help.size());
      EXPECT_LE(end - begin, 100U) << help.substr(begin, end - begin);
      begin = end + 1;
    }
  }
}

}  // namespace
}  // namespace heddle::cli
