// The loops of every fast linear attention variant over a vector type V (simd16.h); the order of
// every sum is in kernels/api/linear_attention.h. Included by linear_attention_<isa>.cpp only,
// after that file's V.

#pragma once
#include "kernels/cpu/linear_attention_kernels.h"
#include "kernels/cpu/simd16_tile.h"

namespace heddle::cpu {
namespace {

// Rows of S that pass together through the products of a block: they stay in the first cache.
constexpr std::int64_t kStateRows = 32;

// The tokens of one block of B that a task computes, [begin, end), with all keys and values since
// the block's first. Rows are copied side by side: heads of a row are far apart, often at a
// distance that a cache cannot take 16 times. Keys and queries are padded with zeros to 16.
struct LinearBlock {
  float* q;        // [B][padded]
  float* k;        // [B][padded]
  float* decayed;  // [B][padded]: exp(-s (B - 1 - j)) k_j
  float* v;        // [B][columns]
  float* o;        // [B][columns]: inter
  float* intra;    // [B][B]
  std::int64_t padded;
  std::int64_t columns;
  std::int64_t begin;
  std::int64_t end;
  bool has_state;
  bool folds;
};

constexpr std::int64_t padded_keys(std::int64_t key_dim) {
  return (key_dim + 15) / 16 * 16;
}

constexpr std::int64_t linear_scratch(std::int64_t key_dim, std::int64_t n_columns) {
  return kLinearRows * (3 * padded_keys(key_dim) + 2 * n_columns + kLinearRows);
}

inline LinearBlock cut_linear_scratch(float* memory, std::int64_t key_dim, std::int64_t n_columns) {
  LinearBlock b = {};
  b.padded = padded_keys(key_dim);
  b.columns = n_columns;
  b.q = memory;
  b.k = b.q + kLinearRows * b.padded;
  b.decayed = b.k + kLinearRows * b.padded;
  b.v = b.decayed + kLinearRows * b.padded;
  b.o = b.v + kLinearRows * n_columns;
  b.intra = b.o + kLinearRows * n_columns;
  return b;
}

template <typename V>
void copy_row(float* to, const float* from, std::int64_t n) {
  std::int64_t d = 0;
  for (; d + 16 <= n; d += 16) V::store(to + d, V::load(from + d));
  if (d < n) V::store(to + d, V::load_n(from + d, static_cast<int>(n - d), V::zero()));
}

// first_row: the call's row of the block's token `begin`.
template <typename V>
void load_block(const LinearProblem& p,
                const LinearTask& task,
                std::int64_t first_row,
                const LinearBlock& b) {
  for (std::int64_t j = 0; j < b.end; ++j) {
    const std::int64_t row = (first_row + j - b.begin) * p.n_heads + task.head;
    const std::int64_t tail = task.state * kLinearRows + j;
    const bool in_tail = j < b.begin;
    const float* const k = in_tail ? p.tail_k + tail * p.key_dim : p.k + row * p.key_dim;
    const float* const v = in_tail ? p.tail_v + tail * p.value_dim : p.v + row * p.value_dim;
    copy_row<V>(b.k + j * b.padded, k, p.key_dim);
    copy_row<V>(b.v + j * b.columns, v + task.column_begin, b.columns);
    if (!in_tail) copy_row<V>(b.q + j * b.padded, p.q + row * p.key_dim, p.key_dim);
  }
  for (std::int64_t j = 0; b.folds && j < kLinearRows; ++j) {
    const auto factor = V::set1(task.decay.power[kLinearRows - 1 - j]);
    for (std::int64_t d = j * b.padded; d < (j + 1) * b.padded; d += 16) {
      V::store(b.decayed + d, V::mul(factor, V::load(b.k + d)));
    }
  }
}

// to[n] = q . k[n], n < N.
template <typename V, int N>
HEDDLE_SIMD void dot_keys(const float* q, const float* k, std::int64_t padded, float* to) {
  typename V::F sum[N];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) sum[n] = V::zero();
  for (std::int64_t d = 0; d < padded; d += 16) {
    const auto x = V::load(q + d);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sum[n] = V::fma(x, V::load(k + n * padded + d), sum[n]);
  }
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) to[n] = V::reduce_add(sum[n]);
}

template <typename V>
void intra_weights(const LinearBlock& b, const LinearDecay& decay) {
  for (std::int64_t i = b.begin; i < b.end; ++i) {
    const float* const q = b.q + i * b.padded;
    float* const to = b.intra + i * kLinearRows;
    std::int64_t j = 0;
    for (; j + 4 <= i + 1; j += 4) dot_keys<V, 4>(q, b.k + j * b.padded, b.padded, to + j);
    for (; j <= i; ++j) dot_keys<V, 1>(q, b.k + j * b.padded, b.padded, to + j);
    for (j = 0; j <= i; ++j) to[j] *= decay.power[i - j];
  }
}

// f<R>(i) for the rows i .. i + R of [begin, end).
template <typename V, typename Fn>
HEDDLE_SIMD void for_row_groups(std::int64_t begin, std::int64_t end, const Fn& f) {
  for (std::int64_t i = begin; i < end; i += V::kMaxRows) {
    const int rows = end - i < V::kMaxRows ? static_cast<int>(end - i) : V::kMaxRows;
    with_rows<V::kMaxRows>(rows, [&]<int R>() { f.template operator()<R>(i); });
  }
}

// o[r][0 .. 16) += sum over n rows of S of q[r][d] S[d][0 .. 16); from +0 if they are S's first.
// One vector of columns at a time: more of them would share broadcasts, but read the caches in an
// order that is slower by more than that.
template <typename V, int R>
HEDDLE_SIMD void inter_rows(const float* q,
                            const float* s,
                            std::int64_t value_dim,
                            const LinearBlock& b,
                            std::int64_t n,
                            bool first,
                            float* o) {
  typename V::F sum[R][1];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) sum[r][0] = first ? V::zero() : V::load(o + r * b.columns);
  for (std::int64_t d = 0; d < n; ++d) {
    const float* const row[1] = {s};
    multiply_add<V, R, 1>(sum, row, [&](int r) { return V::set1(q[r * b.padded + d]); });
    s += value_dim;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) V::store(o + r * b.columns, sum[r][0]);
}

// The same for one row of q, where S comes from memory: strictly in order of addresses, three times
// as fast as by columns, whose sums would stay in registers.
template <typename V>
void inter_row(const float* q,
               const float* s,
               std::int64_t value_dim,
               std::int64_t n_columns,
               std::int64_t n,
               bool first,
               float* o) {
  for (std::int64_t c = 0; first && c < n_columns; c += 16) V::store(o + c, V::zero());
  for (std::int64_t d = 0; d < n; ++d) {
    const auto x = V::set1(q[d]);
    for (std::int64_t c = 0; c < n_columns; c += 16) {
      V::store(o + c, V::fma(x, V::load(s + c), V::load(o + c)));
    }
    s += value_dim;
  }
}

// R rows of S, from d on, become those after the block; columns c .. c + 16.
template <typename V, int R>
HEDDLE_SIMD void fold_rows(const LinearBlock& b,
                           const LinearDecay& decay,
                           std::int64_t d,
                           std::int64_t c,
                           float* s,
                           std::int64_t value_dim) {
  typename V::F sum[R][1];
  const auto fold = V::set1(decay.fold);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    if (!b.has_state) {
      sum[r][0] = V::zero();
      continue;
    }
    const auto old = V::load(s + r * value_dim);
    sum[r][0] = decay.fold_is_minus_one ? V::fma(fold, old, old) : V::mul(fold, old);
  }
  const float* keys = b.decayed + d;
  const float* values = b.v + c;
  for (std::int64_t j = 0; j < kLinearRows; ++j) {
    const float* const row[1] = {values};
    multiply_add<V, R, 1>(sum, row, [&](int r) { return V::set1(keys[r]); });
    keys += b.padded;
    values += b.columns;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) V::store(s + r * value_dim, sum[r][0]);
}

// Everything that touches S, which is read once.
template <typename V>
void pass_state(const LinearProblem& p, const LinearTask& task, const LinearBlock& b) {
  float* s = p.s + task.state * p.key_dim * p.value_dim + task.column_begin;
  for (std::int64_t d = 0; d < p.key_dim; d += kStateRows) {
    const std::int64_t n = p.key_dim - d < kStateRows ? p.key_dim - d : kStateRows;
    if (b.has_state && b.end - b.begin == 1) {
      inter_row<V>(b.q + b.begin * b.padded + d, s, p.value_dim, b.columns, n, d == 0,
                   b.o + b.begin * b.columns);
    } else if (b.has_state) {
      for_row_groups<V>(b.begin, b.end, [&]<int R>(std::int64_t i) {
        for (std::int64_t c = 0; c < b.columns; c += 16) {
          inter_rows<V, R>(b.q + i * b.padded + d, s + c, p.value_dim, b, n, d == 0,
                           b.o + i * b.columns + c);
        }
      });
    }
    if (b.folds) {
      for_row_groups<V>(0, n, [&]<int R>(std::int64_t i) {
        for (std::int64_t c = 0; c < b.columns; c += 16) {
          fold_rows<V, R>(b, task.decay, d + i, c, s + i * p.value_dim + c, p.value_dim);
        }
      });
    }
    s += n * p.value_dim;
  }
}

// Rows i .. i + R, columns c .. c + 16: what is in o decays, the block's own values come on top;
// each row ends with its own. to: where the first row's go.
template <typename V, int R>
HEDDLE_SIMD void finish_rows(const LinearProblem& p,
                             const LinearDecay& decay,
                             const LinearBlock& b,
                             std::int64_t i,
                             std::int64_t c,
                             float* to) {
  typename V::F sum[R][1];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const auto factor = V::set1(decay.power[i + r + 1]);
    sum[r][0] = b.has_state ? V::mul(factor, V::load(b.o + (i + r) * b.columns + c)) : V::zero();
  }
  const float* const weights = b.intra + i * kLinearRows;
  const float* values = b.v + c;
  for (std::int64_t j = 0; j <= i; ++j) {
    const float* const row[1] = {values};
    multiply_add<V, R, 1>(sum, row, [&](int r) { return V::set1(weights[r * kLinearRows + j]); });
    values += b.columns;
  }
#pragma GCC unroll 8
  for (int r = 1; r < R; ++r) {
#pragma GCC unroll 8
    for (int j = 1; j <= r; ++j) {
      const auto weight = V::set1(weights[r * kLinearRows + i + j]);
      sum[r][0] = V::fma(weight, V::load(values + (j - 1) * b.columns), sum[r][0]);
    }
  }
  const auto scale = V::set1(p.scale);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    V::store(to + r * p.n_heads * p.value_dim, V::mul(scale, sum[r][0]));
  }
}

template <typename V>
void run_linear_task(const LinearProblem& p, const LinearTask& task, float* scratch) {
  LinearBlock b = cut_linear_scratch(scratch, p.key_dim, task.column_end - task.column_begin);
  std::int64_t row = task.first_row;
  std::int64_t position = task.position;
  std::int64_t left = task.n_rows;
  while (left > 0) {
    b.begin = position % kLinearRows;
    b.end = left < kLinearRows - b.begin ? b.begin + left : kLinearRows;
    b.has_state = position >= kLinearRows;
    b.folds = b.end == kLinearRows;
    load_block<V>(p, task, row, b);
    intra_weights<V>(b, task.decay);
    pass_state<V>(p, task, b);
    for_row_groups<V>(b.begin, b.end, [&]<int R>(std::int64_t i) {
      float* const out = p.out + ((row + i - b.begin) * p.n_heads + task.head) * p.value_dim;
      for (std::int64_t c = 0; c < b.columns; c += 16) {
        finish_rows<V, R>(p, task.decay, b, i, c, out + task.column_begin + c);
      }
    });
    const std::int64_t n = b.end - b.begin;
    row += n;
    position += n;
    left -= n;
  }
}

template <typename V>
constexpr LinearKernels linear_kernels() {
  LinearKernels k;
  k.scratch = [](std::int64_t key_dim, std::int64_t n) { return linear_scratch(key_dim, n); };
  k.run = run_linear_task<V>;
  return k;
}

}  // namespace
}  // namespace heddle::cpu
