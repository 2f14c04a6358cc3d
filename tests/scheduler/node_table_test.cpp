#include "scheduler/node_table.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace heddle {
namespace {

TEST(NodeTable, HoldsWhatASetHolds) {
  for (const std::uint64_t spread : {std::uint64_t{3}, std::uint64_t{50}, ~std::uint64_t{0}}) {
    std::mt19937_64 random(spread);
    std::vector<Hash128> hashes;
    for (std::uint64_t i = 0; i < 500; ++i) hashes.push_back({random() % spread, i});
    const auto hash_of = [&](std::int32_t node) -> const Hash128& {
      return hashes[static_cast<std::size_t>(node)];
    };
    NodeTable table;
    std::set<std::int32_t> there;
    EXPECT_EQ(table.find(hashes[0], hash_of), NodeTable::kNone);
    for (int op = 0; op < 20000; ++op) {
      const auto node = static_cast<std::int32_t>(random() % hashes.size());
      const Hash128& hash = hash_of(node);
      if (there.erase(node) > 0) {
        table.erase(hash, hash_of);
      } else {
        table.insert(node, hash_of);
        there.insert(node);
      }
      EXPECT_EQ(table.size(), there.size());
      const auto other = static_cast<std::int32_t>(random() % hashes.size());
      ASSERT_EQ(table.find(hash_of(other), hash_of), there.contains(other) ? other : -1);
    }
    for (std::int32_t node = 0; node < 500; ++node) {
      ASSERT_EQ(table.find(hash_of(node), hash_of), there.contains(node) ? node : -1);
    }
  }
}

}  // namespace
}  // namespace heddle
