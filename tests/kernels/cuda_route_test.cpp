// route and route_heads on CUDA against the CPU's `ref`. Ids must be the same: the random scores
// have no ties but those made on purpose. Weights: x - max is at most 20 and rounded, so exp moves
// by 20 * 2^-24 relative, errs by 2 ulp of its own, and its quotient is rounded a few times more:
// 32 * 2^-24; f64 sums add nothing.

#include <cmath>
#include <limits>

#include "tests/kernels/cuda_ops_support.h"

namespace heddle {
namespace {

using test::on_cuda;
using test::on_ref;
using test::Place;

constexpr double kRelative = 32 * 0x1p-24;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct Routed {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

struct RouteCase {
  std::int64_t n_tokens, n_experts, top_k;
  int n_groups, top_groups;
};
constexpr RouteCase kCases[] = {{1, 8, 2, 1, 1},   {7, 31, 3, 1, 1}, {33, 32, 32, 1, 1},
                                {31, 33, 8, 1, 1}, {5, 64, 6, 8, 3}, {3, 256, 8, 8, 4},
                                {0, 16, 2, 1, 1},  {4, 1, 1, 1, 1},  {2, 2048, 16, 1, 1},
                                {9, 12, 4, 12, 6}};

Routed route(Place& place,
             const RouteCase& c,
             const std::vector<float>& logits,
             const std::vector<float>& bias,
             RouterScore score,
             bool renormalise) {
  RouteArgs args;
  args.logits = place.floats(logits, {c.n_tokens, c.n_experts});
  if (!bias.empty()) args.bias = place.floats(bias, {c.n_experts});
  args.ids = place.room(DType::kI32, {c.n_tokens, c.top_k});
  args.weights = place.room(DType::kF32, {c.n_tokens, c.top_k});
  args.score = score;
  args.renormalise = renormalise;
  args.scale = 2.5F;
  args.n_groups = c.n_groups;
  args.top_groups = c.top_groups;
  place.ops().route(args);
  return {place.ints(args.ids), place.floats(args.weights)};
}

void expect_same(const Routed& actual, const Routed& expected) {
  EXPECT_EQ(actual.ids, expected.ids);
  EXPECT_TRUE(test::within_bound(actual.weights, expected.weights, [&](std::size_t i) {
    return kRelative * std::abs(static_cast<double>(expected.weights[i])) + 0x1p-126;
  }));
}

TEST(CudaRoute, MatchesTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const RouteCase& c : kCases) {
    test::Random random(1);
    const std::vector<float> logits = random.normals(c.n_tokens * c.n_experts, 2.0F);
    const std::vector<float> some_bias = random.normals(c.n_experts, 0.3F);
    for (const auto score : {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kChosen}) {
      for (const bool biased : {false, true}) {
        for (const bool renormalise : {false, true}) {
          SCOPED_TRACE(testing::Message() << c.n_experts << " experts, score "
                                          << static_cast<int>(score) << biased << renormalise);
          const auto run = [&](Place& place) {
            return route(place, c, logits, biased ? some_bias : std::vector<float>(), score,
                         renormalise);
          };
          expect_same(on_cuda(*backend, run), on_ref("route", run));
        }
      }
    }
  }
}

TEST(CudaRoute, TiesGoToTheLowestIndexAndNansLast) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const RouteCase c{3, 40, 5, 1, 1};
  std::vector<float> logits(3 * 40, 0.5F);
  logits[33] = logits[7] = 2.0F;
  for (std::size_t i = 40; i < 80; ++i) logits[i] = i < 77 ? kNan : -1.0F;
  logits[80 + 39] = kInf;
  logits[80 + 3] = -kInf;
  const auto run = [&](Place& place) {
    return route(place, c, logits, {}, RouterScore::kSigmoid, false);
  };
  expect_same(on_cuda(*backend, run), on_ref("route", run));
}

TEST(CudaRoute, ATokenAloneHasTheBitsOfItsBatch) {
  HEDDLE_CUDA_OR_SKIP(backend);
  const std::vector<float> logits = test::Random(2).normals(5 * 64);
  const auto run = [&](std::int64_t first, std::int64_t n) {
    const std::vector<float> part(logits.begin() + first * 64, logits.begin() + (first + n) * 64);
    return on_cuda(*backend, [&](Place& place) {
      return route(place, {n, 64, 4, 1, 1}, part, {}, RouterScore::kSoftmax, true);
    });
  };
  const Routed all = run(0, 5);
  const Routed last = run(4, 1);
  EXPECT_TRUE(test::same_bits(last.weights, std::span(all.weights).last(4)));
}

struct Heads {
  std::vector<std::byte> mask;
  std::vector<float> gates;
};

TEST(CudaRouteHeads, LogitsMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  struct Case {
    std::int64_t n, n_heads;
    int n_shared, top_k;
  };
  for (const Case& c : {Case{1, 8, 2, 3}, Case{7, 32, 0, 16}, Case{33, 33, 1, 31}, Case{0, 4, 1, 1},
                        Case{5, 64, 40, 24}, Case{3, 100, 33, 40}}) {
    test::Random random(3);
    const std::int64_t n_routed = c.n_heads - c.n_shared;
    std::vector<float> routed = random.normals(c.n * n_routed, 2.0F);
    const std::vector<float> shared = random.normals(c.n * c.n_shared);
    const std::vector<float> stage = random.normals(c.n * 2);
    if (c.n > 4) routed[0] = kNan;
    const auto run = [&](Place& place) {
      RouteHeadsArgs args;
      args.routed = place.floats(routed, {c.n, n_routed});
      if (c.n_shared > 0) {
        args.shared = place.floats(shared, {c.n, c.n_shared});
        args.stage = place.floats(stage, {c.n, 2});
      }
      args.mask = place.room(DType::kU8, {c.n, c.n_heads});
      args.gates = place.room(DType::kF32, {c.n, c.n_heads});
      args.n_shared = c.n_shared;
      args.top_k = c.top_k;
      place.ops().route_heads(args);
      return Heads{place.bytes(args.mask), place.floats(args.gates)};
    };
    const Heads expected = on_ref("route_heads", run);
    const Heads actual = on_cuda(*backend, run);
    EXPECT_TRUE(actual.mask == expected.mask) << c.n_heads;
    EXPECT_TRUE(test::within_bound(actual.gates, expected.gates, [&](std::size_t i) {
      return kRelative * std::abs(static_cast<double>(expected.gates[i]));
    })) << c.n_heads;
  }
}

TEST(CudaRouteHeads, NormsMatchTheOracle) {
  HEDDLE_CUDA_OR_SKIP(backend);
  for (const std::int64_t head_dim : {1, 7, 16, 64, 128}) {
    for (const std::int64_t n_heads : {4, 9, 32}) {
      const std::vector<float> q = test::Random(4).normals(7 * n_heads * head_dim);
      const auto run = [&](Place& place) {
        RouteHeadsArgs args;
        args.q = place.floats(q, {7, n_heads, head_dim});
        args.mask = place.room(DType::kU8, {7, n_heads});
        args.n_shared = 1;
        args.top_k = 2;
        place.ops().route_heads(args);
        return place.bytes(args.mask);
      };
      EXPECT_TRUE(on_cuda(*backend, run) == on_ref("route_heads", run))
          << head_dim << " " << n_heads;
    }
  }
}

}  // namespace
}  // namespace heddle
