// Models that come with Heddle: where their folders are looked for, and what an absent one is told.

#include "models/bundled.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/pull.h"
#include "models/registry.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput) << error.what();
    return error.what();
  }
  return "";
}

TEST(BundledPlaces, FollowTheExecutable) {
  EXPECT_THAT(
      bundled_places("", "/opt/heddle/bin/heddle"),
      ElementsAre("/opt/heddle/bin/share/heddle/models", "/opt/heddle/share/heddle/models"));
}

TEST(BundledPlaces, AreTheVariableAloneWhereItIsSet) {
  EXPECT_THAT(bundled_places("/data", "/opt/heddle/bin/heddle"), ElementsAre("/data/models"));
}

TEST(BundledPlaces, AreNoneWhereNothingIsKnown) {
  EXPECT_TRUE(bundled_places("", "").empty());
}

TEST(BundledPlaces, OfThisProgramAreAbsolute) {
  for (const std::string& place : bundled_places()) EXPECT_TRUE(fs::path(place).is_absolute());
  EXPECT_FALSE(bundled_places().empty());
}

/// A folder for two trees of data, and the entry of a model that both may have.
class Bundled : public ::testing::Test {
 protected:
  std::string make(const std::string& place, const std::vector<std::string>& files) const {
    for (const std::string& file : files) folder_.write(place + "/tiny-folder/" + file, "x");
    return (root_ / place / "tiny-folder").string();
  }
  std::vector<std::string> places() const { return {folder_ / "first", folder_ / "second"}; }
  ModelFile resolve(const std::string& model) const {
    return resolve_model(model, folder_ / "home", {entry_}, places());
  }

  test::TempFolder folder_;
  fs::path root_ = fs::canonical(folder_.path());
  RegistryEntry entry_ = {.name = "tiny",
                          .description = "a test",
                          .folder = "tiny-folder",
                          .files = {"config.json", "model.safetensors"}};
  const std::vector<std::string> whole_ = {"config.json", "model.safetensors", "README.md"};
};

TEST_F(Bundled, IsTakenFromTheFirstPlaceThatHasIt) {
  const std::string second = make("second", whole_);
  EXPECT_EQ(find_bundled(entry_, places()), second);
  const std::string first = make("first", whole_);
  EXPECT_EQ(find_bundled(entry_, places()), first);
}

TEST_F(Bundled, APlaceThatLacksAFileIsPassedOver) {
  make("first", {"config.json", "README.md"});
  const std::string second = make("second", whole_);
  EXPECT_EQ(find_bundled(entry_, places()), second);
}

TEST_F(Bundled, IsNamedWithoutLinks) {
  const std::string real = make("sources", whole_);
  fs::create_directory_symlink(root_ / "sources", root_ / "first");
  EXPECT_EQ(find_bundled(entry_, places()), real);
}

TEST_F(Bundled, AnAbsentOneIsToldWithWhatEachPlaceLacks) {
  make("second", {"README.md"});
  fs::create_directory(root_ / "second/tiny-folder/config.json");  // no file
  EXPECT_EQ(refusal([&] { find_bundled(entry_, places()); }),
            "tiny comes with Heddle, got no complete folder of it in " + folder_.path() +
                "/first/tiny-folder (no such folder), " + folder_.path() +
                "/second/tiny-folder (without config.json, model.safetensors), allowed one with "
                "config.json, model.safetensors; HEDDLE_DATA may name the folder of "
                "models/tiny-folder");
}

TEST_F(Bundled, WithoutAnyPlaceTheVariableIsAskedFor) {
  EXPECT_THAT(refusal([&] { find_bundled(entry_, {}); }),
              HasSubstr("got no complete folder of it in no place (the program's own path is "
                        "unknown), allowed"));
}

TEST_F(Bundled, AnInstalledProgramFindsItInItsPrefix) {
  const std::string installed = make("prefix/share/heddle/models", whole_);
  const auto places = bundled_places("", (root_ / "prefix/bin/heddle").string());
  EXPECT_EQ(find_bundled(entry_, places), installed);
}

TEST_F(Bundled, ABuildTreePrefersItsOwnToAPrefixAroundIt) {
  make("prefix/share/heddle/models", whole_);
  const std::string own = make("sources", whole_);
  fs::create_directories(root_ / "prefix/build/share/heddle");
  fs::create_directory_symlink(root_ / "sources", root_ / "prefix/build/share/heddle/models");
  const auto places = bundled_places("", (root_ / "prefix/build/heddle").string());
  EXPECT_EQ(find_bundled(entry_, places), own);
}

TEST_F(Bundled, ItsNameIsAModel) {
  const std::string first = make("first", whole_);
  const ModelFile model = resolve("tiny");
  EXPECT_EQ(model.path, first);
  EXPECT_EQ(model.name, "tiny");
}

TEST_F(Bundled, ItsNameWinsOverAFolderAndAFileWinsOverItsName) {
  const std::string first = make("first", whole_);
  const fs::path before = fs::current_path();
  fs::current_path(root_);
  fs::create_directory("tiny");
  EXPECT_EQ(resolve("tiny").path, first);
  EXPECT_EQ(resolve("./tiny").path, "./tiny");
  fs::remove("tiny");
  folder_.write("tiny", "x");
  EXPECT_EQ(resolve("tiny").path, "tiny");
  fs::current_path(before);
}

TEST_F(Bundled, ItIsNotLookedForWhereModelsArePulledTo) {
  make("home", whole_);
  EXPECT_THAT(refusal([&] { resolve("tiny"); }), HasSubstr("tiny comes with Heddle"));
}

TEST_F(Bundled, CannotBePulled) {
  EXPECT_THROW(pull_model(entry_, folder_ / "home"), Error);
  EXPECT_FALSE(fs::exists(root_ / "home"));
}

TEST(BundledModels, TheRegistryHasOne) {
  const RegistryEntry entry = find_registry_entry("needle-hybrid");
  EXPECT_TRUE(entry.is_bundled());
  EXPECT_EQ(entry.folder, "needle-hybrid");
  EXPECT_THAT(entry.files, ElementsAre("config.json", "model.safetensors", "tokenizer.model"));
}

}  // namespace
}  // namespace heddle
