// A model folder whose weights are PyTorch's .bin files: when they are read, and from which files.

#include "models/bin_weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "base/error.h"
#include "models/checkpoint.h"
#include "models/model_folder.h"
#include "tests/support/bin_writer.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

using test::BinDoc;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Files = std::map<std::string, std::string>;

const std::string kConfig = R"({"model_type":"transnormer"})";

std::string bin(const std::vector<std::string>& names) {
  BinDoc doc;
  for (const std::string& name : names) doc.add(name, "HalfStorage", {2}, name + "...");
  return doc.serialise();
}

std::string safetensors() {
  test::SafetensorsDoc doc;
  doc.add("s", "F32", {1}, "xxxx");
  return doc.serialise();
}

std::string index_of(const std::string& map) {
  return R"({"metadata":{"total_size":1},"weight_map":{)" + map + "}}";
}

Files sharded() {
  return {{"config.json", kConfig},
          {"pytorch_model-00001-of-00002.bin", bin({"a", "b"})},
          {"pytorch_model-00002-of-00002.bin", bin({"c"})},
          {"pytorch_model.bin.index.json", index_of(R"("a":"pytorch_model-00001-of-00002.bin",)"
                                                    R"("b":"pytorch_model-00001-of-00002.bin",)"
                                                    R"("c":"pytorch_model-00002-of-00002.bin")")}};
}

void write(const TempFolder& folder, const Files& files) {
  for (const auto& [name, bytes] : files) folder.write(name, bytes);
}

/// What opening is told, without the folder's path.
std::string refusal_of(const Files& files, const std::string& opened = "") {
  const TempFolder folder;
  write(folder, files);
  try {
    if (opened.empty()) {
      ModelFolder model(folder.path());
    } else {
      open_checkpoint(folder / opened);
    }
  } catch (const Error& error) {
    std::string text = error.what();
    const std::size_t at = text.find(folder.path());
    return at == 0 ? "F" + text.substr(folder.path().size()) : text;
  }
  return "accepted";
}

TEST(BinWeights, AreReadFromOneFile) {
  const TempFolder folder;
  write(folder, {{"config.json", kConfig}, {"pytorch_model.bin", bin({"a", "b"})}});
  ModelFolder model(folder.path());
  EXPECT_THAT(model.weight_files(), ElementsAre("pytorch_model.bin"));
  EXPECT_EQ(model.weight_file_bytes(), bin({"a", "b"}).size());
  EXPECT_EQ(model.weights().source(), folder / "pytorch_model.bin");
  const TensorView b = model.weights().require("b", {2}, {DType::kF16});
  EXPECT_EQ(std::string(b.as<const char>(), 4), "b...");
}

TEST(BinWeights, AreReadFromShards) {
  const TempFolder folder;
  write(folder, sharded());
  ModelFolder model(folder.path());
  EXPECT_THAT(model.weight_files(),
              ElementsAre("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"));
  EXPECT_EQ(model.weights().tensors().size(), 3U);
  EXPECT_EQ(std::string(model.weights().require("c", {2}).as<const char>(), 4), "c...");
  EXPECT_EQ(model.weights().source(), folder.path());
}

TEST(BinWeights, ShareBytesWhereStoragesAreTied) {
  BinDoc doc;
  doc.add("a", "FloatStorage", {2, 2}, std::string(16, 'a'));
  doc.tensors.push_back({"tied", "FloatStorage", "0", 4, 0, {2, 2}, {2, 1}});
  doc.tensors.push_back({"row", "FloatStorage", "0", 4, 2, {2}, {1}});
  doc.add("count", "LongStorage", {}, "12345678");
  const TempFolder folder;
  write(folder, {{"config.json", kConfig}, {"pytorch_model.bin", doc.serialise()}});
  ModelFolder model(folder.path());
  WeightStore& weights = model.weights();
  const TensorView a = weights.require("a", {2, 2});
  EXPECT_EQ(weights.require("tied", {2, 2}).data, a.data);
  EXPECT_EQ(weights.require("row", {2}).as<char>(), a.as<char>() + 8);
  weights.release(a, 0, 16);
  EXPECT_EQ(*weights.require("row", {2}).as<char>(), 'a');
  EXPECT_EQ(weights.tensors()[3].foreign, "I64");
}

TEST(BinWeights, GiveWayToSafetensors) {
  Files files = sharded();
  files["model.safetensors"] = safetensors();
  const TempFolder folder;
  write(folder, files);
  EXPECT_THAT(ModelFolder(folder.path()).weight_files(), ElementsAre("model.safetensors"));
  files = sharded();
  files["model-00001-of-00002.safetensors"] = safetensors();
  EXPECT_EQ(refusal_of(files),
            "F: shard_missing: got 'model-00001-of-00002.safetensors' without "
            "model.safetensors.index.json, allowed both");
}

TEST(BinWeights, AreRefusedForOtherFamilies) {
  for (const std::string type : {"llama", "hyena"}) {
    Files files = sharded();
    files["config.json"] = "{\"model_type\":\"" + type + "\"}";
    EXPECT_EQ(refusal_of(files),
              "F: shard_missing: weights, got 'pytorch_model-00001-of-00002.bin', a Python pickle "
              "(never read: it can run code), allowed model.safetensors or "
              "model.safetensors.index.json");
  }
  const std::string allowed =
      "allowed model.safetensors or model.safetensors.index.json, pytorch_model.bin or "
      "pytorch_model.bin.index.json";
  EXPECT_EQ(refusal_of({{"config.json", kConfig}}),
            "F: shard_missing: weights, got neither, " + allowed);
  EXPECT_EQ(refusal_of({{"config.json", kConfig}, {"model.pth", bin({"a"})}}),
            "F: shard_missing: weights, got 'model.pth', a Python pickle (never read: it can run "
            "code), " +
                allowed);
}

TEST(BinWeights, RefuseShardsThatAreNotTheIndexs) {
  const std::string first = "pytorch_model-00001-of-00002.bin";
  const auto of = [](const std::string& name, const std::optional<std::string>& bytes) {
    Files files = sharded();
    files.erase(name);
    if (bytes) files[name] = *bytes;
    return refusal_of(files);
  };
  const std::string index = "F/pytorch_model.bin.index.json: ";
  EXPECT_EQ(of("pytorch_model.bin.index.json", {}),
            "F: shard_missing: got '" + first +
                "' without pytorch_model.bin.index.json, allowed "
                "both");
  EXPECT_EQ(of(first, {}),
            index + "shard_missing: got no file '" + first + "', allowed all 2 that it names");
  EXPECT_EQ(of("pytorch_model.bin", bin({"a"})),
            index +
                "index_mismatch: shards, got a file 'pytorch_model.bin' that weight_map does "
                "not name, allowed exactly the 2 it names");
  EXPECT_THAT(of(first, bin({"a"})), HasSubstr("index_mismatch: tensor 'b', got no file that has"));
  EXPECT_THAT(of(first, bin({"a", "b", "x"})), HasSubstr("got no entry in weight_map"));
  EXPECT_THAT(of(first, bin({"a", "b", "c"})), HasSubstr("index_mismatch: tensor 'c', got it in"));
  EXPECT_THAT(of(first, "PK\x03\x04"), HasSubstr("F/" + first + ": zip_archive: end record"));
  EXPECT_EQ(refusal_of({{"config.json", kConfig},
                        {"pytorch_model.bin", bin({"a"})},
                        {"pytorch_model-00001-of-00001.bin", bin({"a"})}}),
            "F/pytorch_model.bin: index_mismatch: shards, got a file "
            "'pytorch_model-00001-of-00001.bin' that weight_map does not name, allowed exactly the "
            "1 it names");
}

TEST(BinWeights, AreOpenedByTheNameOfAFileToo) {
  Files files = sharded();
  EXPECT_THAT(refusal_of(files, "pytorch_model-00002-of-00002.bin"),
              HasSubstr("F/config.json: config: decoder_layers is missing"));
  files["config.json"] = R"({"model_type":"llama"})";
  EXPECT_THAT(refusal_of(files, "pytorch_model-00002-of-00002.bin"),
              HasSubstr("F: shard_missing: weights, got 'pytorch_model-00001-of-00002.bin', a "
                        "Python pickle (never read"));
  EXPECT_THAT(refusal_of({{"pytorch_model.bin", bin({"a"})}}, "pytorch_model.bin"),
              HasSubstr("a Python pickle, never read: it can run code"));
}

}  // namespace
}  // namespace heddle
