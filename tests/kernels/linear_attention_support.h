#pragma once
// For tests of linear attention on the CPU: random tokens, poisoned state slots, and calls of a
// named variant.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_tables.h"
#include "tests/support/compare.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle::test::linear {

struct Shape {
  std::int64_t n_heads = 2;
  std::int64_t key_dim = 16;
  std::int64_t value_dim = 16;
  std::int64_t key_row() const { return n_heads * key_dim; }
  std::int64_t value_row() const { return n_heads * value_dim; }
};

/// A sequence of tokens, from position 0 on.
struct Tokens {
  Shape shape;
  std::vector<float> q, k, v;
  std::int64_t n() const { return static_cast<std::int64_t>(q.size()) / shape.key_row(); }
  Tokens absolute() const {
    Tokens t = *this;
    for (auto* x : {&t.q, &t.k, &t.v}) {
      for (float& f : *x) f = std::abs(f);
    }
    return t;
  }
};

inline Tokens random_tokens(const Shape& shape, std::int64_t n, std::uint64_t seed = 1) {
  Random random(seed);
  return {shape, random.normals(n * shape.key_row()), random.normals(n * shape.key_row()),
          random.normals(n * shape.value_row())};
}

/// Slots full of NaN.
struct States {
  States(const Shape& state_shape, std::int64_t n_slots)
      : shape(state_shape),
        n(n_slots),
        s(floats(n_slots * shape.key_row() * shape.value_dim)),
        tail_k(floats(n_slots * shape.key_row() * kLinearBlock)),
        tail_v(floats(n_slots * shape.value_row() * kLinearBlock)) {}

  static std::vector<float> floats(std::int64_t count) {
    return std::vector<float>(static_cast<std::size_t>(count),
                              std::numeric_limits<float>::quiet_NaN());
  }
  LinearState view() {
    LinearState state;
    state.s = {s.data(), DType::kF32, {n, shape.n_heads, shape.key_dim, shape.value_dim}};
    state.tail_k = {tail_k.data(), DType::kF32, {n, shape.n_heads, kLinearBlock, shape.key_dim}};
    state.tail_v = {tail_v.data(), DType::kF32, {n, shape.n_heads, kLinearBlock, shape.value_dim}};
    return state;
  }
  /// What a slot holds of a sequence of n_tokens: S if it is there, then the tail's keys and
  /// values.
  std::vector<float> valid(std::int64_t slot, std::int64_t n_tokens) const {
    std::vector<float> all;
    const auto take = [&](const std::vector<float>& from, std::int64_t dim, std::int64_t rows,
                          std::int64_t valid_rows) {
      for (std::int64_t h = 0; h < shape.n_heads; ++h) {
        const auto at = from.begin() + (slot * shape.n_heads + h) * rows * dim;
        all.insert(all.end(), at, at + valid_rows * dim);
      }
    };
    const std::int64_t tail = n_tokens % kLinearBlock;
    take(s, shape.value_dim, shape.key_dim, n_tokens >= kLinearBlock ? shape.key_dim : 0);
    take(tail_k, shape.key_dim, kLinearBlock, tail);
    take(tail_v, shape.value_dim, kLinearBlock, tail);
    return all;
  }

  Shape shape;
  std::int64_t n;
  std::vector<float> s, tail_k, tail_v;
};

/// Tokens [first, end) of a sequence; its state is in `slot` (negative: none).
struct Piece {
  const Tokens* tokens;
  std::int64_t first;
  std::int64_t end;
  std::int32_t slot;
};

/// A call's arguments with the rows they point to.
struct Call {
  Call(const Shape& s, States& states, const std::vector<Piece>& pieces) : shape(s) {
    const auto take = [](std::vector<float>& to, const std::vector<float>& from, std::int64_t row,
                         const Piece& p) {
      to.insert(to.end(), from.begin() + p.first * row, from.begin() + p.end * row);
    };
    for (const Piece& p : pieces) {
      take(q, p.tokens->q, s.key_row(), p);
      take(k, p.tokens->k, s.key_row(), p);
      take(v, p.tokens->v, s.value_row(), p);
      for (std::int64_t t = p.first; t < p.end; ++t) {
        sequence.push_back(static_cast<std::int32_t>(slots.size()));
        positions.push_back(static_cast<std::int32_t>(t));
      }
      slots.push_back(p.slot);
    }
    out.assign(v.size(), std::numeric_limits<float>::quiet_NaN());
    state = states.view();
  }

  LinearAttentionArgs args(const std::vector<float>& slopes, float scale) {
    const auto n = static_cast<std::int64_t>(sequence.size());
    LinearAttentionArgs a;
    a.q = {q.data(), DType::kF32, {n, shape.n_heads, shape.key_dim}};
    a.k = {k.data(), DType::kF32, {n, shape.n_heads, shape.key_dim}};
    a.v = {v.data(), DType::kF32, {n, shape.n_heads, shape.value_dim}};
    a.out = {out.data(), DType::kF32, {n, shape.n_heads, shape.value_dim}};
    a.slopes = {slopes.data(), DType::kF32, {shape.n_heads}};
    a.state = state;
    a.slots = {slots.data(), DType::kI32, {static_cast<std::int64_t>(slots.size())}};
    a.sequence = {sequence.data(), DType::kI32, {n}};
    a.positions = {positions.data(), DType::kI32, {n}};
    a.scale = scale;
    return a;
  }

  Shape shape;
  LinearState state;
  std::vector<float> q, k, v, out;
  std::vector<std::int32_t> slots, sequence, positions;
};

/// One variant with its threads, a scale and a slope for each head.
class Runner {
 public:
  Runner(std::string variant, std::vector<float> slopes, int n_threads = 1, float scale = 0.25F)
      : context_(n_threads, detect_cpu()),
        variant_(std::move(variant)),
        slopes_(std::move(slopes)),
        scale_(scale) {}

  /// The rows of all pieces, in one call.
  std::vector<float> step(States& states, const std::vector<Piece>& pieces) {
    Call call(states.shape, states, pieces);
    const LinearAttentionArgs args = call.args(slopes_, scale_);
    const auto* const v =
        find_variant(cpu::linear_attention_table(), variant_, args, context_.caps);
    if (v == nullptr) {
      ADD_FAILURE() << "no variant " << variant_ << " for this call";
      return {};
    }
    v->run(args, context_);
    return std::move(call.out);
  }

  /// A whole sequence, or its tokens from `first` on, in chunks of the given sizes, the last one
  /// again and again.
  std::vector<float> chunks(States& states,
                            const Tokens& tokens,
                            const std::vector<std::int64_t>& sizes,
                            std::int32_t slot = 0,
                            std::int64_t first = 0) {
    std::vector<float> out;
    std::size_t next = 0;
    while (first < tokens.n()) {
      const std::int64_t end = std::min(tokens.n(), first + sizes[next]);
      const std::vector<float> part = step(states, {{&tokens, first, end, slot}});
      out.insert(out.end(), part.begin(), part.end());
      first = end;
      next = std::min(next + 1, sizes.size() - 1);
    }
    return out;
  }

 private:
  CpuContext context_;
  std::string variant_;
  std::vector<float> slopes_;
  float scale_;
};

struct Result {
  std::vector<float> out;
  std::vector<float> state;
};

/// All of a sequence, in a fresh slot.
inline Result run_all(const std::string& variant,
                      const std::vector<float>& slopes,
                      const Tokens& tokens,
                      const std::vector<std::int64_t>& chunks,
                      int n_threads = 1) {
  Runner runner(variant, slopes, n_threads);
  States states(tokens.shape, 1);
  Result r;
  r.out = runner.chunks(states, tokens, chunks);
  r.state = states.valid(0, tokens.n());
  return r;
}

/// Slopes of H heads by the ALiBi rule: 2^(-8 (h + 1) / H) for a power of two, else those of the
/// next lower one, then every second of the next higher one's.
inline std::vector<float> alibi_slopes(std::int64_t n_heads) {
  std::int64_t p = 1;
  while (2 * p <= n_heads) p *= 2;
  const auto slope = [](std::int64_t h, std::int64_t n) {
    return static_cast<float>(
        std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(n)));
  };
  std::vector<float> s;
  for (std::int64_t h = 0; h < p; ++h) s.push_back(slope(h, p));
  for (std::int64_t h = 0; h < n_heads - p; ++h) s.push_back(slope(2 * h, 2 * p));
  return s;
}

/// |fast - ref| of a result is at most the count of roundings that one of its terms goes through,
/// times half an eps, times the sum of the terms' absolute values, which ref gives for absolute
/// inputs: the dot products, 17 sums and two factors in each block that the state passes, and some.
inline double roundings(const Tokens& tokens) {
  return static_cast<double>(tokens.shape.key_dim) +
         19.0 * static_cast<double>(tokens.n() / kLinearBlock + 2) + 8.0;
}

inline testing::AssertionResult agrees_with_ref(const std::string& variant,
                                                const std::vector<float>& slopes,
                                                const Tokens& tokens,
                                                const std::vector<std::int64_t>& chunks) {
  const Result got = run_all(variant, slopes, tokens, chunks);
  const Result expected = run_all("ref", slopes, tokens, {tokens.n()});
  const Result size = run_all("ref", slopes, tokens.absolute(), {tokens.n()});
  const double c = roundings(tokens) * kEpsF32 / 2;
  const auto bound = [c](const std::vector<float>& terms) {
    return [c, &terms](std::size_t i) { return c * std::abs(terms[i]); };
  };
  if (auto out = within_bound(got.out, expected.out, bound(size.out)); !out) return out;
  auto state = within_bound(got.state, expected.state, bound(size.state));
  if (!state) state << ", of the state";
  return state;
}

}  // namespace heddle::test::linear
