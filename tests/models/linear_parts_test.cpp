// Where the parts of a fused tensor of linear attention stand.

#include "models/families/linear_parts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/expected_weights.h"

namespace heddle {
namespace {

using ::testing::ElementsAre;

TEST(RowsByHead, EachHeadHasItsPartsInARow) {
  // two heads of two: q0 q0 k0 k0 v0 v0 q1 q1 k1 k1 v1 v1
  EXPECT_THAT(rows_by_head(2, 2, 0, 3), ElementsAre(0, 1, 6, 7));
  EXPECT_THAT(rows_by_head(2, 2, 1, 3), ElementsAre(2, 3, 8, 9));
  EXPECT_THAT(rows_by_head(2, 2, 2, 3), ElementsAre(4, 5, 10, 11));
  EXPECT_THAT(rows_by_head(1, 3, 1, 2), ElementsAre(3, 4, 5));
  EXPECT_THAT(rows_by_head(3, 1, 0, 1), ElementsAre(0, 1, 2));
}

TEST(RowsByHead, ThePartsTogetherAreAllRowsOnce) {
  std::vector<std::int32_t> all;
  for (int part = 0; part < 3; ++part) {
    const std::vector<std::int32_t> rows = rows_by_head(5, 4, part, 3);
    EXPECT_TRUE(std::is_sorted(rows.begin(), rows.end()));
    all.insert(all.end(), rows.begin(), rows.end());
  }
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), 60U);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<std::int32_t>(i));
}

LinearAttentionSpec two_heads() {
  LinearAttentionSpec spec;
  spec.n_heads = 2;
  spec.head_dim = 4;
  return spec;
}

LinearAttentionNames names_of(const LinearAttentionSpec& spec,
                              const LinearNaming& naming,
                              test::ExpectedWeights& weights) {
  TensorCheck tensors(weights);
  LinearAttentionNames names = linear_names(spec, 16, naming, "l.", tensors);
  tensors.finish("any");
  return names;
}

TEST(LinearNames, SeparateTensorsAreWhole) {
  test::ExpectedWeights weights({});
  LinearAttentionSpec spec = two_heads();
  spec.norm_weight = false;
  const LinearAttentionNames names = names_of(spec, {}, weights);
  EXPECT_EQ(names.v.tensor, "l.self_attn.v_proj.weight");
  EXPECT_EQ(names.v.rows, 8);
  EXPECT_EQ(names.v.of_rows, 8);
  EXPECT_EQ(names.o.rows, 16);
  for (const TensorPart* part : {&names.q_norm, &names.k_norm, &names.gate, &names.norm}) {
    EXPECT_TRUE(part->absent());
  }
  EXPECT_EQ(weights.tensors().size(), 4U);
}

TEST(LinearNames, ContiguousPartsFollowEachOther) {
  test::ExpectedWeights weights({});
  LinearNaming naming;
  naming.rows = LinearNaming::Rows::kContiguous;
  naming.qkv = "qkv";
  naming.norm = "norm";
  const LinearAttentionNames names = names_of(two_heads(), naming, weights);
  const TensorPart* const parts[] = {&names.q, &names.k, &names.v};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(parts[i]->tensor, "l.qkv.weight");
    EXPECT_EQ(parts[i]->first_row, 8 * i);
    EXPECT_EQ(parts[i]->rows, 8);
    EXPECT_EQ(parts[i]->of_rows, 24);
    EXPECT_TRUE(parts[i]->row_order.empty());
  }
  EXPECT_EQ(names.norm.rows, 8);
}

TEST(LinearNames, PartsByHeadArePicked) {
  test::ExpectedWeights weights({});
  LinearAttentionSpec spec = two_heads();
  spec.gate = OutputGate::kSigmoid;
  spec.qk_norm = QkNormSpec{1e-5F, true};
  LinearNaming naming;
  naming.rows = LinearNaming::Rows::kByHead;
  naming.qkv = "qkv";
  naming.norm = "norm";
  naming.gate = "gate";
  const LinearAttentionNames names = names_of(spec, naming, weights);
  EXPECT_EQ(names.k.row_order, rows_by_head(2, 4, 1, 3));
  EXPECT_EQ(names.k.picked_from, 24);
  EXPECT_EQ(names.k.rows, 8);
  EXPECT_EQ(names.q_norm.rows, 8);  // of all heads together
  EXPECT_EQ(names.gate.rows, 8);
  spec.qk_norm->all_heads = false;
  test::ExpectedWeights others({});
  EXPECT_EQ(names_of(spec, naming, others).k_norm.rows, 4);
}

}  // namespace
}  // namespace heddle
