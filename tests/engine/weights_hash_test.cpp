// The hash that binds a session to its model sees every byte of the weights.

#include "engine/weights_hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "models/folder_weights.h"
#include "models/mxfp4_weights.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temp_folder.h"

namespace heddle {
namespace {

using Hash = std::pair<std::uint64_t, std::uint64_t>;

Hash hash_of(const std::string& file, int threads = 2) {
  const test::TempFolder folder;
  folder.write("model.safetensors", file);
  Mxfp4Weights weights(FolderWeights::open(Folder(folder.path())));
  const Hash128 hash = weights_hash(weights, threads);
  EXPECT_EQ(weights_hash(weights, 1), hash);
  return {hash.low, hash.high};
}

/// Blocks with their scales, a type that no kernel reads, and an address that is odd.
test::SafetensorsDoc small() {
  test::SafetensorsDoc doc;
  doc.add("w_blocks", "U8", {2, 2, 16}, std::string(64, '\x35'));
  doc.add("w_scales", "U8", {2, 2}, "\x7f\x80\x7e\x81");
  doc.add("odd", "U8", {3}, "abc");
  doc.add_f32("norm", {2}, {1.0F, 2.0F});
  return doc;
}

TEST(WeightsHash, DependsOnEveryByte) {
  std::string file = small().serialise();
  const std::size_t n_bytes = 64 + 4 + 3 + 8;
  std::set<Hash> hashes = {hash_of(file)};
  for (std::size_t i = file.size() - n_bytes; i < file.size(); ++i) {
    file[i] = static_cast<char>(file[i] ^ 1);
    hashes.insert(hash_of(file));
    file[i] = static_cast<char>(file[i] ^ 1);
  }
  EXPECT_EQ(hashes.size(), n_bytes + 1);
}

TEST(WeightsHash, DependsOnNamesAndShapes) {
  const auto of = [](const std::string& name, const std::vector<std::int64_t>& shape) {
    test::SafetensorsDoc doc;
    doc.add_f32(name, shape, {1.0F, 2.0F, 3.0F, 4.0F});
    return hash_of(doc.serialise());
  };
  const std::set<Hash> hashes = {of("a", {2, 2}), of("b", {2, 2}), of("a", {1, 4}), of("a", {4})};
  EXPECT_EQ(hashes.size(), 4U);
}

TEST(WeightsHash, TensorsOfManyPiecesAreReadWhole) {
  constexpr std::size_t kMib = std::size_t{1} << 20U;
  std::string bytes(2 * kMib + kMib / 2 + 4, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 >> 7U);
  const auto of = [&] {
    test::SafetensorsDoc doc;
    doc.add("w", "I32", {static_cast<std::int64_t>(bytes.size() / 4)}, bytes);
    return hash_of(doc.serialise(), 4);
  };
  const auto want = of();
  for (const std::size_t at : {kMib - 1, kMib, 2 * kMib + 9, bytes.size() - 1}) {
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    EXPECT_NE(of(), want) << at;
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
  }
  EXPECT_EQ(of(), want);
}

}  // namespace
}  // namespace heddle
