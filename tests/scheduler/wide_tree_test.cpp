// Nodes of the prefix cache with many children: what is found, taken out and kept is what a walk
// over all of them gives.

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <vector>

#include "scheduler/prefix_cache.h"

namespace heddle {
namespace {

constexpr int kBlock = 8;

/// A tree of one system message and what follows it, and the same as a list of texts.
class WideTree {
 public:
  explicit WideTree(bool states, int few_children, int n_blocks = 4000)
      : states_(states),
        blocks_(n_blocks),
        slots_(states ? n_blocks : 0),
        cache_({.block_tokens = kBlock,
                .states = states,
                .state_block_tokens = states ? kBlock : 1,
                .few_children = few_children},
               blocks_,
               slots_) {}

  /// Its last tokens are fewer than a block's; the state after them is kept if there are any.
  void insert(const std::vector<Token>& text) {
    PrefixNode node = cache_.root("");
    for (std::size_t begin = 0; begin < text.size(); begin += kBlock) {
      const std::optional<BlockId> block = blocks_.allocate();
      ASSERT_TRUE(block.has_value());
      const auto part = std::span(text).subspan(begin);
      node = cache_.insert(node, part.first(std::min<std::size_t>(kBlock, part.size())), *block);
      ASSERT_NE(node, kNoNode);
      blocks_.release(*block);
      cache_.released(*block);
    }
    if (states_) {
      const BlockId slot = slots_.allocate().value();
      if (!cache_.add_snapshot(node, std::ssize(text), slot)) slots_.release(slot);
    }
    texts_.push_back(text);
  }
  void forget(const std::vector<Token>& text) { std::erase(texts_, text); }
  void discard(const std::vector<Token>& text, std::int64_t from) {
    cache_.discard("", text, from);
  }

  Reuse match(const std::vector<Token>& text) { return cache_.match("", text).reuse; }

  /// Of texts that were put in: as far as the longest agrees.
  std::int64_t known(const std::vector<Token>& text) const {
    std::int64_t known = 0;
    for (const std::vector<Token>& t : texts_) known = std::max(known, common(t, text));
    return known;
  }
  /// As far as the last state reaches: the one at the end of a text serves its last block.
  std::int64_t served(const std::vector<Token>& text) const {
    std::int64_t served = 0;
    for (const std::vector<Token>& t : texts_) {
      const std::int64_t n = std::min(common(t, text), std::ssize(text) - 1);
      if (n >= std::ssize(t) / kBlock * kBlock) served = std::max(served, n);
    }
    return served;
  }
  PrefixCache& cache() { return cache_; }

 private:
  static std::int64_t common(const std::vector<Token>& a, const std::vector<Token>& b) {
    return std::ranges::mismatch(a, b).in1 - a.begin();
  }
  bool states_;
  BlockPool blocks_;
  BlockPool slots_;
  PrefixCache cache_;
  std::vector<std::vector<Token>> texts_;
};

/// A system message of two blocks, and a question.
std::vector<Token> question(std::mt19937& rng, int vocab, int longest) {
  std::vector<Token> text;
  for (int i = 0; i < 2 * kBlock; ++i) text.push_back(i);
  const auto n = 1 + rng() % static_cast<unsigned>(longest);
  for (unsigned i = 0; i < n; ++i) {
    text.push_back(static_cast<Token>(rng() % static_cast<unsigned>(vocab)));
  }
  return text;
}

TEST(WideTree, FindsWhatAWalkOverAllTextsFinds) {
  for (const bool states : {false, true}) {
    for (const int few : {1, 16, 1 << 30}) {
      std::mt19937 rng(3);
      WideTree tree(states, few);
      for (int i = 0; i < 600; ++i) {
        tree.insert(question(rng, i % 2 == 0 ? 4 : 300, 2 * kBlock + 3));
        if (i % 50 == 0) tree.cache().check();
        const std::vector<Token> asked = question(rng, i % 3 == 0 ? 300 : 4, 2 * kBlock + 3);
        const Reuse found = tree.match(asked);
        ASSERT_EQ(found.n_known, tree.known(asked)) << few;
        const std::int64_t most = std::ssize(asked) - 1;
        ASSERT_EQ(found.n_cached, states ? tree.served(asked) : std::min(found.n_known, most));
      }
      tree.cache().check();
    }
  }
}

TEST(WideTree, EvictsAndDiscardsToTheLastChild) {
  for (const bool states : {false, true}) {
    std::mt19937 rng(5);
    WideTree tree(states, 16);
    std::vector<std::vector<Token>> texts;
    for (int i = 0; i < 300; ++i) {
      texts.push_back(question(rng, 50, 2 * kBlock));
      tree.insert(texts.back());
    }
    for (int i = 0; i < 100; ++i) {
      const std::vector<Token>& text = texts[static_cast<std::size_t>(i)];
      tree.discard(text, 2 * kBlock);
      tree.forget(text);
      EXPECT_LE(tree.match(text).n_known, std::max<std::int64_t>(tree.known(text), 2 * kBlock));
      tree.cache().check();
    }
    for (int i = 0; tree.cache().evict_block(); ++i) {
      if (i % 20 == 0) tree.cache().check();
    }
    tree.cache().check();
    EXPECT_EQ(tree.cache().stats().blocks, 0);
    EXPECT_EQ(tree.cache().stats().snapshots, 0);
  }
}

}  // namespace
}  // namespace heddle
