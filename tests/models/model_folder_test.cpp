// Model folders: shards and their index, what is never followed out of the folder, what a folder
// that is no model is told.

#include "models/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "models/checkpoint.h"
#include "models/folder_weights.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_llama.h"

namespace heddle {
namespace {

namespace fs = std::filesystem;
using test::SafetensorsDoc;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

std::string one_tensor(const std::string& name, float first = 1.0F) {
  SafetensorsDoc doc;
  doc.add_f32(name, {2, 2}, {first, first + 1, first + 2, first + 3});
  return doc.serialise();
}

std::string index_of(const std::string& map, const std::string& total = "32") {
  return R"({"metadata":{"total_size":)" + total + R"(},"weight_map":{)" + map + "}}";
}
const std::string kMap = std::string("\"a\":\"") + kFirst + "\",\"b\":\"" + kSecond + "\"";

/// A folder of two shards; tests break one thing.
class Shards : public testing::Test {
 protected:
  Shards() {
    folder_.write("config.json", R"({"model_type":"none"})");
    folder_.write(kFirst, one_tensor("a"));
    folder_.write(kSecond, one_tensor("b", 5.0F));
    folder_.write(kIndex, index_of(kMap));
  }

  std::string at(const std::string& name) const { return folder_ / name; }
  std::unique_ptr<FolderWeights> open() const {
    return FolderWeights::open(Folder(folder_.path()));
  }
  /// What opening says, without the folder's path.
  std::string message() const {
    try {
      open();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      std::string text = error.what();
      EXPECT_EQ(text.find(folder_.path()), 0U) << text;
      return text.substr(std::min(text.size(), folder_.path().size() + 1));
    }
    return "accepted";
  }
  std::string with_index(const std::string& text) const {
    folder_.write(kIndex, text);
    return message();
  }

  TempFolder folder_;
};

TEST_F(Shards, GiveTheTensorsOfAllFiles) {
  const auto weights = open();
  EXPECT_THAT(weights->files(), ElementsAre(kFirst, kSecond));
  EXPECT_EQ(weights->file_bytes(), fs::file_size(at(kFirst)) + fs::file_size(at(kSecond)));
  EXPECT_EQ(weights->source(), folder_.path());
  EXPECT_EQ(weights->require("a", {2, 2}).as<float>()[3], 4.0F);
  EXPECT_THROW(weights->check_all_bound(), Error);
  const TensorView b = weights->require("b", {2, 2}, {DType::kF32});
  EXPECT_EQ(b.as<float>()[0], 5.0F);
  weights->check_all_bound();
  weights->release(b, 0, 16);
  EXPECT_EQ(b.as<float>()[0], 5.0F);
}

TEST_F(Shards, AreRefusedIfOneIsMissing) {
  fs::remove(at(kSecond));
  EXPECT_EQ(message(), std::string(kIndex) + ": shard_missing: got no file '" + kSecond +
                           "', allowed all 2 that it names");
}

TEST_F(Shards, AreRefusedIfTheIndexIsMissing) {
  fs::remove(at(kIndex));
  EXPECT_THAT(message(), HasSubstr(std::string("shard_missing: got '") + kFirst +
                                   "' without model.safetensors.index.json, allowed both"));
}

TEST_F(Shards, AreRefusedIfThereIsOneMore) {
  for (const char* name : {"model-00003-of-00003.safetensors", "model.safetensors"}) {
    folder_.write(name, one_tensor("c"));
    EXPECT_EQ(message(), std::string(kIndex) + ": index_mismatch: shards, got a file '" + name +
                             "' that weight_map does not name, allowed exactly the 2 it names");
    fs::remove(at(name));
  }
  folder_.write("consolidated.safetensors", "never looked at");
  folder_.write("adapter_model.safetensors", "never looked at");
  EXPECT_EQ(message(), "accepted");
}

TEST_F(Shards, AreRefusedBesideASingleFileWithoutIndex) {
  fs::remove(at(kIndex));
  folder_.write("model.safetensors", one_tensor("a"));
  EXPECT_THAT(message(), HasSubstr("model.safetensors: index_mismatch: shards, got a file "));
}

TEST_F(Shards, AreRefusedIfATensorIsInTwo) {
  SafetensorsDoc doc;
  doc.add_f32("b", {1}, {1.0F});
  doc.add_f32("a", {1}, {1.0F});
  folder_.write(kSecond, doc.serialise());
  EXPECT_EQ(message(), std::string(kIndex) + ": index_mismatch: tensor 'a', got it in '" + kFirst +
                           "' and in '" + kSecond + "', allowed once");
}

TEST_F(Shards, AreRefusedIfTheIndexSaysOtherwise) {
  const std::string first = kFirst;
  const std::string second = kSecond;
  const std::string error = std::string(kIndex) + ": index_mismatch: ";
  EXPECT_EQ(
      with_index(index_of("\"a\":\"" + second + "\",\"b\":\"" + first + "\"")),
      error + "tensor 'a', got '" + first + "', allowed '" + second + "' (as weight_map says)");
  EXPECT_EQ(
      with_index(index_of(kMap + ",\"c\":\"" + first + "\"")),
      error + "tensor 'c', got no file that has it, allowed '" + first + "' (as weight_map says)");
  folder_.write(kSecond, [] {
    SafetensorsDoc doc;
    doc.add_f32("b", {1}, {1.0F});
    doc.add_f32("d", {1}, {1.0F});
    return doc.serialise();
  }());
  EXPECT_EQ(
      with_index(index_of(kMap, "24")),
      error + "tensor 'd' of '" + second + "', got no entry in weight_map, allowed one (1 such)");
}

TEST_F(Shards, MustAddUpToTheTotalSize) {
  const std::string error = std::string(kIndex) + ": index_mismatch: metadata.total_size, got ";
  EXPECT_EQ(with_index(index_of(kMap, "31")), error + "31, allowed 32 (the bytes of all tensors)");
  EXPECT_EQ(with_index(index_of(kMap, "-32")), error + "-32, allowed a number of bytes");
  EXPECT_EQ(with_index(index_of(kMap, "\"32\"")), error + "\"32\", allowed a number of bytes");
  EXPECT_EQ(with_index(index_of(kMap, "32.5")), error + "32.5, allowed a number of bytes");
  EXPECT_EQ(with_index(index_of(kMap, "32.0")), "accepted");
  EXPECT_EQ(with_index("{\"weight_map\":{" + kMap + "}}"), "accepted");
}

TEST_F(Shards, AreRefusedIfTheIndexIsNoIndex) {
  EXPECT_THAT(with_index("{"), HasSubstr(": index_mismatch:1:2: not valid JSON"));
  EXPECT_THAT(with_index("{}"), HasSubstr(": index_mismatch: weight_map, got nothing"));
  EXPECT_THAT(with_index("{\"weight_map\":{}}"), HasSubstr("weight_map, got nothing"));
  EXPECT_THAT(with_index("[]"), HasSubstr("weight_map, got nothing"));
  EXPECT_EQ(with_index(index_of(kMap + ",\"a\":\"" + kFirst + "\"")),
            std::string(kIndex) + ": index_mismatch:1:123: duplicate key 'a'");
}

TEST_F(Shards, HavePlainNames) {
  for (const std::string name :
       {"../x", "/etc/passwd", "a/b", "..", ".", "", "x\\u0000y", "a\\nb"}) {
    EXPECT_THAT(with_index(index_of("\"a\":\"" + name + "\"")),
                HasSubstr(std::string(kIndex) + ": shard_path: of tensor 'a', got '"))
        << name;
  }
  EXPECT_EQ(with_index(index_of("\"a\":7")),
            std::string(kIndex) +
                ": shard_path: of tensor 'a', got no string, allowed the plain name of a file in "
                "the folder");
}

TEST_F(Shards, AreNeverReadFromOutside) {
  const TempFolder other;
  const std::string outside = other.write("x.safetensors", one_tensor("a"));
  fs::remove(at(kFirst));
  const auto refused = [&](const std::string& target) {
    fs::create_symlink(target, at(kFirst));
    const std::string text = message();
    fs::remove(at(kFirst));
    return text;
  };
  EXPECT_EQ(refused(outside), std::string(kFirst) + ": shard_path: got a link to '" + outside +
                                  "', allowed links to files of this folder");
  const std::string up = "../" + fs::path(other.path()).filename().string() + "/x.safetensors";
  EXPECT_THAT(refused(up), HasSubstr("shard_path: got a link to '" + up + "'"));
  EXPECT_THAT(refused("/dev/zero"), HasSubstr("shard_path: got a link to '/dev/zero'"));
  EXPECT_THAT(refused("."), HasSubstr("shard_path: got a link to '.'"));
  EXPECT_THAT(refused("nowhere"), HasSubstr(": no such file"));
  // A folder whose name merely looks like the blobs of a hub cache.
  const std::string blobs = "../../blobs/x";
  EXPECT_THAT(refused(blobs), HasSubstr("shard_path: got a link to"));
  folder_.write("real", one_tensor("a"));
  fs::create_symlink("real", at("link"));
  EXPECT_THAT(refused("link"), HasSubstr("shard_path: got a link to a link"));
  EXPECT_EQ(refused("real"), "accepted");
  EXPECT_EQ(refused("./real"), "accepted");
  EXPECT_EQ(refused(at("real")), "accepted");
}

TEST_F(Shards, AreRegularFiles) {
  fs::remove(at(kFirst));
  ASSERT_EQ(::mkfifo(at(kFirst).c_str(), 0600), 0);
  EXPECT_EQ(message(), std::string(kFirst) + ": shard_path: got a FIFO, allowed a regular file");
  fs::remove(at(kFirst));
  fs::create_directory(at(kFirst));
  EXPECT_EQ(message(),
            std::string(kFirst) + ": shard_path: got a directory, allowed a regular file");
}

TEST(HubCache, IsOneFolderWithItsBlobs) {
  const TempFolder cache;
  const std::string model = "models--org--tiny/";
  const std::string snapshot = model + "snapshots/0123abc/";
  cache.write(model + "blobs/aaaa", one_tensor("a"));
  cache.write(snapshot + "config.json", "{}");
  const std::string link = cache / (snapshot + "model.safetensors");
  const auto opens = [&](const std::string& target) {
    fs::remove(link);
    fs::create_symlink(target, link);
    try {
      const auto weights = FolderWeights::open(Folder(cache / snapshot));
      return std::to_string(weights->require("a", {2, 2}).as<float>()[0]);
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(opens("../../blobs/aaaa"), "1.000000");
  EXPECT_EQ(opens(fs::canonical(cache / (model + "blobs/aaaa")).string()), "1.000000");
  cache.write("models--org--other/blobs/aaaa", one_tensor("a", 7.0F));
  EXPECT_THAT(opens("../../../models--org--other/blobs/aaaa"), HasSubstr("shard_path: got a link"));
  cache.write(model + "blobs/deep/aaaa", one_tensor("a", 7.0F));
  EXPECT_THAT(opens("../../blobs/deep/aaaa"), HasSubstr("shard_path: got a link"));
  fs::create_symlink(cache / "models--org--other/blobs/aaaa", cache / (model + "blobs/bbbb"));
  EXPECT_THAT(opens("../../blobs/bbbb"), HasSubstr("shard_path: got a link to a link"));
  // The blobs themselves must be there, not elsewhere.
  fs::rename(cache / (model + "blobs"), cache / "elsewhere");
  fs::create_directory_symlink(cache / "elsewhere", cache / (model + "blobs"));
  EXPECT_THAT(opens("../../blobs/aaaa"), HasSubstr("shard_path: got a link"));
}

TEST(HubCache, MustHaveItsShape) {
  const TempFolder cache;
  cache.write("somewhere/blobs/aaaa", one_tensor("a"));
  cache.write("somewhere/snapshots/1/config.json", "{}");
  fs::create_symlink("../../blobs/aaaa", cache / "somewhere/snapshots/1/model.safetensors");
  try {
    FolderWeights::open(Folder(cache / "somewhere/snapshots/1"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("shard_path: got a link to '../../blobs/aaaa'"));
  }
}

/// What open_checkpoint says of a folder with these files, without the folder's path.
std::string refusal_of(const std::map<std::string, std::string>& files,
                       const std::string& opened = "") {
  const TempFolder folder;
  for (const auto& [name, bytes] : files) folder.write(name, bytes);
  try {
    open_checkpoint(opened.empty() ? folder.path() : folder / opened);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
    std::string text = error.what();
    for (std::size_t at = 0; (at = text.find(folder.path())) != std::string::npos;) {
      text.replace(at, folder.path().size(), "F");
    }
    return text;
  }
  return "accepted";
}

TEST(ModelFolderErrors, SayWhatWasLookedFor) {
  const std::string wanted =
      "allowed config.json with model.safetensors (or its shards), or one .gguf model";
  EXPECT_EQ(refusal_of({}), "F: model folder, got no config.json and no .gguf file, " + wanted);
  EXPECT_EQ(refusal_of({{"a.gguf", ""}, {"b.gguf", ""}}),
            "F: model folder, got 2 .gguf models, " + wanted);
  EXPECT_EQ(refusal_of({{"config.json", "{}"}}),
            "F: shard_missing: weights, got neither, allowed model.safetensors or "
            "model.safetensors.index.json");
  EXPECT_EQ(refusal_of({{"config.json", "{}"}, {"consolidated.safetensors", ""}}),
            "F: shard_missing: weights, got 'consolidated.safetensors', allowed model.safetensors "
            "or model.safetensors.index.json");
  for (const char* name : {"pytorch_model.bin", "consolidated.00.pth", "model.pt"}) {
    EXPECT_EQ(refusal_of({{"config.json", "{}"}, {name, "PK\x03\x04"}}),
              std::string("F: shard_missing: weights, got '") + name +
                  "', a Python pickle (never read: it can run code), allowed model.safetensors or "
                  "model.safetensors.index.json");
  }
}

TEST(ModelFolderErrors, SayWhatAFileOfAnotherKindIs) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
  const std::string page = "<!DOCTYPE html><html></html>";
  const std::string model = one_tensor("a");
  EXPECT_EQ(refusal_of({{"config.json", "{}"}, {"model.safetensors", pointer}}),
            "F/model.safetensors: header_length: got a Git LFS pointer (the model itself was not "
            "fetched: git lfs pull), allowed a safetensors file");
  EXPECT_THAT(refusal_of({{"config.json", pointer}, {"model.safetensors", model}}),
              HasSubstr("F/config.json: content, got a Git LFS pointer"));
  EXPECT_EQ(refusal_of({{"config.json", page}, {"model.safetensors", model}}),
            "F/config.json: config: got an HTML page (a download that went wrong), allowed a JSON "
            "object");
  EXPECT_THAT(refusal_of({{"config.json", ""}, {"model.safetensors", model}}),
              HasSubstr("F/config.json: config: got an empty file"));
  EXPECT_THAT(refusal_of({{"x.bin", std::string("\x80\x02}q", 4)}}, "x.bin"),
              HasSubstr("got a Python pickle (never read: it can run code)"));
}

TEST(ModelFolderErrors, NameAFamilyThatIsUnknown) {
  const std::string model = one_tensor("a");
  EXPECT_THAT(
      refusal_of({{"config.json", R"({"model_type":"hyena","architectures":["HyenaLM"]})"},
                  {"model.safetensors", model}}),
      HasSubstr("F/config.json: config: model_type, got 'hyena' (architectures: 'HyenaLM'), "
                "allowed "));
  EXPECT_THAT(
      refusal_of(
          {{"config.json",
            R"({"model_type":"hyena","num_experts":8,"kv_lora_rank":null,"use_alibi":false,"alibi":1})"},
           {"model.safetensors", model}}),
      HasSubstr("heddle; its config also asks for num_experts (mixture of experts), alibi "
                "(ALiBi)"));
  EXPECT_EQ(refusal_of({{"config.json", "{}"}, {"model.safetensors", model}}),
            "F/config.json: config: model_type is missing");
}

TEST(ModelFolderErrors, TellAFileFromTheFolderAroundIt) {
  const std::string model = one_tensor("a");
  EXPECT_EQ(refusal_of({{"model.safetensors", model}}, "model.safetensors"),
            "F/model.safetensors: model folder, got no config.json beside it, allowed a model "
            "folder in Hugging "
            "Face layout");
  EXPECT_EQ(refusal_of({{"config.json", "{}"}, {"model.safetensors", model}, {"x.safetensors", ""}},
                       "x.safetensors"),
            "F/x.safetensors: model file, got one that the model in F is not read from, allowed "
            "'model.safetensors'");
  EXPECT_EQ(refusal_of({{"config.json", "{}"}, {"model.safetensors", model}}, "model.safetensors"),
            "F/config.json: config: model_type is missing");
  EXPECT_EQ(refusal_of({}, "x.safetensors"), "F/x.safetensors: no such file");
}

TEST(ModelFolder, GivesItsConfigAndTextFiles) {
  const TempFolder folder;
  folder.write("config.json", R"({"hidden_size":8})");
  folder.write("generation_config.json", R"({"temperature":0.5})");
  folder.write("merges.txt", "a b\n");
  folder.write("model.safetensors", one_tensor("a"));
  ModelFolder model(folder.path() + "//");
  EXPECT_EQ(model.path(), folder.path());
  EXPECT_EQ(model.config().integer("hidden_size", {1, 8}), 8);
  EXPECT_EQ(model.generation()->real("temperature"), 0.5);
  EXPECT_TRUE(model.has("merges.txt"));
  EXPECT_FALSE(model.has("tokenizer.json"));
  EXPECT_EQ(model.read_text("merges.txt", 4), "a b\n");
  EXPECT_THROW(model.read_text("merges.txt", 3), Error);
  EXPECT_EQ(model.path_of("merges.txt"), folder / "merges.txt");
  EXPECT_TRUE(model.weights().has("a"));
  const TempFolder other;
  fs::create_symlink(other.write("tokenizer.json", "{}"), folder / "tokenizer.json");
  try {
    model.read_text("tokenizer.json", 100);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json: file_path: got a link to "));
  }
}

TEST(ModelFolder, OpensTheOneGgufFileOfAFolderWithoutConfig) {
  const TempFolder folder;
  folder.write("tiny.gguf", test::tiny_llama().serialise());
  folder.write("README.md", "");
  EXPECT_EQ(open_checkpoint(folder.path()).config.name, "tiny");
}

TEST(FolderWeights, ListsTensorsThatNoKernelReadsAndRefusesThemOnlyIfAsked) {
  const TempFolder folder;
  SafetensorsDoc doc;
  doc.add("ids", "I64", {2}, std::string(16, '\0'));
  doc.add("deep", "F32", {1, 1, 1, 1, 1}, std::string(4, '\0'));
  doc.add("fp8", "F8_E4M3", {4}, std::string(4, '\0'));
  folder.write("model.safetensors", doc.serialise());
  const auto weights = FolderWeights::open(Folder(folder.path()));
  ASSERT_EQ(weights->tensors().size(), 3U);
  EXPECT_EQ(weights->tensors()[0].dtype_name(), "I64");
  EXPECT_TRUE(weights->has("ids"));
  const auto said = [&](const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return std::string(error.what()).substr(folder.path().size());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(said([&] { weights->require("fp8", {4}); }),
            "/model.safetensors: tensor 'fp8': dtype, got F8_E4M3, allowed F32, F16, BF16");
  EXPECT_EQ(said([&] { weights->find("deep"); }),
            "/model.safetensors: tensor 'deep': dtype, got F32 of rank 5, allowed F32, F16, BF16");
  for (const char* name : {"ids", "deep", "fp8"}) weights->ignore(name);
  EXPECT_EQ(said([&] { weights->check_all_bound(); }), "accepted");
}

TEST(FolderWeights, GivesTensorsAtOddAddressesAligned) {
  const TempFolder folder;
  SafetensorsDoc doc;
  doc.padding = 0;
  doc.add("odd", "U8", {1}, "x");
  doc.add_f32("a", {2}, {1.5F, -2.5F});
  doc.metadata = "{}";
  for (int i = 0; i < 4; ++i) {
    doc.metadata = R"({"x":")" + std::string(static_cast<std::size_t>(i), 'x') + "\"}";
    folder.write("model.safetensors", doc.serialise());
    const auto weights = FolderWeights::open(Folder(folder.path()));
    const TensorView a = weights->require("a", {2});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.data) % alignof(float), 0U);
    EXPECT_EQ(a.as<float>()[1], -2.5F);
    weights->release(a, 0, 8);
    EXPECT_EQ(a.as<float>()[0], 1.5F);
  }
}

}  // namespace
}  // namespace heddle
