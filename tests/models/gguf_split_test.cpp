// GGUF models in parts: all parts are found from any of them; parts that do not belong together are
// refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/checkpoint.h"
#include "models/gguf_weights.h"
#include "tests/support/split_gguf.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_llama.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;
using test::GgufDoc;
using test::TempFolder;
using ::testing::HasSubstr;

/// tiny_llama in three parts; tests break one thing.
class SplitGguf : public testing::Test {
 protected:
  SplitGguf() : parts_(test::split_gguf(test::tiny_llama(), 3)) { write(); }

  void write() const {
    for (std::size_t i = 0; i < parts_.size(); ++i) folder_.write(name(i), parts_[i].serialise());
  }
  static std::string name(std::size_t part) { return test::part_name("tiny", part, 3); }
  std::string message(const std::string& opened) const {
    try {
      open_checkpoint(folder_ / opened);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      return std::string(error.what()).substr(folder_.path().size() + 1);
    }
    return "accepted";
  }
  std::string refusal_of(const std::function<void(std::vector<GgufDoc>&)>& change) {
    change(parts_);
    write();
    return message(name(0));
  }

  TempFolder folder_;
  std::vector<GgufDoc> parts_;
};

TEST_F(SplitGguf, OpensFromEachPartAndFromTheFolder) {
  const GgufDoc whole = test::tiny_llama();
  const std::string file = whole.serialise();
  const auto expected = GgufWeights::over(std::as_bytes(std::span(file)), "x");
  for (const std::string& opened : {name(0), name(1), name(2), std::string("")}) {
    Checkpoint checkpoint = open_checkpoint(folder_ / opened);
    EXPECT_EQ(checkpoint.config.name, "tiny");
    EXPECT_EQ(checkpoint.file_bytes, fs::file_size(folder_ / name(0)) +
                                         fs::file_size(folder_ / name(1)) +
                                         fs::file_size(folder_ / name(2)));
    ASSERT_EQ(checkpoint.weights->tensors().size(), whole.tensors.size());
    for (const StoredTensor& tensor : expected->tensors()) {
      const TensorView view = checkpoint.weights->find(tensor.name);
      ASSERT_EQ(view.bytes(), tensor.view.bytes());
      EXPECT_EQ(std::memcmp(view.data, tensor.view.data, static_cast<std::size_t>(view.bytes())),
                0);
    }
  }
}

TEST_F(SplitGguf, OpensByARelativeName) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_.path());
  const std::string name_of_model = open_checkpoint(name(1)).config.name;
  fs::current_path(before);
  EXPECT_EQ(name_of_model, "tiny");
}

TEST_F(SplitGguf, NamesThePartThatIsMissing) {
  fs::remove(folder_ / name(1));
  EXPECT_EQ(message(name(0)), name(0) + ": gguf_tensor: parts, got no file '" + name(1) +
                                  "', allowed all 3 of them beside '" + name(0) + "'");
  EXPECT_EQ(message(name(2)), name(2) + ": gguf_tensor: parts, got no file '" + name(1) +
                                  "', allowed all 3 of them beside '" + name(2) + "'");
}

TEST_F(SplitGguf, IsFoundByItsNames) {
  fs::rename(folder_ / name(1), folder_ / "other.gguf");
  EXPECT_EQ(message("other.gguf"),
            "other.gguf: gguf_tensor: file name, got 'other.gguf', allowed "
            "'NAME-00002-of-00003.gguf' (the file is part 2 of 3)");
}

TEST_F(SplitGguf, RefusesPartsInEachOthersPlace) {
  EXPECT_EQ(refusal_of([](auto& p) { std::swap(p[1], p[2]); }),
            name(1) + ": gguf_tensor: split.no and split.count, got 2 and 3, allowed 1 and 3");
}

TEST_F(SplitGguf, RefusesPartsOfAnotherModel) {
  EXPECT_EQ(refusal_of([](auto& p) { p[1].template set<std::uint16_t>("split.count", 4); }),
            name(1) + ": gguf_tensor: split.no and split.count, got 1 and 4, allowed 1 and 3");
  parts_ = test::split_gguf(test::tiny_llama(), 3);
  const std::string n = std::to_string(test::tiny_llama().tensors.size());
  EXPECT_EQ(refusal_of([](auto& p) { p[2].template set<std::int32_t>("split.tensors.count", 5); }),
            name(2) + ": gguf_tensor: split.tensors.count, got 5, allowed " + n + " (as in " +
                folder_.path() + "/" + name(0) + ")");
  parts_ = test::split_gguf(test::tiny_llama(), 3);
  EXPECT_EQ(refusal_of([](auto& p) { p[2].set_text("general.architecture", "gpt2"); }),
            name(2) + ": gguf_tensor: general.architecture, got 'gpt2', allowed 'llama' (as in " +
                folder_.path() + "/" + name(0) + ")");
}

TEST_F(SplitGguf, RefusesATensorInTwoParts) {
  const std::string twice = parts_[0].tensors[0].name;
  EXPECT_EQ(refusal_of([&](auto& p) { p[2].tensors[0].name = twice; }),
            name(2) + ": gguf_tensor: tensor '" + twice +
                "', got it in this and in an earlier part, allowed once");
}

TEST_F(SplitGguf, RefusesWrongCountsOfTensors) {
  const auto n = static_cast<std::int32_t>(test::tiny_llama().tensors.size());
  EXPECT_EQ(refusal_of([&](auto& p) {
              for (GgufDoc& part : p) part.set<std::int32_t>("split.tensors.count", n + 1);
            }),
            name(0) + ": gguf_tensor: split.tensors.count, got " + std::to_string(n + 1) +
                ", allowed " + std::to_string(n) + " (the tensors of all parts)");
}

TEST_F(SplitGguf, IsNeverReadFromOutside) {
  const TempFolder other;
  fs::remove(folder_ / name(1));
  fs::create_symlink(other.write("x", parts_[1].serialise()), folder_ / name(1));
  EXPECT_THAT(message(name(0)), HasSubstr(name(1) + ": shard_path: got a link to '"));
}

TEST_F(SplitGguf, IsRefusedAsBytesOfOneFile) {
  const std::string file = parts_[0].serialise();
  try {
    GgufWeights::over(std::as_bytes(std::span(file)), "x.gguf");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()), "x.gguf: gguf_tensor: split.count, got 3, allowed 1");
  }
}

}  // namespace
}  // namespace heddle
