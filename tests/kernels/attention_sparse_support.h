#pragma once
// For tests of block-sparse attention: dense attention under a mask, and calls with every
// restriction there is.

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/kernels/attention_support.h"

namespace heddle::test {

/// Dense attention in f64 under a boolean mask, written from the formula.
inline std::vector<float> masked(const Cache& cache, const Rows& rows, const Reach& reach) {
  const Shape& shape = cache.shape();
  const double scale = 1.0F / std::sqrt(static_cast<float>(shape.dim));
  std::vector<float> out;
  for (std::int64_t t = 0; t < rows.n(); ++t) {
    const std::int64_t sequence = rows.sequence[static_cast<std::size_t>(t)];
    const std::int64_t position = rows.position[static_cast<std::size_t>(t)];
    for (std::int64_t h = 0; h < shape.n_q; ++h) {
      const std::int64_t g = h / (shape.n_q / shape.n_kv);
      const float* const q = rows.q.data() + (t * shape.n_q + h) * shape.dim;
      std::vector<double> o(static_cast<std::size_t>(shape.dim));
      double l =
          reach.sinks.empty() ? 0 : std::exp(double{reach.sinks[static_cast<std::size_t>(h)]});
      for (std::int64_t s = 0; s <= position; ++s) {
        const bool near = reach.window == 0 || position - s < reach.window;
        if (!(near || s < reach.first_keys) || !reach.blocks.has(t, g, s)) continue;
        double x = 0;
        for (std::int64_t d = 0; d < shape.dim; ++d) {
          x += static_cast<double>(q[d]) * cache.k(sequence, s, g, d);
        }
        x *= scale;
        if (reach.soft_cap != 0) x = reach.soft_cap * std::tanh(x / reach.soft_cap);
        l += std::exp(x);
        for (std::int64_t d = 0; d < shape.dim; ++d) {
          o[static_cast<std::size_t>(d)] += std::exp(x) * cache.v(sequence, s, g, d);
        }
      }
      const bool off =
          !rows.mask.empty() && rows.mask[static_cast<std::size_t>(t * shape.n_q + h)] == 0;
      for (const double x : o) out.push_back(off ? 0.0F : static_cast<float>(x / l));
    }
  }
  return out;
}

inline std::vector<float> some_sinks(std::int64_t n) {
  return test::Random(77).normals(n, 2.0F);
}

inline bool always(std::int64_t, std::int64_t, std::int64_t) {
  return true;
}
inline bool some_dense(std::int64_t position, std::int64_t list) {
  return (position + list) % 3 == 0;
}

/// Sinks, first keys and lists of several kinds, alone and together.
inline std::vector<Reach> reaches(const Rows& rows, const Shape& shape) {
  std::vector<Reach> all(6);
  all[0].sinks = some_sinks(shape.n_q);
  all[1].window = 70;
  all[1].first_keys = 20;
  all[2].blocks = block_lists(rows, 64, 1, coin);
  all[3].blocks = block_lists(rows, 16, shape.n_kv, coin, some_dense);
  all[4].blocks = block_lists(rows, 48, shape.n_kv, coin);
  all[4].soft_cap = 5.0F;
  all[5] = all[1];
  all[5].sinks = all[0].sinks;
  all[5].blocks = block_lists(rows, 32, 1, coin, some_dense);
  return all;
}

}  // namespace heddle::test
