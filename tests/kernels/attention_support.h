#pragma once
// For tests of paged attention on the CPU: random caches in scattered, poisoned blocks, query rows,
// and one call of a named variant.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/half.h"
#include "kernels/cpu/cpu_tables.h"
#include "tests/support/compare.h"
#include "tests/support/cpu_variants.h"
#include "tests/support/random.h"

namespace heddle::test {

struct Shape {
  std::int64_t n_q = 3;
  std::int64_t n_kv = 1;
  std::int64_t dim = 16;
  std::int64_t tokens = 16;
  DType dtype = DType::kF16;
};

// Sequences of given lengths with random keys and values in scattered blocks; all that no position
// occupies is filled with 0xFF (NaN in every format), and the block tables' unused ends with -1.
class Cache {
 public:
  Cache(const Shape& shape, const std::vector<std::int64_t>& lengths, std::uint64_t seed = 1)
      : shape_(shape) {
    for (const std::int64_t length : lengths) {
      max_blocks_ = std::max(max_blocks_, (length + shape.tokens - 1) / shape.tokens + 1);
    }
    n_blocks_ = max_blocks_ * static_cast<std::int64_t>(lengths.size()) + 3;
    bytes_ = static_cast<std::size_t>(row_bytes(shape.dtype, 1));
    const auto n = static_cast<std::size_t>(n_blocks_ * shape.n_kv * shape.dim * shape.tokens);
    k_.assign(n * bytes_, 0xFF);
    v_.assign(n * bytes_, 0xFF);
    Random random(seed);
    std::vector<std::int32_t> free(static_cast<std::size_t>(n_blocks_));
    for (std::size_t i = 0; i < free.size(); ++i) free[i] = static_cast<std::int32_t>(i);
    shuffle(free, seed ^ 0x55U);
    for (const std::int64_t length : lengths) {
      std::vector<std::int32_t> table(static_cast<std::size_t>(max_blocks_), -1);
      for (std::int64_t b = 0; b * shape.tokens < length; ++b) {
        table[static_cast<std::size_t>(b)] = free.back();
        free.pop_back();
      }
      for (std::int64_t s = 0; s < length; ++s) {
        for (std::int64_t g = 0; g < shape.n_kv; ++g) {
          for (std::int64_t d = 0; d < shape.dim; ++d) {
            const std::int64_t block = table[static_cast<std::size_t>(s / shape.tokens)];
            put(k_, k_index(block, g, s, d), random.normal());
            put(v_, v_index(block, g, s, d), random.normal());
          }
        }
      }
      tables_.insert(tables_.end(), table.begin(), table.end());
    }
  }

  void set_k(std::int64_t sequence, std::int64_t s, std::int64_t g, std::int64_t d, float f) {
    put(k_, k_index(block(sequence, s), g, s, d), f);
  }
  void set_v(std::int64_t sequence, std::int64_t s, std::int64_t g, std::int64_t d, float f) {
    put(v_, v_index(block(sequence, s), g, s, d), f);
  }
  float k(std::int64_t sequence, std::int64_t s, std::int64_t g, std::int64_t d) const {
    return get(k_, k_index(block(sequence, s), g, s, d));
  }
  float v(std::int64_t sequence, std::int64_t s, std::int64_t g, std::int64_t d) const {
    return get(v_, v_index(block(sequence, s), g, s, d));
  }
  /// NaN in place of keys and values of positions [first, end).
  void poison(std::int64_t sequence, std::int64_t first, std::int64_t end) {
    for (std::int64_t s = first; s < end; ++s) {
      for (std::int64_t g = 0; g < shape_.n_kv; ++g) {
        for (std::int64_t d = 0; d < shape_.dim; ++d) {
          set_k(sequence, s, g, d, std::numeric_limits<float>::quiet_NaN());
          set_v(sequence, s, g, d, std::numeric_limits<float>::quiet_NaN());
        }
      }
    }
  }
  /// A block id that nobody can look up, for the cache block of position s.
  void lose(std::int64_t sequence, std::int64_t s) {
    tables_[static_cast<std::size_t>(sequence * max_blocks_ + s / shape_.tokens)] =
        std::numeric_limits<std::int32_t>::max();
  }
  /// Forgets all before position `first` of a sequence, as a scheduler that frees blocks would: NaN
  /// in its place, and block ids that nobody can look up.
  void free_before(std::int64_t sequence, std::int64_t first) {
    poison(sequence, 0, first);
    for (std::int64_t b = 0; b < first / shape_.tokens; ++b) lose(sequence, b * shape_.tokens);
  }
  /// The same with the ids of freed blocks now those of sequence `other`.
  void reuse_before(std::int64_t sequence, std::int64_t first, std::int64_t other) {
    for (std::int64_t b = 0; b < first / shape_.tokens; ++b) {
      tables_[static_cast<std::size_t>(sequence * max_blocks_ + b)] =
          tables_[static_cast<std::size_t>(other * max_blocks_)];
    }
  }
  /// The same contents with the blocks elsewhere.
  Cache moved(std::uint64_t seed) const {
    Cache to = *this;
    std::vector<std::int32_t> place(static_cast<std::size_t>(n_blocks_));
    for (std::size_t i = 0; i < place.size(); ++i) place[i] = static_cast<std::int32_t>(i);
    shuffle(place, seed);
    const std::size_t block_bytes = k_.size() / place.size();
    for (std::size_t i = 0; i < place.size(); ++i) {
      const auto at = static_cast<std::size_t>(place[i]);
      std::memcpy(&to.k_[at * block_bytes], &k_[i * block_bytes], block_bytes);
      std::memcpy(&to.v_[at * block_bytes], &v_[i * block_bytes], block_bytes);
    }
    for (std::int32_t& b : to.tables_) b = b < 0 ? b : place[static_cast<std::size_t>(b)];
    return to;
  }

  const Shape& shape() const { return shape_; }
  void view(AttentionArgs& args) const {
    args.pages.k =
        TensorView(k_.data(), shape_.dtype, {n_blocks_, shape_.n_kv, shape_.dim, shape_.tokens});
    args.pages.v =
        TensorView(v_.data(), shape_.dtype, {n_blocks_, shape_.n_kv, shape_.tokens, shape_.dim});
    args.block_tables =
        TensorView(tables_.data(), DType::kI32,
                   {static_cast<std::int64_t>(tables_.size()) / max_blocks_, max_blocks_});
  }

 private:
  static void shuffle(std::vector<std::int32_t>& v, std::uint64_t seed) {
    Random random(seed);
    for (std::size_t i = v.size(); i > 1; --i) {
      std::swap(v[i - 1],
                v[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(i) - 1))]);
    }
  }
  std::int64_t block(std::int64_t sequence, std::int64_t s) const {
    return tables_[static_cast<std::size_t>(sequence * max_blocks_ + s / shape_.tokens)];
  }
  std::int64_t k_index(std::int64_t b, std::int64_t g, std::int64_t s, std::int64_t d) const {
    return ((b * shape_.n_kv + g) * shape_.dim + d) * shape_.tokens + s % shape_.tokens;
  }
  std::int64_t v_index(std::int64_t b, std::int64_t g, std::int64_t s, std::int64_t d) const {
    return ((b * shape_.n_kv + g) * shape_.tokens + s % shape_.tokens) * shape_.dim + d;
  }
  void put(std::vector<std::uint8_t>& to, std::int64_t index, float f) const {
    std::uint8_t* const at = to.data() + static_cast<std::size_t>(index) * bytes_;
    const std::uint16_t h = shape_.dtype == DType::kF16 ? f32_to_f16(f) : f32_to_bf16(f);
    if (shape_.dtype == DType::kF32) {
      std::memcpy(at, &f, sizeof f);
    } else {
      std::memcpy(at, &h, sizeof h);
    }
  }

  float get(const std::vector<std::uint8_t>& from, std::int64_t index) const {
    const std::uint8_t* const at = from.data() + static_cast<std::size_t>(index) * bytes_;
    float f = 0;
    std::uint16_t h = 0;
    std::memcpy(shape_.dtype == DType::kF32 ? static_cast<void*>(&f) : &h, at, bytes_);
    if (shape_.dtype == DType::kF32) return f;
    return shape_.dtype == DType::kF16 ? f16_to_f32(h) : bf16_to_f32(h);
  }

  Shape shape_;
  std::int64_t max_blocks_ = 0;
  std::int64_t n_blocks_ = 0;
  std::size_t bytes_ = 0;
  std::vector<std::uint8_t> k_;
  std::vector<std::uint8_t> v_;
  std::vector<std::int32_t> tables_;
};

// Query rows: which sequence, which position, what q. A row's q is a function of the two.
struct Rows {
  std::vector<std::int32_t> sequence;
  std::vector<std::int32_t> position;
  std::vector<float> q;
  std::vector<std::uint8_t> mask;  // empty: none

  std::int64_t n() const { return static_cast<std::int64_t>(sequence.size()); }
  void add(const Shape& shape, std::int32_t s, std::int32_t first, std::int32_t end) {
    for (std::int32_t p = first; p < end; ++p) {
      sequence.push_back(s);
      position.push_back(p);
      Random random(static_cast<std::uint64_t>(s) * 100003U + static_cast<std::uint64_t>(p));
      const std::vector<float> row = random.normals(shape.n_q * shape.dim);
      q.insert(q.end(), row.begin(), row.end());
    }
  }
};

inline Rows rows_of(const Shape& shape, std::int32_t s, std::int32_t first, std::int32_t end) {
  Rows rows;
  rows.add(shape, s, first, end);
  return rows;
}

// A call as a server makes it: decode rows, prefills and a first token, of sequences in any order.
inline const std::vector<std::int64_t> kMixedLengths = {300, 1, 64, 129, 40};
inline Rows mixed_rows(const Shape& shape) {
  Rows rows;
  rows.add(shape, 3, 128, 129);
  rows.add(shape, 1, 0, 1);
  rows.add(shape, 0, 200, 300);
  rows.add(shape, 2, 63, 64);
  rows.add(shape, 4, 10, 40);
  return rows;
}

// The key blocks of a call's rows.
struct BlockLists {
  std::int64_t block = 0;  // 0: no lists
  std::int64_t n_lists = 1;
  std::int64_t capacity = 0;
  std::vector<std::int32_t> ids = {};
  std::vector<std::int32_t> counts = {};

  KeyBlocks view(std::int64_t n_rows) const {
    KeyBlocks blocks;
    if (block == 0) return blocks;
    blocks.ids = TensorView(ids.data(), DType::kI32, {n_rows, n_lists, capacity});
    blocks.counts = TensorView(counts.data(), DType::kI32, {n_rows, n_lists});
    blocks.block = block;
    return blocks;
  }
  /// Whether row t with kv head g has the block of key s.
  bool has(std::int64_t t, std::int64_t g, std::int64_t s) const {
    if (block == 0) return true;
    const std::int64_t list = t * n_lists + (n_lists == 1 ? 0 : g);
    const std::int32_t count = counts[static_cast<std::size_t>(list)];
    if (count < 0) return true;
    const auto first = ids.begin() + list * capacity;
    return std::find(first, first + count, static_cast<std::int32_t>(s / block)) != first + count;
  }
};

/// in(position, list, b): whether the row's list has block b; its own block it always has.
/// dense(position, list): a count of -1 instead.
template <typename In, typename Dense>
BlockLists block_lists(
    const Rows& rows, std::int64_t block, std::int64_t n_lists, const In& in, const Dense& dense) {
  BlockLists lists;
  lists.block = block;
  lists.n_lists = n_lists;
  for (const std::int32_t p : rows.position) {
    lists.capacity = std::max(lists.capacity, p / block + 1);
  }
  for (const std::int32_t p : rows.position) {
    for (std::int64_t l = 0; l < n_lists; ++l) {
      std::vector<std::int32_t> list;
      for (std::int64_t b = 0; b <= p / block; ++b) {
        if (b == p / block || in(p, l, b)) list.push_back(static_cast<std::int32_t>(b));
      }
      lists.counts.push_back(dense(p, l) ? -1 : static_cast<std::int32_t>(list.size()));
      // beyond the count, and where all keys are seen, there may be anything
      if (lists.counts.back() < 0) list.clear();
      list.resize(static_cast<std::size_t>(lists.capacity), -7);
      lists.ids.insert(lists.ids.end(), list.begin(), list.end());
    }
  }
  return lists;
}
template <typename In>
BlockLists block_lists(const Rows& rows, std::int64_t block, std::int64_t n_lists, const In& in) {
  return block_lists(rows, block, n_lists, in, [](std::int64_t, std::int64_t) { return false; });
}

/// Half of the blocks, chosen by position, list and block alone.
inline bool coin(std::int64_t position, std::int64_t list, std::int64_t b) {
  return Random(static_cast<std::uint64_t>((position * 31 + list) * 1009 + b)).integer(0, 1) == 0;
}

// What a score goes through, and which keys have one.
struct Reach {
  std::int64_t window = 0;
  float soft_cap = 0.0F;
  std::int64_t first_keys = 0;
  std::vector<float> sinks = {};
  BlockLists blocks = {};
};

inline std::vector<float> attend(const std::string& variant,
                                 const Cache& cache,
                                 const Rows& rows,
                                 int n_threads = 2,
                                 std::optional<float> scale = std::nullopt,
                                 const Reach& reach = {}) {
  const Shape& shape = cache.shape();
  std::vector<float> out(rows.q.size(), -99.0F);
  AttentionArgs args;
  cache.view(args);
  args.q = TensorView(rows.q.data(), DType::kF32, {rows.n(), shape.n_q, shape.dim});
  args.sequence = TensorView(rows.sequence.data(), DType::kI32, {rows.n()});
  args.positions = TensorView(rows.position.data(), DType::kI32, {rows.n()});
  if (!rows.mask.empty()) {
    args.head_mask = TensorView(rows.mask.data(), DType::kU8, {rows.n(), shape.n_q});
  }
  args.out = TensorView(out.data(), DType::kF32, {rows.n(), shape.n_q, shape.dim});
  args.scale = scale.value_or(1.0F / std::sqrt(static_cast<float>(shape.dim)));
  args.window = reach.window;
  args.soft_cap = reach.soft_cap;
  args.first_keys = reach.first_keys;
  if (!reach.sinks.empty()) {
    args.sinks = TensorView(reach.sinks.data(), DType::kF32, {shape.n_q});
  }
  args.blocks = reach.blocks.view(rows.n());
  run_variant(cpu::attention_table(), variant, args, n_threads);
  return out;
}

// Error of a convex combination of values below 6: scores of magnitude ~ 6 carry dim/2 roundings of
// eps, which exp turns into relative errors; sums add at most keys/16 + 10 more.
inline double bound_for(const Shape& shape, std::int64_t n_keys) {
  return kEpsF32 * 6 *
         (4.0 * std::sqrt(static_cast<double>(shape.dim)) + static_cast<double>(n_keys) / 64 + 16);
}

// A capped score is off by up to cap * 2^-21 (soft_cap.h), and values below 6 by twice that share.
inline double cap_error(const Reach& reach) {
  return 12 * reach.soft_cap * 0x1p-21;
}

/// Fixture by variant name.
class AttentionOf : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { HEDDLE_SKIP_UNLESS_MACHINE_HAS(GetParam()); }
  void expect_ref(const Cache& cache,
                  const Rows& rows,
                  std::int64_t n_keys,
                  const Reach& reach = {}) const {
    const std::vector<float> expected = attend("ref", cache, rows, 2, std::nullopt, reach);
    for (const float f : expected) ASSERT_TRUE(std::isfinite(f));
    EXPECT_TRUE(within(attend(GetParam(), cache, rows, 2, std::nullopt, reach), expected,
                       bound_for(cache.shape(), n_keys) + cap_error(reach)))
        << "window " << reach.window << " cap " << reach.soft_cap;
  }
  /// A decode row and a prefill in one call, with each reach.
  void expect_bits_of_portable(const std::vector<Reach>& reaches) const {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const std::int64_t group : {1, 3, 7}) {
        const Shape shape = {group, 1, 80, 16, dtype};
        const Cache cache(shape, {300, 77});
        Rows rows = rows_of(shape, 0, 299, 300);
        rows.add(shape, 1, 0, 77);
        for (const Reach& reach : reaches) {
          EXPECT_TRUE(same_bits(attend(GetParam(), cache, rows, 2, std::nullopt, reach),
                                attend("portable", cache, rows, 2, std::nullopt, reach)))
              << name(dtype) << " " << group << " " << reach.window;
        }
      }
    }
  }
};

}  // namespace heddle::test
